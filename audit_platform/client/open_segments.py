"""The segments of one stream that still take records.

Here: which of them takes which record, and when a new one begins. Not here: making segments, and
the limits of the spool (`client/spool.py`).
Guarantee: within a segment numbers ascend, although calls come a little out of order.

Its owner holds `lock` around every call, and during the writing itself.
"""

from collections import defaultdict
from threading import Lock
from typing import Final

from audit_platform.client.spool_segment import Segment

# Open segments of one epoch; as many stragglers in a row find an open one.
_MAX_OPEN: Final = 8


class OpenSegments:
    """Open segments by epoch."""

    def __init__(self, segment_bytes: int) -> None:
        """Start with none.

        Args:
            segment_bytes: Size beyond which a segment takes no more records.
        """
        self.lock = Lock()
        self._segment_bytes = segment_bytes
        self._by_epoch: defaultdict[int, list[Segment]] = defaultdict(list)

    def add(self, segment: Segment) -> None:
        """Add a new segment."""
        self._by_epoch[segment.header.epoch].append(segment)

    def choose(self, epoch: int, first_seq: int, data_bytes: int) -> Segment | None:
        """Choose the segment that ends closest below a number; None: a new one is due.

        Threads that log at the same time come a little out of order. As in patience sorting, a
        straggler gets a second segment, which then takes the next stragglers too.
        """
        opened = self._by_epoch[epoch]
        below = [segment for segment in opened if _last_seq(segment) < first_seq]
        if not below:
            if len(opened) >= _MAX_OPEN:
                self.seal(max(opened, key=lambda one: one.size_bytes))
            return None
        segment = max(below, key=_last_seq)
        if segment.size_bytes + data_bytes > self._segment_bytes:
            self.seal(segment)
            return None
        return segment

    def seal(self, segment: Segment) -> None:
        """Close a segment, if it is open."""
        opened = self._by_epoch.get(segment.header.epoch, [])
        if segment in opened:
            opened.remove(segment)
        segment.seal()

    def seal_all(self) -> None:
        """Close every segment."""
        for opened in self._by_epoch.values():
            while opened:
                opened.pop().seal()

    def abandon_after_fork(self) -> None:
        """In a forked child: close the copies of the parent's descriptors; takes no lock."""
        for opened in self._by_epoch.values():
            while opened:
                opened.pop().abandon()


def _last_seq(segment: Segment) -> int:
    span = segment.span
    return span[1] if span else -1
