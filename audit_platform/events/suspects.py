"""Entries that many runs have read and none has acknowledged; each is tried alone, after the rest.

Here: which entries these are, and their order. Not here: when the rest is done
(`events/intake.py`).
Guarantee: an entry whose processing kills the process stops no other entry: what was tried alone
more often comes later, and each try is on record in Redis before it begins.

A count of deliveries is a hint, no verdict, since each restart of a run counts too: nothing is
given up here. Source: delivery design, section 6.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from audit_platform.events.stream import Consumer
from audit_platform.events.stream_entry import StreamEntry

MOST_DELIVERIES: Final = 5
# A stream that is never quiet: after this time reading pauses until everything else is stored.
PATIENCE_S: Final = 60.0

_LOG = logging.getLogger(__name__)


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
        """Whether they have waited long enough for a quiet moment."""
        return bool(self._waiting) and self._clock() - self._since_s >= PATIENCE_S

    def set_apart(self, pending: Sequence[StreamEntry]) -> tuple[StreamEntry, ...]:
        """Keep those of the run's own pending entries that were delivered too often.

        Returns:
            What was kept.

        Raises:
            QueueUnavailable: Redis does not answer; nothing was kept.
        """
        counts = self._consumer.deliveries(pending)
        known = {entry.entry_id for _, entry in self._waiting}
        found = [
            (counts[entry.entry_id], entry)
            for entry in pending
            if counts.get(entry.entry_id, 0) > MOST_DELIVERIES and entry.entry_id not in known
        ]
        if found:
            _LOG.warning("%d entries were read more than 5 times; each goes alone", len(found))
            self._since_s = self._clock()
            self._waiting = sorted([*self._waiting, *found], key=lambda one: one[0])
        return tuple(entry for _, entry in found)

    def take(self) -> StreamEntry:
        """Take the next one to try; the try is counted first, so that a kill is on record.

        Raises:
            QueueUnavailable: Redis does not answer; nothing was taken.
        """
        entry = self._waiting[0][1]
        self._consumer.count_delivery(entry.entry_id)
        del self._waiting[0]
        self._since_s = self._clock()
        return entry
