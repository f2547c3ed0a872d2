"""How long one search may take, PostgreSQL and archive together.

Here: the time that is left, and what a person reads when it is over. Not here: who asks
(`search/hot.py` before each statement, `search/cold.py` before each file and row group).
Guarantee: what has begun may end later than the limit, by one row group or one answer of an object
store; nothing begins after it.
"""

import time
from collections.abc import Callable
from typing import Final

from audit_platform.errors import InvalidQuery


class TimeLimit:
    """The time of one search, counted from when this was made."""

    def __init__(
        self,
        longest_s: float,
        *,
        is_for_each_part: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
            longest_s: Of the whole search.
            is_for_each_part: The limit is one of each statement, and the archive takes as long as
                it takes: for exports, which nobody waits for at a screen.
            clock: Monotonic seconds.
        """
        self.longest_s = longest_s
        self._is_for_each_part = is_for_each_part
        self._clock = clock
        self._ends_s = clock() + longest_s

    @property
    def left_s(self) -> float:
        """What the next statement may take; 0 when the time is over."""
        if self._is_for_each_part:
            return self.longest_s
        return max(self._ends_s - self._clock(), 0.0)

    def check(self, place: str = "") -> None:
        """Stop a search whose time is over.

        Args:
            place: How far it came, for people: `in the archive of 2026-03-05`.

        Raises:
            InvalidQuery: Says how to narrow the search.
        """
        if not self.left_s:
            raise self.exceeded(place)

    def exceeded(self, place: str = "") -> InvalidQuery:
        """Make the error of a search whose time is over."""
        reached = f" and was {place} then" if place else ""
        return InvalidQuery(
            f"the search took longer than {self.longest_s:g} s{reached}; narrow it with --since "
            "and --until, --tenant, --entity or --user, or raise AUDIT_SEARCH_TIMEOUT_S"
        )


NO_LIMIT: Final = TimeLimit(86_400, is_for_each_part=True)
"""Of a search that may take as long as it takes."""
