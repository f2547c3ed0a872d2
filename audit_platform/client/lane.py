"""One shard's part of the buffer: order, numbers, and runs of consecutive events.

Here: the structure; its owner holds the lock around every call. Not here: limits and counts
(`client/buffer.py`), what Redis has and the database does not yet (`client/custody.py`).
Guarantees: the events of a run to be sent have consecutive numbers and fit one stream entry. Each
lane has its own epoch, so that numbers stay consecutive within a stream.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from audit_platform.client.frozen import FrozenCall
from audit_platform.client.seq_set import SeqSet
from audit_platform.client.stats import DropReason
from audit_platform.events.policy import Durability
from audit_platform.events.stream import MAX_ENTRY_BYTES, MAX_EVENTS_PER_ENTRY


class Record:
    """One event and its number; giving it up takes its payload and leaves the number."""

    __slots__ = ("durability", "is_spooled", "payload", "seq", "size_bytes")

    def __init__(
        self, seq: int, payload: bytes | FrozenCall, size_bytes: int, durability: Durability
    ) -> None:
        self.seq = seq
        self.payload: bytes | FrozenCall | None = payload
        self.size_bytes = size_bytes
        self.durability = durability
        self.is_spooled = False
        """Whether the producer's disk has it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """Events of one lane, taken out together: to be sent as one entry, or to be written to disk."""

    lane: int
    epoch: int
    first_seq: int
    last_seq: int
    records: Sequence[Record]
    payloads: Sequence[bytes]
    """Their bytes, in order."""
    size_bytes: int


class Lane:
    """Events of one shard: waiting, then taken, then gone from memory."""

    __slots__ = (
        *("_number", "_taken", "disk_count", "disk_first", "epoch", "frozen", "is_best_effort"),
        *("is_counted", "lost", "next_seq", "overflowed", "records"),
    )

    def __init__(
        self, number: int, epoch: int, *, is_best_effort: bool = False, is_counted: bool = True
    ) -> None:
        """Make an empty lane.

        Args:
            number: Position in the buffer.
            epoch: Random positive 63-bit number.
            is_best_effort: Whether its events may be shed, and never go to disk.
            is_counted: False for events that the client writes about itself.
        """
        self._number, self.epoch, self.next_seq = number, epoch, 1
        self.is_best_effort, self.is_counted = is_best_effort, is_counted
        # Events that nobody has taken, oldest first. `Buffer` appends to it and to `frozen`
        # itself: a method for it would be a tenth of what a call costs.
        self.records: deque[Record] = deque()
        self._taken: list[Run] = []
        # Waiting calls that nobody has begun to make an event of, oldest first.
        self.frozen: deque[Record] = deque()
        # Numbers given up and not declared yet.
        self.lost: dict[DropReason, SeqSet] = {}
        # Events on disk alone that Redis has not had yet: lowest number, how many, news of them.
        self.disk_first: int | None = None
        self.disk_count = 0
        self.overflowed: deque[int] = deque()

    @property
    def waiting(self) -> int:
        """Events that nobody has taken, those given up included."""
        return len(self.records)

    def shed(self) -> Record | None:
        """Give up the oldest waiting event; None when nothing waits."""
        self._skip_given_up()
        if not self.records:
            return None
        record = self.records.popleft()
        record.payload = None
        return record

    def give_up(self, record: Record) -> bool:
        """Take out a waiting event; False when it is on its way already."""
        if any(record in run.records for run in self._taken):
            return False
        record.payload = None
        return True

    def lose(self, seq: int, reason: DropReason) -> None:
        """Note a number whose event will never come."""
        self.lost.setdefault(reason, SeqSet()).add(seq, seq)

    def take_run(self) -> Run | None:
        """Take the oldest consecutive events to be sent; None when nothing waits."""
        self._skip_given_up()
        records = self.records
        if not records or type(records[0].payload) is tuple:
            return None
        first_seq, taken, payloads = records[0].seq, list[Record](), list[bytes]()
        room = MAX_ENTRY_BYTES
        while records and len(taken) < MAX_EVENTS_PER_ENTRY:
            record = records[0]
            payload = record.payload
            if type(payload) is not bytes or record.seq != first_seq + len(taken):
                break
            # One more byte for the line feed.
            room -= len(payload) + 1
            if room < 0:
                break
            records.popleft()
            taken.append(record)
            payloads.append(payload)
        return self._take(taken, payloads)

    def take_for_disk(self) -> Run | None:
        """Take every waiting event that the disk may keep; None when there is none."""
        if self.is_best_effort:
            return None
        taken, payloads, calls = list[Record](), list[bytes](), deque[Record]()
        for record in self.records:
            if type(record.payload) is bytes:
                taken.append(record)
                payloads.append(record.payload)
            elif record.payload is not None:
                calls.append(record)
        self.records = calls
        return self._take(taken, payloads) if taken else None

    def _take(self, records: list[Record], payloads: list[bytes]) -> Run:
        run = Run(
            lane=self._number,
            epoch=self.epoch,
            first_seq=records[0].seq,
            last_seq=records[-1].seq,
            records=records,
            payloads=payloads,
            size_bytes=sum(map(len, payloads)),
        )
        self._taken.append(run)
        return run

    def reclaim(self) -> int:
        """Let all taken events wait again; returns how many."""
        taken = sorted(self._taken, key=lambda run: run.first_seq, reverse=True)
        for run in taken:
            self.put_back(run)
        return sum(len(run.records) for run in taken)

    def put_back(self, run: Run) -> None:
        """Let the events of a run wait again, before the others."""
        if run not in self._taken:
            return
        self._taken.remove(run)
        self.records.extendleft(reversed(run.records))

    def let_go(self, run: Run) -> None:
        """Forget a run that is elsewhere now: in Redis or on disk."""
        if run in self._taken:
            self._taken.remove(run)

    def oldest_seq(self) -> int:
        """Number of the oldest event that is neither sent nor dropped."""
        self._skip_given_up()
        oldest = [run.first_seq for run in self._taken]
        if self.records:
            oldest.append(self.records[0].seq)
        if self.disk_first is not None:
            oldest.append(self.disk_first)
        return min(oldest, default=self.next_seq)

    def clear(self) -> list[Record]:
        """Give up everything, taken or waiting; returns these events."""
        given_up = [record for run in self._taken for record in run.records]
        given_up += [record for record in self.records if record.payload is not None]
        self._taken.clear()
        self.records.clear()
        self.frozen.clear()
        return given_up

    def _skip_given_up(self) -> None:
        while self.records and self.records[0].payload is None:
            self.records.popleft()
