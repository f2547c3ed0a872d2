"""Sets of sequence numbers as ascending ranges (pure).

Here: the set and what producers ask of it. Not here: which numbers belong in (`client/lane.py`,
`client/custody.py`), what the database confirmed (`client/coverage.py`).
Guarantee: ranges are disjoint, not adjacent and ascending; both ends are included.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator


class SeqSet:
    """Numbers of one epoch; consecutive ones cost as much as one."""

    __slots__ = ("_firsts", "_lasts", "count")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """Make a set of ranges.

        Args:
            ranges: First and last number of each, both included, in any order.
        """
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.count = 0
        for first, last in ranges:
            self.add(first, last)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._firsts, self._lasts, strict=True)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeqSet) and list(self) == list(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"SeqSet({list(self)})"

    @property
    def parts(self) -> int:
        """Number of ranges."""
        return len(self._firsts)

    @property
    def first(self) -> int | None:
        """Lowest number."""
        return self._firsts[0] if self._firsts else None

    @property
    def last(self) -> int | None:
        """Highest number."""
        return self._lasts[-1] if self._lasts else None

    def add(self, first: int, last: int) -> None:
        """Add the numbers from first to last; those that are in already change nothing."""
        if first > last:
            return
        firsts, lasts = self._firsts, self._lasts
        if not lasts or first > lasts[-1] + 1:
            firsts.append(first)
            lasts.append(last)
            self.count += last - first + 1
            return
        low = bisect_left(lasts, first - 1)
        high = low
        while high < len(firsts) and firsts[high] <= last + 1:
            self.count -= lasts[high] - firsts[high] + 1
            first, last = min(first, firsts[high]), max(last, lasts[high])
            high += 1
        firsts[low:high], lasts[low:high] = [first], [last]
        self.count += last - first + 1

    def remove(self, first: int, last: int) -> None:
        """Take out the numbers from first to last, those that are in."""
        firsts, lasts = self._firsts, self._lasts
        low = bisect_left(lasts, first)
        high, kept = low, list[tuple[int, int]]()
        while high < len(firsts) and firsts[high] <= last:
            self.count -= lasts[high] - firsts[high] + 1
            kept += [(firsts[high], first - 1), (last + 1, lasts[high])]
            high += 1
        kept = [part for part in kept if part[0] <= part[1]]
        firsts[low:high] = [part[0] for part in kept]
        lasts[low:high] = [part[1] for part in kept]
        self.count += sum(part[1] - part[0] + 1 for part in kept)

    def covers(self, first: int, last: int) -> bool:
        """Whether every number from first to last is in."""
        at = bisect_left(self._lasts, last)
        return at < len(self._firsts) and self._firsts[at] <= first

    def touches(self, first: int, last: int) -> bool:
        """Whether any number from first to last is in."""
        at = bisect_left(self._lasts, first)
        return at < len(self._firsts) and self._firsts[at] <= last

    def minus(self, other: "SeqSet") -> "SeqSet":
        """Give the numbers that are in this set and not in the other."""
        rest = SeqSet(self)
        for first, last in other:
            rest.remove(first, last)
        return rest

    def within(self, other: "SeqSet") -> "SeqSet":
        """Give the numbers that are in both sets."""
        return self.minus(self.minus(other))
