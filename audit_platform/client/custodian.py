"""Keeps what is not confirmed: asks what is stored, sends again, writes to disk, declares losses.

Here: what the sending thread does beside sending. Not here: sending (`client/sender.py`), one
epoch's bookkeeping (`client/custody.py`), asking (`client/confirmations.py`), the directory
(`client/disk.py`), dead processes (`client/inheritance.py`).
Guarantee: nothing is let go before the database accounts for it, unless memory and disk are full;
then it is counted. Used by the sending thread alone, and by `close()` once that has ended.

Source: delivery design, sections 3, 5 and 12.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from audit_platform.client.buffer import Buffer
from audit_platform.client.confirmations import Confirmations
from audit_platform.client.control_events import ControlEvents
from audit_platform.client.custody import Custody, Outgoing
from audit_platform.client.declarations import Declarations
from audit_platform.client.disk import Disk
from audit_platform.client.inheritance import Heirs
from audit_platform.client.lane import Run
from audit_platform.client.overload_rules import OverloadRule, rule_at
from audit_platform.client.parcel import Parcel
from audit_platform.errors import QueueError, SpoolError
from audit_platform.events.policy import shard_of
from audit_platform.events.stream import Appender

logger = logging.getLogger(__name__)

_INTERVAL_S: Final = 1.0
_LEFTOVERS_S: Final = 60.0
_UNREADABLE_S: Final = 5.0
_MAX_RESENDS: Final = 4
# A drain behind by this much is no reason to send twice (delivery design, section 5).
_LAG_FACTOR: Final = 3.0


class Custodian:
    """The custodies of one client."""

    def __init__(
        self,
        *,
        buffer: Buffer,
        disk: Disk,
        control: ControlEvents,
        declarations: Declarations,
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
            declarations: Writes what will never come into the control lane.
            tenant_id: Tenant of these events.
            shards: Number of streams.
            window_bytes: Unconfirmed bytes in memory at most.
            resend_after_s: Shortest wait before an unconfirmed entry is sent again.
            producer_id_of: Number of the producer in a slot.
            new_epoch: Gives a random positive 63-bit number.
        """
        self._buffer, self._disk, self._control, self._shards = buffer, disk, control, shards
        self._window_bytes, self._resend_after_s = window_bytes, resend_after_s
        self._declarations, self._producer_id_of = declarations, producer_id_of
        self._control_shard = shard_of(tenant_id, shards)
        self.own: list[Custody] = []
        self._heirs = Heirs(
            shards=shards, control=control, producer_id_of=producer_id_of, new_epoch=new_epoch
        )
        self.confirmations = Confirmations(usual_shard=self._control_shard)
        self._polled_s = self._looked_s = self._unreadable_until_s = float("-inf")
        self.resent = self.released = 0

    def open(self) -> None:
        """Open the disk and take over what earlier processes left; again after a fork."""
        self._disk.open()
        producer_id = self._producer_id_of(self._disk.slot_number)
        self.own = [
            Custody(
                producer_id=producer_id,
                epoch=epoch,
                shards=self._shards,
                spool=None,
                may_spool=not self._buffer.is_best_effort(lane),
            )
            for lane, epoch in enumerate(self._buffer.epochs)
        ]
        for lane, custody in enumerate(self.own):
            is_control = lane == self._buffer.control_lane
            custody.fix_shard(self._control_shard if is_control else lane % self._shards)
        self._adopt_spool()

    def _adopt_spool(self) -> None:
        """Use the disk once it is there, which may be late."""
        slot, spool = self._disk.slot, self._disk.spool
        if slot is None or spool is None or self._heirs.has_own:
            return
        for custody in self.own:
            custody.spool = spool
        self._heirs.adopt_own(slot, spool, present_epochs={one.epoch for one in self.own})

    def custodies(self) -> Iterator[Custody]:
        """Give all custodies, those of dead processes included."""
        yield from self.own
        yield from self._heirs.custodies()

    @property
    def rule(self) -> OverloadRule:
        """What that level asks for."""
        return rule_at(self.confirmations.level)

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
        return sum(custody.unsent.count for custody in self._heirs.custodies())

    def due_s(self, *, can_send: bool) -> float:
        """Moment of the monotonic clock at which there is something to do."""
        now_s = time.monotonic()
        if can_send and not self.is_holding and self._has_unsent():
            return max(now_s, self._unreadable_until_s)
        interval_s = _INTERVAL_S if self._is_waiting() else 2 * self._resend_after_s
        due_s = max(self._declarations.due_s(), self._polled_s + _INTERVAL_S)
        if self._is_waiting() or self._heirs.keep_files:
            due_s = min(due_s, self._polled_s + interval_s)
        return max(now_s, due_s)

    def _has_unsent(self) -> bool:
        has_notice = next(self._heirs.notices(), None) is not None
        return has_notice or any(custody.unsent for custody in self.custodies())

    def _is_waiting(self) -> bool:
        return self._buffer.has_lost or any(custody.is_waiting for custody in self.custodies())

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
        is_due = now_s - self._polled_s >= _INTERVAL_S
        if is_due or self._buffer.is_closing:
            self._declarations.declare()
        if is_due:
            self._polled_s = now_s
            if appender is not None:
                self._poll(appender, now_s)
        if appender is not None and now_s - self._looked_s >= _LEFTOVERS_S:
            self._looked_s = now_s
            for slot, spool in self._disk.leftovers():
                self._heirs.adopt(slot, spool)
        self.trim_window()

    def _poll(self, appender: Appender, now_s: float) -> None:
        try:
            self.confirmations.ask(appender, list(self.custodies()), now_s=now_s)
        except QueueError:
            return  # the next entry that is sent meets the same trouble, and is counted there
        self._buffer.is_shedding = self.rule.sheds_best_effort
        for custody in self.own:
            self.note_disk(custody)
        self._heirs.settle(self.own)

    def note_refusal(self) -> None:
        """Redis is full: shed and hold, until the drain could say how the shard is."""
        self.confirmations.note_refusal(now_s=time.monotonic())
        self._buffer.is_shedding = self.rule.sheds_best_effort

    def note_disk(self, custody: Custody) -> None:
        """Tell the buffer what of an own epoch still waits on disk."""
        if custody in self.own:
            lane = self.own.index(custody)
            self._buffer.note_disk(lane, custody.unsent.first, custody.unsent.count)

    def resends(self) -> list[Outgoing]:
        """Give entries that nobody confirmed for too long, and new notices.

        While no drain run lives, only the oldest of each epoch goes out again: enough to bring
        one about where the stream was lost, and too little to fill Redis.
        """
        found = [Outgoing(custody=one, parcel=notice) for one, notice in self._heirs.notices()]
        now_s = time.monotonic()
        for custody in self.custodies():
            is_fresh, lag_s = self.confirmations.state_of(custody, now_s)
            after_s = max(self._resend_after_s, _LAG_FACTOR * lag_s)
            limit = _MAX_RESENDS if is_fresh else 1
            if not is_fresh and not custody.is_oldest_due(now_s=now_s, after_s=after_s):
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
        self._unreadable_until_s = time.monotonic() + _UNREADABLE_S

    def from_disk(self, limit: int) -> list[Outgoing]:
        """Read entries that wait on disk for their first way to Redis."""
        found: list[Outgoing] = []
        for custody in self.custodies():
            if len(found) == limit:
                break
            try:
                parcels = custody.from_disk(limit - len(found))
            except SpoolError as exc:
                self._note_unreadable(exc)
                continue
            lane = self.own.index(custody) if custody in self.own else None
            found += [Outgoing(custody=custody, parcel=one, lane=lane) for one in parcels]
            if not parcels:
                self.note_disk(custody)
        return found

    def from_memory(self, runs: Iterable[Run]) -> list[Outgoing]:
        """Make entries of runs that the buffer gave."""
        return [
            Outgoing(custody=self.own[run.lane], parcel=self.own[run.lane].from_run(run), run=run)
            for run in runs
        ]

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
        self._heirs.note_sent(parcel)

    def spill(self) -> bool:
        """Write what waits in memory to the disk; False when that is not possible."""
        runs = self._buffer.take_for_disk()
        written = [run for run in runs if self._disk.write_run(run)]
        for run in runs:
            if run not in written:
                self._buffer.put_back(run)
                continue
            for record in run.records:
                record.is_spooled = True
                if self.own:
                    self.own[run.lane].unsent.add(record.seq, record.seq)
            self._buffer.moved_to_disk(run)
        return len(written) == len(runs)

    def trim_window(self) -> None:
        """Let the disk take over what the window has no room for."""
        while sum(custody.window_bytes for custody in self.own) > self._window_bytes:
            custody = max(self.own, key=lambda one: one.window_bytes)
            self.released += custody.trim(self._disk.write)

    def leave(self) -> None:
        """Write what is left to the disk and give it back; the sending thread has ended."""
        self._declarations.declare()
        self.spill()
        self._heirs.close()
        self._disk.close()
