"""Bounded memory buffer: numbers events, keeps them until Redis confirmed, counts every drop.

Here: room, counts, and when the sender has work. Not here: numbers and order within a shard
(`client/lane.py`), bytes of an event (`client/snapshot.py`), sending (`client/sender.py`).
Guarantees: `accepted = sent + dropped + buffered` whenever the lock is free. Each accepted event
gets a number, so that gaps in the numbers equal the drops. `put` does nothing under the lock but
count and append.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Condition, Lock
from time import monotonic
from typing import Final

from audit_platform.client.frozen import Frozen
from audit_platform.client.lane import Lane, Record, Run
from audit_platform.client.stats import DropReason
from audit_platform.events.policy import BatchPolicy, Durability

_NEVER: Final = 1 << 62
# While closing, time is short: probes go out more often than through an open circuit.
_CLOSING_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferCounts:
    """A consistent look at the counters."""

    accepted: int
    sent: int
    buffered: int
    buffered_bytes: int
    dropped: dict[DropReason, dict[Durability, int]]


class Buffer:
    """Shared by the threads that log and the one that sends."""

    def __init__(
        self, *, shards: int, max_events: int, max_bytes: int, new_epoch: Callable[[], int]
    ) -> None:
        """Make an empty buffer.

        Args:
            shards: Number of streams.
            max_events: Events held at most, those on their way included.
            max_bytes: Bytes of these events at most.
            new_epoch: Gives a random positive 63-bit number, once per shard.
        """
        self._lock = Lock()
        self._work = Condition(self._lock)
        self._settled = Condition(self._lock)
        self._lanes = [Lane(shard, new_epoch()) for shard in range(shards)]
        self._max_events, self._max_bytes = max_events, max_bytes
        self._accepted = self._sent = self._events = self._bytes = 0
        # Events that no run has taken yet; the sender is woken when they reach `_wake_at`.
        self._queued, self._wake_at = 0, _NEVER
        self._dropped: Counter[tuple[DropReason, Durability]] = Counter()
        self._flushing = self._turn = 0
        self._is_closing = self._is_abandoned = False
        self._deadline_s = float("inf")

    def put(self, shard: int, payload: bytes | Frozen, durability: Durability) -> None:
        """Take one event, or the call it will be made of, or drop it; never waits for room."""
        size = len(payload)
        with self._lock:
            lane = self._lanes[shard]
            seq = lane.next_seq
            lane.next_seq = seq + 1
            self._accepted += 1
            if self._is_closing:
                self._dropped[DropReason.CLOSED, durability] += 1
                return
            if self._events >= self._max_events or self._bytes + size > self._max_bytes:
                self._make_room(size, durability)
                if self._events >= self._max_events or self._bytes + size > self._max_bytes:
                    self._dropped[DropReason.BUFFER_FULL, durability] += 1
                    return
            lane.append(seq, payload, durability)
            self._events += 1
            self._bytes += size
            self._queued += 1
            if self._queued >= self._wake_at:
                self._wake_at = _NEVER
                self._work.notify()

    def frozen_count(self, shard: int) -> int:
        """Calls of one shard that are no events yet; an unlocked look."""
        return len(self._lanes[shard].frozen)

    def take_frozen(self, limit: int) -> list[tuple[Lane, Record]]:
        """Take the oldest calls that are no events yet, for `settle`; nobody else gets them."""
        taken: list[tuple[Lane, Record]] = []
        with self._lock:
            for lane in self._lanes:
                while lane.frozen and len(taken) < limit:
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
                    self._bytes -= record.size_bytes
                    self._events -= 1
                    self._queued -= 1
                    self._dropped[DropReason.INVALID, record.durability] += 1
                    lane.give_up(record)
                    self._settled.notify_all()
                else:
                    self._bytes += len(payload) - record.size_bytes
                    record.payload, record.size_bytes = payload, len(payload)

    def _make_room(self, size: int, durability: Durability) -> None:
        """Shed the oldest `best_effort` events for a `standard` one, as many as it needs."""
        if durability is Durability.BEST_EFFORT:
            return
        while self._events >= self._max_events or self._bytes + size > self._max_bytes:
            lane = max(self._lanes, key=lambda lane: len(lane.sheddable))
            if not lane.sheddable:
                return
            self._bytes -= lane.shed()
            self._events -= 1
            self._queued -= 1
            self._dropped[DropReason.SHED, Durability.BEST_EFFORT] += 1

    def wait_for_work(self, policy: BatchPolicy) -> bool:
        """Wait until events should be sent.

        Lingers once even when nothing waits, so that under steady traffic no `put` has to wake
        the sender; only after an idle interval the next `put` does.

        Returns:
            False when the buffer is closing and nothing is queued: the sender ends.
        """
        with self._lock:
            self._wake(policy.size, policy.interval_s)
            if not self._queued:
                self._wake(1, None)
                self._wake(policy.size, policy.interval_s)
            return self._queued > 0

    def _wake(self, wake_at: int, timeout_s: float | None) -> None:
        """Wait for `wake_at` events, a flush or the end; the lock is held."""
        deadline_s = None if timeout_s is None else monotonic() + timeout_s
        while not (
            self._is_closing or self._queued >= wake_at or (self._flushing and self._queued)
        ):
            self._wake_at = wake_at
            remaining_s = None if deadline_s is None else deadline_s - monotonic()
            if remaining_s is not None and remaining_s <= 0:
                break
            self._work.wait(remaining_s)
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
        """Take the oldest consecutive events of one shard; shards take turns.

        They count as buffered until `confirm`. One run per call keeps the lock free in between.

        Returns:
            At most 1,000 events and 1 MiB, or None when nothing waits.
        """
        with self._lock:
            for _ in self._lanes:
                shard = self._turn = (self._turn + 1) % len(self._lanes)
                run = self._lanes[shard].take_run()
                if run is not None:
                    self._queued -= len(run.payloads)
                    return run
            return None

    def confirm(self, run: Run) -> None:
        """Count a run as sent; without effect after `abandon`, which has counted it."""
        with self._lock:
            if self._is_abandoned:
                return
            self._lanes[run.shard].confirm(run)
            self._events -= len(run.payloads)
            self._bytes -= run.size_bytes
            self._sent += len(run.payloads)
            self._settled.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Send without lingering; wait until all events accepted so far are sent or dropped.

        Returns:
            False when the time ran out.
        """
        with self._lock:
            targets = [lane.next_seq for lane in self._lanes]
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

    def abandon(self) -> int:
        """Give up what is left and count it; the sender ends. Returns the number of events."""
        with self._lock:
            self._is_closing = self._is_abandoned = True
            self._deadline_s = float("-inf")
            left = self._events
            for lane in self._lanes:
                for durability in lane.clear():
                    self._dropped[DropReason.CLOSE_TIMEOUT, durability] += 1
            self._events = self._queued = self._bytes = 0
            self._work.notify_all()
            self._settled.notify_all()
            return left

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
            return BufferCounts(
                accepted=self._accepted,
                sent=self._sent,
                buffered=self._events,
                buffered_bytes=self._bytes,
                dropped=dropped,
            )


def _is_settled(lane: Lane, target_seq: int) -> bool:
    return lane.oldest_seq() >= target_seq
