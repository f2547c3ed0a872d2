"""Keeps what is not confirmed: asks what is stored, sends again, writes to disk, declares losses.

Here: what the sending thread does beside sending. Not here: sending (`client/sender.py`), one
epoch's bookkeeping (`client/custody.py`), the directory (`client/disk.py`).
Guarantee: nothing is let go before the database accounts for it, unless memory and disk are full;
then it is counted. Used by the sending thread alone, and by `close()` once that has ended.

Source: delivery design, sections 3, 5 and 12.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from audit_platform.client.buffer import Buffer
from audit_platform.client.control_events import ControlEvents
from audit_platform.client.coverage import (
    NOTHING_CONFIRMED,
    SHARD_FIELD,
    Coverage,
    Freshness,
    coverage_field,
    parse_coverage,
    parse_status,
)
from audit_platform.client.custody import Custody, Parcel
from audit_platform.client.disk import Disk
from audit_platform.client.inheritance import Inheritance, inherit
from audit_platform.client.lane import Run
from audit_platform.client.overload_rules import OverloadRule, rule_at
from audit_platform.crash_points import crash
from audit_platform.errors import QueueError, SpoolError
from audit_platform.events.policy import shard_of
from audit_platform.events.stream import Appender

logger = logging.getLogger(__name__)

_POLL_S: Final = 1.0
_DECLARE_S: Final = 1.0
_LEFTOVERS_S: Final = 60.0
_MAX_RESENDS: Final = 4
# A drain behind by this much is no reason to send twice (delivery design, section 5).
_LAG_FACTOR: Final = 3.0
# Declarations wait while this many events about the client itself do.
_MAX_CONTROL_WAITING: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One entry to send, and whose it is."""

    custody: Custody
    parcel: Parcel
    run: Run | None = None
    """Set for events that come from memory for the first time."""
    lane: int | None = None
    """Lane whose events come from disk for the first time."""


class Custodian:
    """The custodies of one client."""

    def __init__(
        self,
        *,
        buffer: Buffer,
        disk: Disk,
        control: ControlEvents,
        tenant_id: str,
        shards: int,
        window_bytes: int,
        resend_after_s: float,
        producer_id_of: Callable[[int], int],
        new_epoch: Callable[[], int],
    ) -> None:
        """Keep what is needed; nothing is opened yet.

        Args:
            buffer: Of the client.
            disk: Of the client.
            control: Makes events about the client.
            tenant_id: Tenant of these events.
            shards: Number of streams.
            window_bytes: Unconfirmed bytes in memory at most.
            resend_after_s: Shortest wait before an unconfirmed entry is sent again.
            producer_id_of: Number of the producer in a slot.
            new_epoch: Gives a random positive 63-bit number.
        """
        self._buffer, self._disk, self._control, self._shards = buffer, disk, control, shards
        self._window_bytes, self._resend_after_s = window_bytes, resend_after_s
        self._producer_id_of, self._new_epoch = producer_id_of, new_epoch
        self._control_shard = shard_of(tenant_id, shards)
        self.own: list[Custody] = []
        self._heirs: list[Inheritance] = []
        self._status = defaultdict[int, Freshness](Freshness)
        self._polled_s = self._declared_s = self._looked_s = float("-inf")
        self.rule: OverloadRule = rule_at(0)
        self.level = self.resent = self.released = 0

    def open(self) -> None:
        """Open the disk and take over what earlier processes left; again after a fork."""
        self._disk.open()
        producer_id = self._producer_id_of(self._disk.slot_number)
        self.own = [
            Custody(producer_id=producer_id, epoch=epoch, shards=self._shards, spool=None)
            for epoch in self._buffer.epochs
        ]
        for lane, custody in enumerate(self.own):
            custody.shard = lane if lane < self._shards else self._control_shard
        self._adopt_spool()

    def _adopt_spool(self) -> None:
        slot, spool = self._disk.slot, self._disk.spool
        if slot is None or spool is None or any(heir.is_own for heir in self._heirs):
            return
        for custody in self.own:
            custody.spool = spool
        self._heirs.append(
            inherit(
                slot,
                spool,
                is_own=True,
                present_epochs={custody.epoch for custody in self.own},
                producer_id=self._producer_id_of(slot.number),
                shards=self._shards,
                control=self._control,
                new_epoch=self._new_epoch,
            )
        )

    def _adopt_leftovers(self) -> None:
        for slot, spool in self._disk.leftovers():
            self._heirs.append(
                inherit(
                    slot,
                    spool,
                    is_own=False,
                    present_epochs=(),
                    producer_id=self._producer_id_of(slot.number),
                    shards=self._shards,
                    control=self._control,
                    new_epoch=self._new_epoch,
                )
            )

    def custodies(self) -> Iterator[Custody]:
        """Give all custodies, those of dead processes included."""
        yield from self.own
        for heir in self._heirs:
            yield from heir.custodies
            if heir.notice is not None:
                yield heir.notice

    @property
    def is_holding(self) -> bool:
        """Whether the platform asks to keep events on disk instead of sending them."""
        return self.rule.spools_standard

    @property
    def unconfirmed(self) -> int:
        """Entries that Redis had and the database does not account for."""
        return sum(len(custody.window) + len(custody.on_disk) for custody in self.custodies())

    @property
    def inherited(self) -> int:
        """Events of dead processes that wait on disk."""
        return sum(custody.unsent.count for heir in self._heirs for custody in heir.custodies)

    def due_s(self, *, can_send: bool) -> float:
        """Moment of the monotonic clock at which there is something to do."""
        now_s = time.monotonic()
        if can_send and not self.is_holding and self._has_unsent():
            return now_s
        interval_s = _POLL_S if self._is_waiting() else 2 * self._resend_after_s
        if not self._is_waiting() and not any(heir.spool.epochs() for heir in self._heirs):
            return float("inf")
        return max(now_s, self._polled_s + interval_s)

    def _has_unsent(self) -> bool:
        return any(custody.unsent for custody in self.custodies()) or any(
            heir.pending_notice is not None for heir in self._heirs
        )

    def _is_waiting(self) -> bool:
        return any(custody.is_waiting for custody in self.custodies()) or self._buffer.has_lost

    def tend(self, appender: Appender | None) -> None:
        """Do what is due: declare losses, ask what is stored, free memory and disk.

        Args:
            appender: Redis; None while it does not answer.
        """
        now_s = time.monotonic()
        self._adopt_spool()
        for lane, custody in enumerate(self.own):
            for seq in self._buffer.take_overflowed(lane):
                custody.unsent.add(seq, seq)
        if now_s - self._declared_s >= _DECLARE_S or self._buffer.is_closing:
            self._declared_s = now_s
            self.declare()
        if now_s - self._polled_s >= _POLL_S:
            self._polled_s = now_s
            if appender is not None:
                self._poll(appender, now_s)
        if appender is not None and now_s - self._looked_s >= _LEFTOVERS_S:
            self._looked_s = now_s
            self._adopt_leftovers()
        self._trim_window()

    def declare(self) -> None:
        """Write what was given up into the control lane."""
        if self._buffer.control_waiting >= _MAX_CONTROL_WAITING or not self.own:
            return
        producer_id = self.own[0].producer_id
        for epoch, reason, numbers in self._buffer.take_lost():
            for payload in self._control.losses(producer_id, epoch, reason.value, numbers):
                self._buffer.put_control(payload)

    def _poll(self, appender: Appender, now_s: float) -> None:
        by_shard = defaultdict[int, list[Custody]](list)
        for custody in self.custodies():
            by_shard[custody.shard if custody.shard is not None else self._control_shard].append(
                custody
            )
        level = 0
        try:
            for shard, custodies in by_shard.items():
                fields = [coverage_field(one.producer_id, one.epoch) for one in custodies]
                answers = appender.read_watermarks(shard, [SHARD_FIELD, *fields])
                status = self._status[shard]
                status.note(parse_status(answers[0]), now_s=now_s)
                is_fresh = status.is_fresh(now_s)
                if is_fresh and status.status is not None:
                    level = max(level, status.status.level)
                for custody, answer in zip(custodies, answers[1:], strict=True):
                    self._apply(custody, parse_coverage(answer), is_fresh=is_fresh)
        except QueueError:
            return  # the next entry that is sent meets the same trouble, and is counted there
        self.level, self.rule = level, rule_at(level)
        self._buffer.is_shedding = self.rule.sheds_best_effort
        self._settle_heirs()

    def _apply(self, custody: Custody, coverage: Coverage | None, *, is_fresh: bool) -> None:
        if coverage is None:
            # A living drain that no longer knows the epoch: the database forgot it.
            if not (custody.has_coverage and is_fresh):
                return
            coverage = NOTHING_CONFIRMED
        if custody.apply(coverage):
            crash("P_CONFIRMED")
        self.note_disk(custody)

    def note_disk(self, custody: Custody) -> None:
        """Tell the buffer what of an own epoch still waits on disk."""
        if custody in self.own:
            lane = self.own.index(custody)
            self._buffer.note_disk(lane, custody.unsent.first, custody.unsent.count)

    def _settle_heirs(self) -> None:
        confirmed = {
            (id(custody.spool), custody.epoch): custody
            for custody in self.custodies()
            if custody.spool is not None
        }
        for heir in self._heirs:
            heir.note_confirmations()
            heir.spool.prune(
                lambda epoch, first, last, heir=heir: (
                    (one := confirmed.get((id(heir.spool), epoch))) is not None
                    and one.is_confirmed(first, last)
                )
            )
        for heir in [one for one in self._heirs if not one.is_own and one.is_settled]:
            heir.spool.close()
            heir.slot.release()
            self._heirs.remove(heir)

    def resends(self) -> list[Outgoing]:
        """Give entries that nobody confirmed for too long, and new notices.

        While no drain run lives, only the oldest of each epoch goes out again: enough to bring
        one about where the stream was lost, and too little to fill Redis.
        """
        found = [
            Outgoing(custody=heir.notice, parcel=heir.pending_notice)
            for heir in self._heirs
            if heir.notice is not None and heir.pending_notice is not None
        ]
        now_s = time.monotonic()
        for custody in self.custodies():
            status = self._status[custody.shard or 0]
            is_fresh = status.is_fresh(now_s)
            lag_s = status.status.lag_s if status.status is not None and is_fresh else 0.0
            after_s = max(self._resend_after_s, _LAG_FACTOR * lag_s)
            limit = _MAX_RESENDS if is_fresh else 1
            if not is_fresh and not _oldest_is_due(custody, now_s, after_s):
                continue
            due = custody.due(now_s=now_s, after_s=after_s, limit=limit)
            found += [
                Outgoing(custody=custody, parcel=parcel)
                for parcel in due
                if self._is_loaded(custody, parcel)
            ]
        return found[:_MAX_RESENDS]

    def _is_loaded(self, custody: Custody, parcel: Parcel) -> bool:
        try:
            return custody.loaded(parcel)
        except SpoolError as exc:
            self._note_unreadable(exc)
            return False

    def _note_unreadable(self, exc: SpoolError) -> None:
        if self._disk.last_error != exc.message:
            logger.warning("audit events wait in the spool: %s", exc.message)
        self._disk.last_error = exc.message

    def from_disk(self, limit: int) -> list[Outgoing]:
        """Read entries that wait on disk for their first way to Redis."""
        found: list[Outgoing] = []
        for custody in self.custodies():
            if len(found) == limit:
                break
            try:
                parcel = custody.from_disk()
            except SpoolError as exc:
                self._note_unreadable(exc)
                continue
            lane = self.own.index(custody) if custody in self.own else None
            if parcel is not None:
                found.append(Outgoing(custody=custody, parcel=parcel, lane=lane))
            else:
                self.note_disk(custody)
        return found

    def from_memory(self, runs: Iterable[Run]) -> list[Outgoing]:
        """Make entries of runs that the buffer gave."""
        return [
            Outgoing(custody=self.own[run.lane], parcel=self.own[run.lane].from_run(run), run=run)
            for run in runs
        ]

    def shard_of(self, outgoing: Outgoing) -> int:
        """Stream of an entry."""
        custody = outgoing.custody
        if outgoing.run is not None or custody in self.own:
            return custody.shard or 0
        custody.shard = custody.shard_of(outgoing.parcel)
        return custody.shard

    def note_sent(self, outgoing: Outgoing) -> None:
        """Take an entry into custody that Redis has had."""
        custody, parcel = outgoing.custody, outgoing.parcel
        if parcel.attempts:
            self.resent += 1
        custody.note_sent(parcel, now_s=time.monotonic())
        if outgoing.run is not None:
            self._buffer.confirm(outgoing.run)
        elif outgoing.lane is not None:
            self.note_disk(custody)
        for heir in self._heirs:
            if heir.pending_notice is parcel:
                heir.pending_notice = None

    def spill(self) -> bool:
        """Write what waits in memory to the disk; False when that is not possible."""
        for run in self._buffer.take_for_disk():
            if not self._disk.write_run(run):
                self._buffer.put_back(run)
                return False
            for record in run.records:
                record.is_spooled = True
                if self.own:
                    self.own[run.lane].unsent.add(record.seq, record.seq)
            self._buffer.moved_to_disk(run)
        return True

    def _trim_window(self) -> None:
        total = sum(custody.window_bytes for custody in self.own)
        while total > self._window_bytes:
            custody = max(self.own, key=lambda one: one.window_bytes)
            oldest = custody.to_disk()
            if oldest is None:
                return
            parcel, missing = oldest
            total -= parcel.size_bytes
            if self._disk.write(custody.epoch, missing):
                custody.moved_to_disk(parcel)
            else:
                # Redis has them; only a loss there could not be mended any more.
                custody.release_oldest()
                self.released += len(parcel.records or ())

    def leave(self) -> None:
        """Write what is left to the disk and give it back; the sending thread has ended."""
        self.declare()
        self.spill()
        for heir in self._heirs:
            if not heir.is_own:
                heir.spool.close()
                heir.slot.release()
        self._heirs.clear()
        self._disk.close()


def _oldest_is_due(custody: Custody, now_s: float, after_s: float) -> bool:
    oldest = custody.window[0] if custody.window else None
    if oldest is None and custody.on_disk:
        oldest = custody.on_disk[0]
    return oldest is not None and oldest.due_s(after_s) <= now_s
