"""What dead processes of this producer left: events on disk, and numbers without an end.

Here: finding it, and the notice that says where their numbers ended. Not here: files
(`client/slot.py`, `client/spool.py`), sending (`client/sender.py`).
Guarantee: a state file stays until the database has the notice; events keep their old stamps.

Source: delivery design, section 3, "Stamps". The notice is the only event of an epoch of its own,
which it names as ended too: nobody has to end it later.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from audit_platform.client.control_events import ControlEvents
from audit_platform.client.custody import Custody
from audit_platform.client.parcel import Parcel
from audit_platform.client.slot import EndedProcess, Slot
from audit_platform.client.spool import Spool

logger = logging.getLogger(__name__)

# Looks at every range of every segment: too much for each second of a large spool.
_PRUNE_INTERVAL_S: Final = 5.0


@dataclass(slots=True, kw_only=True)
class Inheritance:
    """What is left in one slot."""

    slot: Slot
    spool: Spool
    is_own: bool
    custodies: list[Custody] = field(default_factory=list)
    ended: Sequence[EndedProcess] = ()
    notice: Custody | None = None
    pending_notice: Parcel | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do, not even to keep."""
        is_waiting = any(custody.is_waiting for custody in self.custodies)
        return not (is_waiting or self.ended or self.spool.epochs())

    def note_confirmations(self) -> None:
        """Forget the dead processes once the database has the notice of their end."""
        if self.notice is not None and self.notice.has_coverage and not self.notice.is_waiting:
            for ended in self.ended:
                self.slot.forget(ended)
            self.ended, self.notice = (), None


class Heirs:
    """All that is left, by slot."""

    def __init__(
        self,
        *,
        shards: int,
        control: ControlEvents,
        producer_id_of: Callable[[int], int],
        new_epoch: Callable[[], int],
    ) -> None:
        """Begin with nothing.

        Args:
            shards: Number of streams.
            control: Makes the notices.
            producer_id_of: Number of the producer in a slot.
            new_epoch: Gives a random positive 63-bit number.
        """
        self._shards, self._control = shards, control
        self._producer_id_of, self._new_epoch = producer_id_of, new_epoch
        self._all: list[Inheritance] = []
        self._pruned_s = float("-inf")

    @property
    def has_own(self) -> bool:
        """Whether the slot of this process was looked at."""
        return any(one.is_own for one in self._all)

    @property
    def keep_files(self) -> bool:
        """Whether the disk holds events, confirmed ones included."""
        return any(one.spool.epochs() for one in self._all)

    def adopt_own(self, slot: Slot, spool: Spool, *, present_epochs: Collection[int]) -> None:
        """Take over what is left in the slot of this process, but its own epochs."""
        self._adopt(slot, spool, present_epochs, is_own=True)

    def adopt(self, slot: Slot, spool: Spool) -> None:
        """Take over a slot that nobody else holds."""
        self._adopt(slot, spool, (), is_own=False)

    def _adopt(
        self, slot: Slot, spool: Spool, present_epochs: Collection[int], *, is_own: bool
    ) -> None:
        heir = Inheritance(slot=slot, spool=spool, is_own=is_own)
        producer_id = self._producer_id_of(slot.number)
        for epoch in spool.epochs():
            if epoch not in present_epochs:
                custody = self._custody(producer_id, epoch, spool)
                for first, last in spool.ranges(epoch):
                    custody.unsent.add(first, last)
                heir.custodies.append(custody)
        self._prepare_notice(heir, producer_id)
        self._all.append(heir)
        waiting = sum(custody.unsent.count for custody in heir.custodies)
        if waiting:
            logger.info("%d audit events of an earlier process wait in the spool", waiting)

    def _custody(self, producer_id: int, epoch: int, spool: Spool | None) -> Custody:
        return Custody(producer_id=producer_id, epoch=epoch, shards=self._shards, spool=spool)

    def _prepare_notice(self, heir: Inheritance, producer_id: int) -> None:
        heir.ended = heir.slot.ended()
        # After a power loss the disk may hold higher numbers than the state file.
        on_disk = {one.epoch: one.unsent.last or 0 for one in heir.custodies}
        last_of = {
            end.epoch: max(end.last_seq, on_disk.get(end.epoch, 0))
            for ended in heir.ended
            for end in ended.ends
        }
        numbered = [(epoch, last) for epoch, last in last_of.items() if last > 0]
        if not numbered:
            for ended in heir.ended:
                heir.slot.forget(ended)
            heir.ended = ()
            return
        own_epoch = self._new_epoch()
        payload = self._control.end(
            producer_id,
            [*numbered, (own_epoch, 1)],
            is_unclean=any(ended.unclean for ended in heir.ended),
        )
        heir.notice = self._custody(producer_id, own_epoch, None)
        heir.pending_notice = Parcel(1, [payload])

    def custodies(self) -> Iterator[Custody]:
        """Give all custodies, those of the notices included."""
        for one in self._all:
            yield from one.custodies
            if one.notice is not None:
                yield one.notice

    def notices(self) -> Iterator[tuple[Custody, Parcel]]:
        """Give the notices that Redis has not had."""
        for one in self._all:
            if one.notice is not None and one.pending_notice is not None:
                yield one.notice, one.pending_notice

    def note_sent(self, parcel: Parcel) -> None:
        """Take note that Redis has had a notice, if the parcel is one."""
        for one in self._all:
            if one.pending_notice is parcel:
                one.pending_notice = None

    def settle(self, own: Sequence[Custody]) -> None:
        """Delete what is confirmed; give back slots in which nothing is left."""
        for one in self._all:
            one.note_confirmations()
        now_s = time.monotonic()
        if now_s - self._pruned_s < _PRUNE_INTERVAL_S:
            return
        self._pruned_s = now_s
        for one in self._all:
            by_epoch = {custody.epoch: custody for custody in one.custodies}
            if one.is_own:
                by_epoch |= {custody.epoch: custody for custody in own}
            one.spool.prune(
                lambda epoch, first, last, known=by_epoch: (
                    epoch in known and known[epoch].is_confirmed(first, last)
                )
            )
        for one in [one for one in self._all if not one.is_own and one.is_settled]:
            one.spool.close()
            one.slot.release()
            self._all.remove(one)

    def close(self) -> None:
        """Give back the slots of others; what is left there waits for another process."""
        for one in self._all:
            if not one.is_own:
                one.spool.close()
                one.slot.release()
        self._all.clear()
