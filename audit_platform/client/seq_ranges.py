"""Ascending sequence numbers as ranges, 16 bytes each (pure).

Here: the ranges of one segment, and merging those of several. Not here: what the numbers mean.
Guarantee: memory grows with the number of interruptions, not with that of the numbers.
"""

from array import array
from collections.abc import Iterable, Iterator


class SeqRanges:
    """Inclusive ranges of numbers that were added in ascending order."""

    __slots__ = ("bounds",)

    def __init__(self) -> None:
        """Start empty."""
        # first, last, first, last, …
        self.bounds = array("Q")

    def add(self, first: int, last: int) -> None:
        """Add a run of numbers above all present ones."""
        bounds = self.bounds
        if bounds and bounds[-1] + 1 == first:
            bounds[-1] = last
        else:
            bounds.extend((first, last))

    def add_all(self, seqs: Iterable[int]) -> None:
        """Add ascending numbers above all present ones."""
        bounds = self.bounds
        for seq in seqs:
            if bounds and bounds[-1] + 1 == seq:
                bounds[-1] = seq
            else:
                bounds.extend((seq, seq))

    @property
    def last(self) -> int:
        """The highest number; -1 when empty."""
        return self.bounds[-1] if self.bounds else -1

    @property
    def first(self) -> int:
        """The lowest number; 0 when empty."""
        return self.bounds[0] if self.bounds else 0

    def __bool__(self) -> bool:
        return bool(self.bounds)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        bounds = self.bounds
        return iter(list(zip(bounds[::2], bounds[1::2], strict=True)))


def merge(several: Iterable[Iterable[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Merge ranges of any order into ascending ones that neither overlap nor touch."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(one for ranges in several for one in ranges):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged
