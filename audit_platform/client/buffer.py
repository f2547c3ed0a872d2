"""Bounded memory buffer: numbers events, keeps them until they are elsewhere, counts every drop.

Here: room, counts, and when the sender has work. Not here: numbers and order within a shard
(`client/lane.py`), bytes of an event (`client/snapshot.py`), sending (`client/sender.py`), what
Redis or the disk has (`client/custody.py`).
Guarantees: `accepted = sent + dropped + buffered + spooled` whenever the lock is free. Each event
accepted before `close()` gets a number, so that gaps in the numbers equal the drops. `put` does
nothing under the lock but count and append.

Length: every method works on the same counts under the same lock; apart they would share all of it.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from threading import Condition, Lock
from time import monotonic
from typing import Final

from audit_platform.client.frozen import FrozenCall
from audit_platform.client.lane import Lane, Record, Run
from audit_platform.client.seq_set import SeqSet
from audit_platform.client.stats import DropReason
from audit_platform.events.policy import BatchPolicy, Durability

# Calls of a lane that wait to become events, at most. Beyond it the sender does not keep up, and
# the threads that log make their events themselves, which slows them down to its pace.
MAX_WAITING_CALLS: Final = 256
_NEVER: Final = 1 << 62
# While closing, time is short: probes go out more often than through an open circuit.
_CLOSING_PAUSE_S: Final = 0.5


class Wake(Enum):
    """Why the sender was woken."""

    SEND = auto()
    """Events wait."""
    TEND = auto()
    """Nothing waits; the time it asked for has come."""
    END = auto()
    """The buffer is closing and nothing waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferCounts:
    """A consistent look at the counters."""

    accepted: int
    sent: int
    buffered: int
    buffered_bytes: int
    spooled: int
    dropped: dict[DropReason, dict[Durability, int]]


class Buffer:
    """Shared by the threads that log and the one that sends.

    Each shard has two lanes: `best_effort` events have numbers of their own, so that giving some up
    tears no holes between the others. The last lane holds what the client writes about itself; no
    count includes these events.
    """

    def __init__(
        self, *, shards: int, max_events: int, max_bytes: int, new_epoch: Callable[[], int]
    ) -> None:
        """Make an empty buffer.

        Args:
            shards: Number of streams.
            max_events: Events held at most, those on their way included.
            max_bytes: Bytes of these events at most.
            new_epoch: Gives a random positive 63-bit number, once per lane.
        """
        self._lock = Lock()
        self._work = Condition(self._lock)
        self._settled = Condition(self._lock)
        self._shards = shards
        self._lanes = [
            Lane(
                number,
                new_epoch(),
                is_best_effort=shards <= number < 2 * shards,
                is_counted=number < 2 * shards,
            )
            for number in range(2 * shards + 1)
        ]
        self._max_events, self._max_bytes = max_events, max_bytes
        self._sent = self._events = self._bytes = self._spooled = 0
        # Events that no run has taken yet; the sender is woken when they reach `_wake_at`.
        self._queued, self._wake_at = 0, _NEVER
        self._dropped: Counter[tuple[DropReason, Durability]] = Counter()
        # `durable` events without room in memory, until the disk has them.
        self._unqueued: set[Record] = set()
        self._flushing = self._turn = 0
        self._is_closing = self._is_abandoned = self._is_woken = False
        self._deadline_s = float("inf")
        self.is_shedding = False
        """Whether `best_effort` events are given up at once: the platform is overloaded."""
        self._note_number: Callable[[int, int], None] = _forget

    def note_with(self, note_number: Callable[[int, int], None]) -> None:
        """Keep each number, from now on, where it survives a killed process.

        Args:
            note_number: Called with lane and number, under the lock.
        """
        self._note_number = note_number

    @property
    def epochs(self) -> list[int]:
        """Epoch of each lane; the last one is that of the control lane."""
        return [lane.epoch for lane in self._lanes]

    @property
    def numbers(self) -> list[int]:
        """Last number given in each lane."""
        return [lane.next_seq - 1 for lane in self._lanes]

    @property
    def control_lane(self) -> int:
        """Number of the lane for what the client writes about itself."""
        return len(self._lanes) - 1

    def is_best_effort(self, lane: int) -> bool:
        """Whether a lane holds `best_effort` events."""
        return self._lanes[lane].is_best_effort

    def put(self, shard: int, payload: bytes, durability: Durability) -> Record | None:
        """Take one event, or drop it; never waits for room.

        Returns:
            None when it was dropped. A `durable` event is never dropped: without room it gets its
            number alone, and the caller hands it to `is_on_disk` or `lose`.
        """
        number = shard + self._shards if durability is Durability.BEST_EFFORT else shard
        with self._lock:
            return self._put(number, payload, len(payload), durability)

    def put_call(self, shard: int, call: FrozenCall, durability: Durability) -> bool:
        """Take one call that an event will be made of, or drop it, as `put` does.

        Returns:
            False when too many wait already, so that the caller has to make the event.
        """
        number = shard + self._shards if durability is Durability.BEST_EFFORT else shard
        frozen = self._lanes[number].frozen
        with self._lock:
            if len(frozen) >= MAX_WAITING_CALLS:
                return False
            record = self._put(number, call, len(call[0]), durability)
            if record is not None:
                frozen.append(record)
            return True

    def _put(
        self, number: int, payload: bytes | FrozenCall, size: int, durability: Durability
    ) -> Record | None:
        if self._is_closing:
            self._dropped[DropReason.CLOSED, durability] += 1
            return None
        lane = self._lanes[number]
        seq = lane.next_seq
        lane.next_seq = seq + 1
        self._note_number(number, seq)
        record = Record(seq, payload, size, durability)
        if (
            self._events >= self._max_events
            or self._bytes + size > self._max_bytes
            or self.is_shedding
        ) and not self._has_room(lane, record):
            return record if durability is Durability.DURABLE else None
        lane.records.append(record)
        self._events += 1
        self._bytes += size
        self._queued += 1
        if self._queued >= self._wake_at:
            self._wake_at = _NEVER
            self._work.notify()
        return record

    def _has_room(self, lane: Lane, record: Record) -> bool:
        """Make room for an event, or give it up; a `durable` one waits for the disk instead."""
        size, durability = record.size_bytes, record.durability
        if durability is Durability.BEST_EFFORT and self.is_shedding:
            self._drop(lane, record.seq, DropReason.SHED, durability)
            return False
        if not self._is_full(size):
            return True
        self._make_room(size, durability)
        if not self._is_full(size):
            return True
        if durability is Durability.DURABLE:
            self._unqueued.add(record)
        else:
            self._drop(lane, record.seq, DropReason.BUFFER_FULL, durability)
        return False

    def _is_full(self, size: int) -> bool:
        return self._events >= self._max_events or self._bytes + size > self._max_bytes

    @property
    def is_half_full(self) -> bool:
        """Whether half of the room is taken; an unlocked look."""
        return 2 * self._events > self._max_events or 2 * self._bytes > self._max_bytes

    def put_control(self, payload: bytes) -> None:
        """Take an event that the client writes about itself; from the sending thread."""
        with self._lock:
            lane = self._lanes[-1]
            self._note_number(self.control_lane, lane.next_seq)
            record = Record(lane.next_seq, payload, len(payload), Durability.STANDARD)
            lane.records.append(record)
            lane.next_seq += 1

    def _drop(self, lane: Lane, seq: int, reason: DropReason, durability: Durability) -> None:
        self._dropped[reason, durability] += 1
        lane.lose(seq, reason)

    @property
    def waiting_calls(self) -> int:
        """Calls that are no events yet; an unlocked look."""
        return sum(len(lane.frozen) for lane in self._lanes)

    def take_frozen(self) -> list[tuple[Lane, Record]]:
        """Take the calls that are no events yet, for `settle`; nobody else gets them."""
        taken: list[tuple[Lane, Record]] = []
        with self._lock:
            for lane in self._lanes:
                while lane.frozen:
                    record = lane.frozen.popleft()
                    if record.payload is not None:
                        taken.append((lane, record))
        return taken

    def settle(self, made: Iterable[tuple[Lane, Record, bytes | None]]) -> None:
        """Put the bytes of events in the place of their calls; None drops one as invalid."""
        with self._lock:
            for lane, record, payload in made:
                if record.payload is None or self._is_abandoned:
                    continue  # given up meanwhile, and counted then
                if payload is None:
                    self._remove(lane, record, DropReason.INVALID)
                else:
                    self._bytes += len(payload) - record.size_bytes
                    record.payload, record.size_bytes = payload, len(payload)

    def _remove(self, lane: Lane, record: Record, reason: DropReason) -> bool:
        if not lane.give_up(record):
            return False
        self._bytes -= record.size_bytes
        self._events -= 1
        self._queued -= 1
        self._drop(lane, record.seq, reason, record.durability)
        self._settled.notify_all()
        return True

    def _make_room(self, size: int, durability: Durability) -> None:
        """Shed the oldest `best_effort` events for another, as many as it needs."""
        if durability is Durability.BEST_EFFORT:
            return
        lanes = [lane for lane in self._lanes if lane.is_best_effort]
        while self._is_full(size):
            lane = max(lanes, key=lambda lane: lane.waiting)
            if not lane.waiting:
                return
            record = lane.shed()
            if record is None:
                continue  # all that waited was given up already; the lane is empty now
            self._bytes -= record.size_bytes
            self._events -= 1
            self._queued -= 1
            self._drop(lane, record.seq, DropReason.SHED, record.durability)

    def is_on_disk(self, shard: int, record: Record) -> None:
        """Note that the disk has a `durable` event; without room in memory it waits there."""
        record.is_spooled = True
        if record not in self._unqueued:
            return
        with self._lock:
            self._unqueued.discard(record)
            lane = self._lanes[shard]
            lane.overflowed.append(record.seq)
            lane.disk_count += 1
            self._spooled += 1
            lane.disk_first = min(record.seq, lane.disk_first or record.seq)
            self._is_woken = True
            self._work.notify_all()

    def lose(self, shard: int, record: Record) -> bool:
        """Give up a `durable` event that the disk refused; False when it is on its way."""
        with self._lock:
            lane = self._lanes[shard]
            if record not in self._unqueued:
                return not self._is_abandoned and self._remove(lane, record, DropReason.SPOOL)
            self._unqueued.discard(record)
            self._drop(lane, record.seq, DropReason.SPOOL, record.durability)
            return True

    def wake(self) -> None:
        """Let `wait_for_work` return: the sender has something else to do."""
        with self._lock:
            self._is_woken = True
            self._work.notify_all()

    def wait_for_work(self, policy: BatchPolicy, due_s: float = float("inf")) -> Wake:
        """Wait until events should be sent.

        Lingers once even when nothing waits, so that under steady traffic no `put` has to wake
        the sender; only after an idle interval the next `put` does.

        Args:
            policy: When to flush.
            due_s: Moment of the monotonic clock at which the sender has something else to do.
        """
        with self._lock:
            self._wait(policy.size, min(due_s, monotonic() + policy.interval_s))
            if not self._queued and monotonic() < due_s:
                self._wait(1, due_s)
                if self._queued:
                    self._wait(policy.size, min(due_s, monotonic() + policy.interval_s))
            self._is_woken = False
            if self._queued:
                return Wake.SEND
            return Wake.END if self._is_closing else Wake.TEND

    def _wait(self, wake_at: int, until_s: float) -> None:
        """Wait for `wake_at` events, a flush or the end; the lock is held."""
        while not (
            self._is_closing
            or self._is_woken
            or self._queued >= wake_at
            or (self._flushing and self._queued)
        ):
            self._wake_at = wake_at
            remaining_s = until_s - monotonic()
            if remaining_s <= 0:
                break
            self._work.wait(None if until_s == float("inf") else remaining_s)
        self._wake_at = _NEVER

    def pause(self, delay_s: float) -> None:
        """Wait between two attempts; ends early when closing starts."""
        with self._lock:
            if not self._is_closing:
                self._work.wait_for(lambda: self._is_closing, delay_s)
                return
            remaining_s = self._deadline_s - monotonic()
            if remaining_s > 0:
                longest_s = min(delay_s, remaining_s, _CLOSING_PAUSE_S)
                self._work.wait_for(lambda: self._is_abandoned, longest_s)

    def take(self) -> Run | None:
        """Take the oldest consecutive events of one lane; lanes take turns.

        They count as buffered until `confirm`. One run per call keeps the lock free in between.

        Returns:
            At most 1,000 events and 1 MiB, or None when nothing waits.
        """
        with self._lock:
            for _ in self._lanes:
                number = self._turn = (self._turn + 1) % len(self._lanes)
                run = self._lanes[number].take_run()
                if run is not None:
                    self._note_taken(run)
                    return run
            return None

    def take_for_disk(self) -> list[Run]:
        """Take all waiting events that the disk may keep: all but `best_effort`, by lane."""
        with self._lock:
            runs = [run for lane in self._lanes if (run := lane.take_for_disk()) is not None]
            for run in runs:
                self._note_taken(run)
            return runs

    def _note_taken(self, run: Run) -> None:
        if self._lanes[run.lane].is_counted:
            self._queued -= len(run.records)

    def put_back(self, run: Run) -> None:
        """Let events wait again that could not be sent or written; ahead of the others."""
        with self._lock:
            if not self._is_abandoned:
                self._lanes[run.lane].put_back(run)
                if self._lanes[run.lane].is_counted:
                    self._queued += len(run.records)

    def confirm(self, run: Run) -> None:
        """Count a run as sent; without effect after `abandon`, which has counted it."""
        self._let_go(run, is_on_disk=False)

    def moved_to_disk(self, run: Run) -> None:
        """Count a run as waiting on disk."""
        self._let_go(run, is_on_disk=True)

    def _let_go(self, run: Run, *, is_on_disk: bool) -> None:
        with self._lock:
            if self._is_abandoned:
                return
            lane, events = self._lanes[run.lane], len(run.records)
            lane.let_go(run)
            if is_on_disk:
                lane.disk_count += events
                lane.disk_first = min(run.first_seq, lane.disk_first or run.first_seq)
            if not lane.is_counted:
                return
            self._events -= events
            self._bytes -= run.size_bytes
            if is_on_disk:
                self._spooled += events
            else:
                self._sent += events
            self._settled.notify_all()

    def note_disk(self, lane_no: int, first: int | None, count: int) -> None:
        """Note what of a lane still waits on disk; what went from there was sent."""
        with self._lock:
            lane = self._lanes[lane_no]
            # What came meanwhile is not in the count of the caller.
            count += len(lane.overflowed)
            if lane.overflowed:
                first = min(lane.overflowed[0], first or lane.overflowed[0])
            if lane.is_counted:
                self._sent += lane.disk_count - count
                self._spooled += count - lane.disk_count
            lane.disk_first, lane.disk_count = first, count
            self._settled.notify_all()

    def take_overflowed(self, lane_no: int) -> list[int]:
        """Take the numbers of `durable` events that went to the disk for lack of memory."""
        with self._lock:
            lane = self._lanes[lane_no]
            taken = list(lane.overflowed)
            lane.overflowed.clear()
            return taken

    def take_lost(self) -> list[tuple[int, DropReason, SeqSet]]:
        """Take the numbers that were given up and not declared yet: epoch, reason, numbers."""
        with self._lock:
            taken = [
                (lane.epoch, reason, numbers)
                for lane in self._lanes
                for reason, numbers in lane.lost.items()
            ]
            for lane in self._lanes:
                lane.lost = {}
            return taken

    def flush(self, timeout_s: float) -> bool:
        """Send without lingering; wait until all events accepted so far are sent or dropped.

        Returns:
            False when the time ran out.
        """
        with self._lock:
            targets = [lane.next_seq for lane in self._lanes[:-1]]
            self._flushing += 1
            self._work.notify_all()
            try:
                return self._settled.wait_for(
                    lambda: all(map(_is_settled, self._lanes, targets)), timeout_s
                )
            finally:
                self._flushing -= 1

    def begin_close(self, timeout_s: float) -> None:
        """Take no more events; wake the sender to send the rest while the time lasts."""
        with self._lock:
            self._is_closing = True
            self._deadline_s = monotonic() + timeout_s
            self._work.notify_all()

    def reclaim(self) -> None:
        """Let everything wait again that a sender holds which does not come back."""
        with self._lock:
            for lane in self._lanes:
                events = lane.reclaim()
                if lane.is_counted:
                    self._queued += events

    def abandon(self) -> int:
        """Give up what is left in memory and count it; returns the number of events."""
        with self._lock:
            self._is_closing = self._is_abandoned = True
            self._deadline_s = float("-inf")
            left = self._events
            for lane in self._lanes:
                for record in lane.clear():
                    if lane.is_counted:
                        self._drop(lane, record.seq, DropReason.CLOSE_TIMEOUT, record.durability)
            self._events = self._queued = self._bytes = 0
            self._work.notify_all()
            self._settled.notify_all()
            return left

    @property
    def has_lost(self) -> bool:
        """Whether numbers were given up and not declared; an unlocked look."""
        return any(lane.lost for lane in self._lanes)

    @property
    def control_waiting(self) -> int:
        """Events about the client itself that wait in memory; an unlocked look."""
        return self._lanes[-1].waiting

    @property
    def is_closing(self) -> bool:
        """Whether `begin_close` or `abandon` was called."""
        return self._is_closing

    @property
    def is_out_of_time(self) -> bool:
        """Whether closing has taken too long and the sender has to end."""
        return self._is_closing and monotonic() >= self._deadline_s

    def counts(self) -> BufferCounts:
        """Look at all counters at one moment."""
        with self._lock:
            dropped: dict[DropReason, dict[Durability, int]] = {}
            for (reason, durability), count in self._dropped.items():
                dropped.setdefault(reason, {})[durability] = count
            closed = sum(dropped.get(DropReason.CLOSED, {}).values())
            return BufferCounts(
                accepted=closed + sum(lane.next_seq - 1 for lane in self._lanes if lane.is_counted),
                sent=self._sent,
                buffered=self._events,
                buffered_bytes=self._bytes,
                spooled=self._spooled,
                dropped=dropped,
            )


def _is_settled(lane: Lane, target_seq: int) -> bool:
    return lane.oldest_seq() >= target_seq


def _forget(lane: int, seq: int) -> None:
    """Keep no number: the spool is not open."""
    del lane, seq
