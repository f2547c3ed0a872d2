"""What dead processes of this producer left: events on disk, and numbers without an end.

Here: finding it, and the notice that says where their numbers ended. Not here: files
(`client/slot.py`, `client/spool.py`), sending (`client/sender.py`).
Guarantee: a state file stays until the database has the notice; events keep their old stamps.

Source: delivery design, section 3, "Stamps". The notice is the only event of an epoch of its own,
which it names as ended too: nobody has to end it later.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from audit_platform.client.control_events import ControlEvents
from audit_platform.client.custody import Custody, Parcel
from audit_platform.client.lane import Record
from audit_platform.client.slot import EndedProcess, Slot
from audit_platform.client.spool import Spool
from audit_platform.events.policy import Durability

logger = logging.getLogger(__name__)


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


def inherit(
    slot: Slot,
    spool: Spool,
    *,
    is_own: bool,
    present_epochs: Collection[int],
    producer_id: int,
    shards: int,
    control: ControlEvents,
    new_epoch: Callable[[], int],
) -> Inheritance:
    """Take over what is left in a slot.

    Args:
        slot: Claimed.
        spool: Of that slot.
        is_own: Whether the slot is that of this process.
        present_epochs: Those of this process, which are not left by anybody.
        producer_id: Of the slot.
        shards: Number of streams.
        control: Makes the notice.
        new_epoch: Gives a random positive 63-bit number.
    """
    custodies: list[Custody] = []
    highest: dict[int, int] = {}
    for epoch in spool.epochs():
        if epoch in present_epochs:
            continue
        custody = Custody(producer_id=producer_id, epoch=epoch, shards=shards, spool=spool)
        for first, last in spool.ranges(epoch):
            custody.unsent.add(first, last)
            highest[epoch] = last
        custodies.append(custody)
    heir = Inheritance(slot=slot, spool=spool, is_own=is_own, custodies=custodies)
    _prepare_notice(heir, highest, producer_id, shards, control, new_epoch())
    if custodies:
        waiting = sum(custody.unsent.count for custody in custodies)
        logger.info("%d audit events of an earlier process wait in the spool", waiting)
    return heir


def _prepare_notice(  # noqa: PLR0917 - one caller, in this module
    heir: Inheritance,
    highest: dict[int, int],
    producer_id: int,
    shards: int,
    control: ControlEvents,
    epoch: int,
) -> None:
    heir.ended = heir.slot.ended()
    last_of: dict[int, int] = {}
    for ended in heir.ended:
        for end in ended.ends:
            last_of[end.epoch] = max(end.last_seq, highest.get(end.epoch, 0))
    numbered = [(one, last) for one, last in last_of.items() if last > 0]
    if not numbered:
        for ended in heir.ended:
            heir.slot.forget(ended)
        heir.ended = ()
        return
    is_unclean = any(ended.unclean for ended in heir.ended)
    payload = control.end(producer_id, [*numbered, (epoch, 1)], is_unclean=is_unclean)
    heir.notice = Custody(producer_id=producer_id, epoch=epoch, shards=shards, spool=None)
    record = Record(1, payload, Durability.STANDARD)
    heir.pending_notice = Parcel(1, [payload], [record], size_bytes=len(payload))
