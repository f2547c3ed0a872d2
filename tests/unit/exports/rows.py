"""Events as a search returns them, and a search over a list of them.

Here: what the tests of exports share. The search is a plain function with the contract of a page
source: newest first, at most `limit`, the position of the next page.
"""

import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from audit_platform.archive.store import ArchiveSink
from audit_platform.exports.cells import COLUMNS
from audit_platform.exports.progress import ExportProgress
from audit_platform.search.hot import Page
from audit_platform.search.query import EventQuery, Position

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def row(number: int = 0, **override: Any) -> dict[str, Any]:
    """One event; higher numbers are older."""
    made: dict[str, Any] = dict.fromkeys(COLUMNS)
    return made | {
        "id": UUID(int=(0x0199 << 112) + (7 << 76) + (2 << 62) + number),
        "timestamp": NOW - timedelta(seconds=number + 1, microseconds=7),
        "tenant_id": "acme",
        "source": "user",
        "action": "order.create",
        "status": "success",
        "actor_type": "user",
        "metadata": f'{{"n": {number}}}',
        "context": "{}",
        "sampled_rate": 1.0,
        "schema_version": 1,
        "batch_id": UUID(int=1),
        "received_at": NOW,
        "ingested_at": NOW,
        **override,
    }


def pages_of(
    rows: Sequence[dict[str, Any]], *, before: Callable[[EventQuery], None] = lambda _: None
) -> Callable[[EventQuery], Page]:
    """A search over rows in order, newest first.

    Args:
        rows: All of them.
        before: Called with each query; may raise, as a search may.
    """

    def search(query: EventQuery) -> Page:
        before(query)
        left = list(rows)
        if query.after is not None:
            ids = [str(one["id"]) for one in rows]
            left = left[ids.index(query.after.event_id) + 1 :]
        found, rest = left[: query.limit], left[query.limit :]
        return Page(rows=found, next_position=_position(found[-1]) if rest else None)

    return search


def _position(last: dict[str, Any]) -> Position:
    return Position(
        timestamp=last["timestamp"], tenant_id=last["tenant_id"], event_id=str(last["id"])
    )


class MemorySink(ArchiveSink):
    """A file in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.content = io.BytesIO()

    def _write_all(self, data: memoryview) -> None:
        self.content.write(data)


class Heard:
    """Keeps every report of progress."""

    def __init__(self) -> None:
        self.reports: list[ExportProgress] = []

    def __call__(self, progress: ExportProgress) -> None:
        self.reports.append(progress)
