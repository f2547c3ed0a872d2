"""What is known about the records of one segment: their numbers, and where blocks begin (pure).

Here: the sparse index. Not here: the file (`client/spool_segment.py`), locks.
Guarantee: a block begins and ends with a record, and has at most 256 records and 256 KiB and one
record, so that reading from any number costs one block.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple, Self

from audit_platform.client.seq_ranges import SeqRanges

_BLOCK_RECORDS: Final = 256
_BLOCK_BYTES: Final = 256 << 10
_HEAD: Final = Struct("=QQQ")


class Block(NamedTuple):
    """A piece of a segment, and how many good records are in it."""

    offset: int
    length: int
    records: int


class SegmentIndex:
    """Numbers and blocks of a segment, in the order of the file."""

    __slots__ = ("_counts", "_offsets", "_seqs", "end", "ranges")

    def __init__(self, begin: int) -> None:
        """Start empty.

        Args:
            begin: Offset of the first record.
        """
        self.ranges = SeqRanges()
        # Offset behind the last record.
        self.end = begin
        self._seqs, self._offsets, self._counts = array("Q"), array("Q"), array("I")

    def add(self, seqs: Sequence[int], offsets: Sequence[int], size_bytes: int) -> None:
        """Add records behind the others.

        Args:
            seqs: Their numbers, ascending; may be none.
            offsets: Where each begins, counted from `end`.
            size_bytes: Of everything added, damaged records included.
        """
        if seqs:
            if seqs[-1] - seqs[0] == len(seqs) - 1:
                self.ranges.add(seqs[0], seqs[-1])
            else:
                self.ranges.add_all(seqs)
        counts, begin = self._counts, self.end
        for seq, offset in zip(seqs, offsets, strict=True):
            at = begin + offset
            if not counts or counts[-1] >= _BLOCK_RECORDS or at - self._offsets[-1] >= _BLOCK_BYTES:
                self._offsets.append(at)
                self._seqs.append(seq)
                counts.append(0)
            counts[-1] += 1
        self.end = begin + size_bytes

    def pack(self) -> bytes:
        """Make bytes of it, in the byte order of the machine."""
        bounds = self.ranges.bounds
        parts = (bounds, self._seqs, self._offsets, self._counts)
        head = _HEAD.pack(self.end, len(bounds), len(self._seqs))
        return head + b"".join(part.tobytes() for part in parts)

    @classmethod
    def unpack(cls, data: bytes) -> Self | None:
        """Make an index of such bytes; None when their length is wrong."""
        if len(data) < _HEAD.size:
            return None
        end, bounds, blocks = _HEAD.unpack_from(data)
        position = _HEAD.size
        if len(data) != position + 8 * bounds + 20 * blocks:
            return None
        index = cls(end)
        counts = index._counts
        for part, count in (
            (index.ranges.bounds, bounds),
            (index._seqs, blocks),
            (index._offsets, blocks),
            (counts, blocks),
        ):
            part.frombytes(data[position : position + part.itemsize * count])
            position += part.itemsize * count
        return index

    def blocks(self, first: int, last: int) -> list[Block]:
        """Name the blocks that may hold some numbers."""
        begin = max(bisect_right(self._seqs, first) - 1, 0)
        end = bisect_right(self._seqs, last)
        offsets = [*self._offsets[begin : end + 1]]
        if end == len(self._seqs):
            offsets.append(self.end)
        return [
            Block(offset, until - offset, count)
            for offset, until, count in zip(
                offsets[:-1], offsets[1:], self._counts[begin:end], strict=True
            )
        ]
