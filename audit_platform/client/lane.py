"""One shard's part of the buffer: order, numbers, and runs of consecutive events.

Here: the structure; its owner holds the lock around every call. Not here: limits and counts
(`client/buffer.py`).
Guarantees: the events of a run have consecutive numbers and fit one stream entry. Each lane has
its own epoch, so that numbers stay consecutive within a stream.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from audit_platform.client.frozen import Frozen
from audit_platform.events.policy import Durability
from audit_platform.events.stream import MAX_ENTRY_BYTES, MAX_EVENTS_PER_ENTRY


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """Consecutive events of one shard, taken to be sent as one entry."""

    shard: int
    epoch: int
    first_seq: int
    payloads: Sequence[bytes]
    durabilities: Sequence[Durability]
    size_bytes: int


class Record:
    """One waiting event; giving it up takes its payload and leaves the number."""

    __slots__ = ("durability", "payload", "seq", "size_bytes")

    def __init__(self, seq: int, payload: bytes | Frozen, durability: Durability) -> None:
        self.seq, self.durability, self.size_bytes = seq, durability, len(payload)
        self.payload: bytes | Frozen | None = payload


class Lane:
    """Events of one shard: waiting, then in flight, then gone."""

    __slots__ = ("_epoch", "_in_flight", "_records", "_shard", "frozen", "next_seq", "sheddable")

    def __init__(self, shard: int, epoch: int) -> None:
        """Make an empty lane.

        Args:
            shard: Number of the stream.
            epoch: Random positive 63-bit number.
        """
        self._shard, self._epoch, self.next_seq = shard, epoch, 1
        self._records: deque[Record] = deque()
        self._in_flight: deque[Run] = deque()
        # Waiting `best_effort` events, oldest first; taking and shedding both begin at the left.
        self.sheddable: deque[Record] = deque()
        # Waiting calls that nobody has begun to make an event of, oldest first.
        self.frozen: deque[Record] = deque()

    def append(self, seq: int, payload: bytes | Frozen, durability: Durability) -> None:
        """Add an event behind the others."""
        record = Record(seq, payload, durability)
        self._records.append(record)
        if type(payload) is Frozen:
            self.frozen.append(record)
        if durability is Durability.BEST_EFFORT:
            self.sheddable.append(record)

    def shed(self) -> int:
        """Give up the oldest waiting `best_effort` event; returns its size in bytes."""
        record = self.sheddable.popleft()
        record.payload = None
        return record.size_bytes

    def give_up(self, record: Record) -> None:
        """Take out an event that turned out to be none."""
        record.payload = None
        if record.durability is Durability.BEST_EFFORT:
            self.sheddable.remove(record)

    def take_run(self) -> Run | None:
        """Move the oldest consecutive events into flight; None when nothing waits."""
        self._skip_shed()
        records = self._records
        if not records or type(records[0].payload) is Frozen:
            return None
        first_seq, payloads, durabilities = records[0].seq, list[bytes](), list[Durability]()
        room = MAX_ENTRY_BYTES
        while records and len(payloads) < MAX_EVENTS_PER_ENTRY:
            record = records[0]
            payload = record.payload
            if type(payload) is not bytes or record.seq != first_seq + len(payloads):
                break
            # One more byte for the line feed.
            room -= len(payload) + 1
            if room < 0:
                break
            records.popleft()
            if record.durability is Durability.BEST_EFFORT:
                self.sheddable.popleft()
            payloads.append(payload)
            durabilities.append(record.durability)
        run = Run(
            shard=self._shard,
            epoch=self._epoch,
            first_seq=first_seq,
            payloads=payloads,
            durabilities=durabilities,
            size_bytes=sum(map(len, payloads)),
        )
        self._in_flight.append(run)
        return run

    def confirm(self, run: Run) -> None:
        """Forget a run that Redis has."""
        self._in_flight.remove(run)

    def oldest_seq(self) -> int:
        """Number of the oldest event that is neither sent nor dropped."""
        self._skip_shed()
        if self._in_flight:
            return self._in_flight[0].first_seq
        return self._records[0].seq if self._records else self.next_seq

    def clear(self) -> list[Durability]:
        """Give up everything, in flight or waiting; returns the class of each event."""
        given_up = [durability for run in self._in_flight for durability in run.durabilities]
        given_up += [record.durability for record in self._records if record.payload is not None]
        self._in_flight.clear()
        self._records.clear()
        self.sheddable.clear()
        self.frozen.clear()
        return given_up

    def _skip_shed(self) -> None:
        while self._records and self._records[0].payload is None:
            self._records.popleft()
