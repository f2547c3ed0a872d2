"""Events that the tests of exports store, as the ingest job does."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.conftest import Database
from tests.factories import event
from tests.integration.events.store import frame_of, open_writer

NOW = datetime.now(UTC)


def store_events(database: Database, events: list[dict[str, Any]]) -> list[str]:
    """Store events as the ingest job does; returns their ids."""
    writer = open_writer(database.writer_url)
    for first in range(0, len(events), 1_000):
        counts = writer.save(frame_of(events[first : first + 1_000]))
        assert counts.n_bad == 0
    writer.connection.close()
    return [one["id"] for one in events]


def recent(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Events of the last hours, newest first."""
    return [event(timestamp=NOW - timedelta(seconds=n + 1), **fields) for n in range(count)]
