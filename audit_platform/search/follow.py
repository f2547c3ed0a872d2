"""Which of the events found by a repeated search are new (pure).

Here: remembering what was shown. Not here: searching (`search/hot.py`), waiting and printing
(`cli/events.py`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

LOOK_BACK: Final = timedelta(minutes=10)
"""How late an event may arrive and still be shown; an index on arrival would cost every insert."""


class Follower:
    """Keeps apart new events from those shown before, over a sliding range of time."""

    def __init__(self, *, started_at: datetime) -> None:
        """Start; events older than `LOOK_BACK` before this moment are never shown."""
        self._started_at = started_at
        self._shown: dict[tuple[str, Any], datetime] = {}

    def since(self, now: datetime) -> datetime:
        """Where the next search starts."""
        return max(self._started_at, now) - LOOK_BACK

    def take_new(self, rows: Sequence[Mapping[str, Any]], *, now: datetime) -> list[Any]:
        """Return the rows not returned before, oldest first, and remember them.

        Args:
            rows: Newest first, as a search gives them.
            now: Forgets what no later search can find again.
        """
        fresh = [row for row in reversed(rows) if (row["tenant_id"], row["id"]) not in self._shown]
        self._shown.update({(row["tenant_id"], row["id"]): row["timestamp"] for row in fresh})
        limit = self.since(now)
        self._shown = {key: moment for key, moment in self._shown.items() if moment >= limit}
        return fresh
