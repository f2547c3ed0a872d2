"""What one epoch handed to Redis or to the disk, until the database accounts for it.

Here: the resend window, the numbers that wait on disk, what is due to be sent again. Not here:
events that nobody has taken yet (`client/buffer.py`), files (`client/spool.py`), asking what is
stored and acting on it (`client/custodian.py`).
Guarantee: a number leaves only by `apply`, or by `release_oldest` when neither memory nor disk has
room; a resend carries the same bytes. Used by the sending thread alone.

Source: delivery design, invariant I1 and section 5, "Return path".
"""

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from audit_platform.client.coverage import Coverage
from audit_platform.client.lane import Run
from audit_platform.client.parcel import Parcel, consecutive, parcel_of
from audit_platform.client.seq_set import SeqSet
from audit_platform.client.spool import Spool, SpoolRecord
from audit_platform.events.policy import shard_of
from audit_platform.events.stream import MAX_ENTRY_BYTES, MAX_EVENTS_PER_ENTRY, Stamp

# The line feeds between events count too.
_ENTRY_ROOM: Final = MAX_ENTRY_BYTES - MAX_EVENTS_PER_ENTRY
# Each write costs an fdatasync. Under overload entries are small and many: one write for each took
# all the time of the sender, and memory ran over (64 MB of Redis, 2 cores, 2026-11-22). A write of
# 4 MiB took 0.2 s beside a flood of calls, in which the buffer ran full; one of 1 MiB does not.
_TRIM_BYTES: Final = 1 << 20


class Custody:
    """Unconfirmed events of one epoch of one producer."""

    def __init__(
        self,
        *,
        producer_id: int,
        epoch: int,
        shards: int,
        spool: Spool | None,
        may_spool: bool = True,
    ) -> None:
        """Begin with nothing.

        Args:
            producer_id: Stamped into every entry.
            epoch: Stamped into every entry.
            shards: Number of streams, to find that of an event read from disk.
            spool: None while no disk can be used.
            may_spool: False for `best_effort` events, which are kept in memory alone.
        """
        self.may_spool = may_spool
        self.producer_id, self.epoch, self._shards, self.spool = producer_id, epoch, shards, spool
        self.shard: int | None = None
        """Stream that had an event of it last: the place to ask for its confirmation."""
        self._is_fixed = False
        self.window: deque[Parcel] = deque()
        self.window_bytes = 0
        self.on_disk: deque[Parcel] = deque()
        self.unsent = SeqSet()
        """Numbers on disk that Redis has not had."""
        self._confirmed = SeqSet()
        self.has_coverage = False

    @property
    def is_waiting(self) -> bool:
        """Whether anything is not confirmed."""
        return bool(self.window or self.on_disk or self.unsent)

    def stamp(self, parcel: Parcel) -> Stamp:
        """Give the stamp of an entry."""
        return Stamp(producer_id=self.producer_id, epoch=self.epoch, first_seq=parcel.first_seq)

    def from_run(self, run: Run) -> Parcel:
        """Make a parcel of events that were taken from memory."""
        spooled = [record.seq for record in run.records if record.is_spooled]
        return Parcel(run.first_seq, run.payloads, spooled=spooled)

    def from_disk(self, limit: int = 1) -> list[Parcel]:
        """Read the oldest events that wait on disk, as runs of consecutive numbers."""
        while self.spool is not None and self.unsent:
            first, last = self.unsent.first or 0, self.unsent.last or 0
            found = self.spool.read(
                self.epoch, first, last, max_records=MAX_EVENTS_PER_ENTRY, max_bytes=_ENTRY_ROOM
            )
            wanted = [record for record in found if self.unsent.covers(record.seq, record.seq)]
            self._pass_over(first, found[-1].seq if found else last, wanted)
            if wanted:
                return [parcel_of(run) for run in consecutive(wanted)[:limit]]
        return []

    def _pass_over(self, first: int, last: int, wanted: Sequence[SpoolRecord]) -> None:
        """Give up the numbers from first to last that the disk has lost: they become gaps."""
        there = SeqSet()
        for record in wanted:
            there.add(record.seq, record.seq)
        for lost in SeqSet([(first, last)]).within(self.unsent).minus(there):
            self.unsent.remove(*lost)

    def _read(self, first: int, last: int) -> list[SpoolRecord]:
        """Read the first consecutive events of a range that fit one entry."""
        assert self.spool is not None  # noqa: S101 - callers checked
        found = self.spool.read(
            self.epoch, first, last, max_records=MAX_EVENTS_PER_ENTRY, max_bytes=_ENTRY_ROOM
        )
        return consecutive(found)[0] if found else []

    def fix_shard(self, shard: int) -> None:
        """Say that all events of the epoch go through one stream."""
        self.shard, self._is_fixed = shard, True

    def shard_of(self, parcel: Parcel) -> int:
        """Stream of a parcel: that of the epoch, or by the tenant of its first event."""
        if not self._is_fixed or self.shard is None:
            self.shard = self._shard_by_tenant(parcel)
        return self.shard

    def _shard_by_tenant(self, parcel: Parcel) -> int:
        if self._shards == 1 or not parcel.lines:
            return 0
        try:
            event = cast("dict[str, Any]", json.loads(parcel.lines.partition(b"\n")[0]))
            return shard_of(str(event["tenant_id"]), self._shards)
        except (ValueError, KeyError, TypeError):
            return 0  # the ingest job will say what is wrong with it

    def note_sent(self, parcel: Parcel, *, now_s: float) -> None:
        """Take a parcel into custody that Redis has had now, for the first time or again."""
        parcel.sent_s = now_s
        parcel.attempts += 1
        if parcel.is_from_disk:
            parcel.lines = None
        if parcel.attempts > 1:
            return
        if parcel.is_from_disk:
            self.unsent.remove(parcel.first_seq, parcel.last_seq)
            self.on_disk.append(parcel)
        else:
            self.window.append(parcel)
            self.window_bytes += parcel.size_bytes

    def loaded(self, parcel: Parcel) -> bool:
        """Make sure that a parcel has its lines; False when the disk lost them."""
        if parcel.lines is None and self.spool is not None:
            found = self._read(parcel.first_seq, parcel.last_seq)
            is_whole = bool(found) and (found[0].seq, found[-1].seq) == (
                parcel.first_seq,
                parcel.last_seq,
            )
            if is_whole:
                parcel.lines = b"\n".join(record.payload for record in found)
            else:
                self.on_disk.remove(parcel)
                if found:
                    # Shorter than it was, for example after a cut: what is there waits again.
                    self.unsent.add(parcel.first_seq, parcel.last_seq)
        return parcel.lines is not None

    def due(self, *, now_s: float, after_s: float, limit: int) -> list[Parcel]:
        """Give the parcels that should be sent again, oldest first."""
        found: list[Parcel] = []
        for parcels in (self.window, self.on_disk):
            for parcel in parcels:
                if len(found) == limit:
                    return found
                if parcel.due_s(after_s) <= now_s:
                    found.append(parcel)
        return found

    def is_oldest_due(self, *, now_s: float, after_s: float) -> bool:
        """Whether the oldest parcel should be sent again."""
        oldest = next(iter(self.window or self.on_disk), None)
        return oldest is not None and oldest.due_s(after_s) <= now_s

    def apply(self, coverage: Coverage) -> bool:
        """Let go of what the database accounts for, and take back what it no longer does.

        Returns:
            Whether anything changed.
        """
        before = (len(self.window), len(self.on_disk), self.unsent.count)
        self.window = deque(p for p in self.window if not coverage.covers(p.first_seq, p.last_seq))
        self.window_bytes = sum(parcel.size_bytes for parcel in self.window)
        self.on_disk = deque(
            p for p in self.on_disk if not coverage.covers(p.first_seq, p.last_seq)
        )
        confirmed = coverage.confirmed()
        if self.unsent:
            self.unsent = self.unsent.minus(confirmed)
        self._take_back(self._confirmed.minus(confirmed))
        self._confirmed, self.has_coverage = confirmed, True
        return before != (len(self.window), len(self.on_disk), self.unsent.count)

    def _take_back(self, forgotten: SeqSet) -> None:
        """The database is older than it was: send again what the disk still keeps."""
        if forgotten and self.spool is not None:
            for first, last in forgotten.within(SeqSet(self.spool.ranges(self.epoch))):
                self.unsent.add(first, last)

    def is_confirmed(self, first: int, last: int) -> bool:
        """Whether all numbers from first to last are accounted for."""
        return self._confirmed.covers(first, last)

    def trim(self, write: Callable[[int, Sequence[SpoolRecord]], bool]) -> int:
        """Move the oldest parcels to disk with one write; `best_effort` ones are let go.

        Args:
            write: Writes events of an epoch; says whether the disk took them.

        Returns:
            Events released unwritten: Redis has them, only a loss there could not be mended.
        """
        oldest, room = list[Parcel](), _TRIM_BYTES
        for parcel in self.window:
            if room <= 0:
                break
            room -= parcel.size_bytes
            oldest.append(parcel)
        records = [record for parcel in oldest for record in parcel.unwritten()]
        if self.may_spool and not write(self.epoch, sorted(records)):
            self._release_oldest()
            return oldest[0].count
        for parcel in oldest:
            self._release_oldest()
            if self.may_spool:
                parcel.lines, parcel.is_from_disk = None, True
                self.on_disk.append(parcel)
        return 0

    def _release_oldest(self) -> None:
        parcel = self.window.popleft()
        self.window_bytes -= parcel.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One entry to send, and whose it is."""

    custody: Custody
    parcel: Parcel
    run: Run | None = None
    """Set for events that come from memory for the first time."""
    lane: int | None = None
    """Lane whose events come from disk for the first time."""
