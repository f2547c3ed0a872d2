"""Entries that many runs have read and none has acknowledged; they are tried apart from the rest.

Here: which entries these are, how many are tried together, and how long they wait for a quiet
moment. Not here: when the rest is done (`events/intake.py`).
Guarantee: an entry whose processing kills the process stops no other entry: what was tried more
often comes later, in smaller groups down to one, and each try is on record in Redis before it
begins. An innocent entry waits a second or two, however busy the stream is.

A count of deliveries is a hint, no verdict, since each restart of a run counts too: nothing is
given up here. Source: delivery design, section 6.
"""

import logging
from collections.abc import Callable, Container, Sequence
from itertools import takewhile
from typing import Final

from audit_platform.events.stream import Consumer
from audit_platform.events.stream_entry import StreamEntry

MOST_DELIVERIES: Final = 5
LONGEST_PATIENCE_S: Final = 60.0
_FIRST_GROUP: Final = 4_096
_TRIES_IN_COMPANY: Final = 4

_LOG = logging.getLogger(__name__)


def patience_s(deliveries: int) -> float:
    """Time after which reading pauses for an entry, though the stream is never quiet.

    A second as long as it is tried in company, since a series of restarts makes every entry a
    suspect; doubled with each try alone, since an entry that kills the process costs a restart.
    """
    alone = max(0, _tries(deliveries) - _TRIES_IN_COMPANY)
    return min(LONGEST_PATIENCE_S, 2.0**alone)


def group_size(deliveries: int) -> int:
    """Entries tried together: 4,096, then 512, 64, 8, and at last one."""
    return max(1, _FIRST_GROUP >> 3 * _tries(deliveries))


def _tries(deliveries: int) -> int:
    """Tries that died: each counts two deliveries, its own and the reading before."""
    return (deliveries - MOST_DELIVERIES - 1) // 2


class Suspects:
    """Entries set apart, those that were delivered least often first."""

    def __init__(self, consumer: Consumer, *, clock: Callable[[], float]) -> None:
        """Start without any.

        Args:
            consumer: Edge of the shard; counts deliveries.
            clock: Monotonic seconds.
        """
        self._consumer, self._clock = consumer, clock
        self._waiting: list[tuple[int, StreamEntry]] = []
        self._since_s = 0.0

    def __len__(self) -> int:
        """Number of entries that wait."""
        return len(self._waiting)

    @property
    def is_impatient(self) -> bool:
        """Whether the first of them has waited long enough for a quiet moment."""
        if not self._waiting:
            return False
        return self._clock() - self._since_s >= patience_s(self._waiting[0][0])

    def set_apart(
        self, pending: Sequence[StreamEntry], *, at_work: Container[str]
    ) -> tuple[StreamEntry, ...]:
        """Keep those of the run's own pending entries that were delivered too often.

        Args:
            pending: In order of their ids, without a gap.
            at_work: Ids that this run has read before; they are left alone.

        Returns:
            What was kept.

        Raises:
            QueueUnavailable: Redis does not answer; nothing was kept.
        """
        counts = self._consumer.deliveries(pending)
        found = [
            (counts[entry.entry_id], entry)
            for entry in pending
            if counts.get(entry.entry_id, 0) > MOST_DELIVERIES and entry.entry_id not in at_work
        ]
        if found:
            _LOG.warning("%d entries were read more than 5 times; they go apart", len(found))
            self._since_s = self._clock()
            self._waiting = sorted([*self._waiting, *found], key=lambda one: one[0])
        return tuple(entry for _, entry in found)

    def take(self, *, most_bytes: int) -> list[StreamEntry]:
        """Take the next ones to try; the try is counted first, so that a kill is on record.

        Args:
            most_bytes: Size of all together; one entry is taken in any case.

        Raises:
            QueueUnavailable: Redis does not answer; nothing was taken.
        """
        deliveries = self._waiting[0][0]
        alike = takewhile(lambda one: one[0] == deliveries, self._waiting)
        group: list[StreamEntry] = []
        size_bytes = 0
        for _, entry in alike:
            size_bytes += entry.size_bytes
            if group and (len(group) == group_size(deliveries) or size_bytes > most_bytes):
                break
            group.append(entry)
        self._consumer.set_deliveries([entry.entry_id for entry in group], deliveries + 1)
        del self._waiting[: len(group)]
        return group
