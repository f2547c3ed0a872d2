"""One search over hot partitions, late rows and the archive, with one cursor.

Here: the order of the parts, and one page out of them. Not here: PostgreSQL (`search/hot.py`),
archived partitions (`search/cold.py`), what is where (`search/border.py`), cursors
(`search/cursor.py`).
Guarantees: an event is found wherever it lies, also while it moves, and stands on one page only; a
position of the one part is a position of the other, so a cursor leads across the border. A search
whose page PostgreSQL fills with newer rows opens no file, and one whose time lies in hot partitions
only runs the statements it always ran.

PostgreSQL comes first and in one transaction: its rows, the border and the list of files are one
snapshot. Files are read after it, so that no detach waits for them. A file that is not there any
more expired or was replaced by a new generation meanwhile; a second snapshot knows which.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from audit_platform.db.pool import Connection
from audit_platform.errors import ArchiveMissing
from audit_platform.search.border import read_archived
from audit_platform.search.cold import Archive
from audit_platform.search.hot import (
    ArchiveUse,
    EventRow,
    Page,
    Searcher,
    find_newest,
    page_of,
    range_of,
)
from audit_platform.search.query import EventQuery
from audit_platform.search.time_limit import TimeLimit

_SNAPSHOTS: Final = 3
_MICROSECOND: Final = timedelta(microseconds=1)


class Everywhere:
    """Searches of one searcher over everything that is stored."""

    def __init__(
        self,
        searcher: Searcher,
        connection: Connection,
        archive: Archive,
        *,
        is_patient: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Search with an open connection.

        Args:
            searcher: Who asks.
            connection: From `searcher.connected`; outside a transaction whenever a search begins.
            archive: Where archived files lie.
            is_patient: The searcher's time is one of each statement, and the archive may take as
                long as it takes; else it is the time of the whole search.
            clock: Monotonic seconds.
        """
        self._searcher = searcher
        self._connection = connection
        self._archive = archive
        self._is_patient = is_patient
        self._clock = clock

    @classmethod
    @contextmanager
    def opened(
        cls, searcher: Searcher, archive: Archive, *, is_patient: bool = False
    ) -> Iterator["Everywhere"]:
        """Connect for one block of searches; arguments as of the class.

        Raises:
            DatabaseUnavailable: The server does not answer.
        """
        with searcher.connected() as connection:
            yield cls(searcher, connection, archive, is_patient=is_patient)

    def search(self, query: EventQuery, *, now: datetime) -> Page:
        """Find one page; a change of data between two pages moves no event into both.

        Args:
            query: A reader must name its tenant.
            now: Aware; the search starts a day after it.

        Raises:
            InvalidQuery: A reader without tenant, or the search took too long.
            DatabaseUnavailable: The server does not answer.
            ArchiveMissing: A file that the newest snapshot names is in no store.
            ArchiveDamaged: A file has no good copy.
            ArchiveUnavailable: A store does not answer.
        """
        limit = TimeLimit(
            self._searcher.timeout_s, is_for_each_part=self._is_patient, clock=self._clock
        )
        for _ in range(_SNAPSHOTS - 1):
            try:
                return self._search(query, now=now, limit=limit)
            except ArchiveMissing:
                continue
        return self._search(query, now=now, limit=limit)

    def pages(self, query: EventQuery, *, now: datetime) -> Iterator[Page]:
        """Find one page after the other, from the query's position to the end; raises as `search`.

        Args:
            query: Its limit is the size of a page.
            now: Aware; the same for all pages.
        """
        while True:
            page = self.search(query, now=now)
            yield page
            if page.next_position is None:
                return
            query = replace(query, after=page.next_position)

    def _search(self, query: EventQuery, *, now: datetime, limit: TimeLimit) -> Page:
        wanted = query.limit + 1
        oldest, newest = range_of(query, now=now)
        view = self._searcher.view
        with self._searcher.snapshot(self._connection, query, limit):
            border, rows = find_newest(self._connection, query, now=now, view=view, limit=limit)
            spans = border.archived_from(_oldest_needed(rows, wanted, oldest))
            partitions = read_archived(self._connection, spans, view=view) if spans else ()
        use = ArchiveUse()
        for partition in partitions:
            since = max(_oldest_needed(rows, wanted, oldest), partition.span.lo)
            until = min(newest, partition.span.hi - _MICROSECOND)
            if since > until:
                continue
            found, used = self._archive.search(
                partition, query, since=since, until=until, wanted=wanted, limit=limit
            )
            rows, use = _merge(found, rows)[:wanted], use + used
        return page_of(rows, query.limit, use)


def _oldest_needed(rows: Sequence[EventRow], wanted: int, oldest: datetime) -> datetime:
    """Before this moment nothing can come onto the page any more."""
    return rows[-1]["timestamp"] if len(rows) >= wanted else oldest


def _merge(archived: Sequence[EventRow], others: Sequence[EventRow]) -> list[EventRow]:
    """Newest first, each event once: as archived, since those bytes were proved."""
    events = {(row["tenant_id"], row["id"]): row for row in (*others, *archived)}
    return sorted(events.values(), key=_key, reverse=True)


def _key(row: EventRow) -> tuple[datetime, bytes, Any]:
    return row["timestamp"], row["tenant_id"].encode(), row["id"].bytes
