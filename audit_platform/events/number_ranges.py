"""Ascending ranges of the numbers of one run (pure).

Here: what they are, their size, their difference. Not here: ranges out of rows
(`events/row_numbers.py`), the ledger's (`events/ledger_ranges.py`).
"""

from typing import Any

Ranges = tuple[tuple[int, int], ...]
"""First and last of each range, both included, ascending."""
Run = tuple[int, int]
"""Producer and epoch."""


def count(ranges: Ranges) -> int:
    """How many numbers ranges hold."""
    return sum(last - first + 1 for first, last in ranges)


def minus(ranges: Ranges, others: Ranges) -> Ranges:
    """Give the numbers that are in the first ranges and not in the second; both ascending."""
    left: list[tuple[int, int]] = []
    at: int = 0
    for first, last in ranges:
        start = first
        while at < len(others) and others[at][1] < start:
            at += 1
        # The last one looked at may reach into the next range, so `at` stays on it.
        here: int = at
        while here < len(others) and others[here][0] <= last:
            if start < others[here][0]:
                left.append((start, others[here][0] - 1))
            start = others[here][1] + 1
            here += 1
        at = max(at, here - 1)
        if start <= last:
            left.append((start, last))
    return tuple(left)


def ranges_of(multirange: Any) -> Ranges:
    """Give a multirange of PostgreSQL as ranges."""
    return tuple((one.lower, one.upper - 1) for one in multirange)
