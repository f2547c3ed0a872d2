"""Searches in PostgreSQL: hot partitions and late rows.

Here: running an `EventQuery` in PostgreSQL. Not here: filters and cursors (`search/query.py`), the
transaction (`search/border.py`), archived partitions (`search/everywhere.py` adds them).
Guarantee: one page is one consistent snapshot, newest first, each event once; a reader sees the
tenant it names and no other.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

from audit_platform.db.pool import OWNER_ROLE, Connection, connected
from audit_platform.db.queries import load_queries
from audit_platform.errors import DatabaseUnavailable, InvalidQuery
from audit_platform.search.border import (
    OPERATOR_VIEW,
    TENANT_VIEW,
    Border,
    bound_statements,
    locked_snapshot,
    read_border,
)
from audit_platform.search.query import EARLIEST, EventQuery, Position, parameters
from audit_platform.search.time_limit import TimeLimit

# An operator's search over all tenants has no index that begins with the time: without a range it
# would sort every row. So a page is looked for in growing windows from the newest event on. Factor
# 8: at most 8 times the rows of the page are read, in a handful of statements.
FIRST_WINDOW: Final = timedelta(minutes=10)
WINDOW_GROWTH: Final = 8
# Nothing lies further ahead: the ingest job refuses events more than minutes ahead of its clock.
AHEAD: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_SHORTER: Final = 0.9
"""PostgreSQL is told anew once so much less than the bound of its statements is left."""

EventRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveUse:
    """What a search needed of the archive; partitions newer or older than its page not counted.

    Attributes:
        opened: Files whose rows were looked at.
        skipped: Files that their time, their tenants or a filter ruled out.
        expired: Files whose retention is over.
        groups_read: Row groups of the opened files that were read.
        groups_skipped: Row groups that their statistics ruled out, or that were too old.
    """

    opened: int = 0
    skipped: int = 0
    expired: int = 0
    groups_read: int = 0
    groups_skipped: int = 0

    def __add__(self, other: "ArchiveUse") -> "ArchiveUse":
        """Both together."""
        return ArchiveUse(
            opened=self.opened + other.opened,
            skipped=self.skipped + other.skipped,
            expired=self.expired + other.expired,
            groups_read=self.groups_read + other.groups_read,
            groups_skipped=self.groups_skipped + other.groups_skipped,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page: events newest first, JSON columns as their stored text.

    Attributes:
        next_position: Where the next page starts; None if this one is the last.
        archive: What was read of the archive.
    """

    rows: Sequence[EventRow]
    next_position: Position | None
    archive: ArchiveUse = ArchiveUse()


@dataclass(frozen=True, slots=True, kw_only=True)
class Searcher:
    """Who asks: the reader of one tenant, or an operator over all of them.

    Attributes:
        timeout_s: Longest search; see `search/time_limit.py`.
    """

    url: str
    is_operator: bool
    timeout_s: float

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection with the rights of this searcher, for one or more searches."""
        role = OWNER_ROLE if self.is_operator else None
        with connected(self.url, application="search", role=role) as connection:
            yield connection

    def search(self, connection: Connection, query: EventQuery, *, now: datetime) -> Page:
        """Find one page in PostgreSQL; a change of data between two pages moves no event into both.

        Args:
            connection: From `connected`; outside a transaction.
            query: A reader must name its tenant.
            now: Aware; the search starts a day after it.

        Raises:
            InvalidQuery: A reader without tenant, or the search took too long.
            DatabaseUnavailable: The server does not answer.
        """
        limit = TimeLimit(self.timeout_s)
        with self.snapshot(connection, query, limit):
            _, rows = find_newest(connection, query, now=now, view=self.view, limit=limit)
        return page_of(rows, query.limit)

    @contextmanager
    def snapshot(
        self, connection: Connection, query: EventQuery, limit: TimeLimit
    ) -> Iterator[None]:
        """The transaction of one search; see `search/border.py`.

        Raises:
            InvalidQuery: A reader without tenant, or the time of the search is over.
            DatabaseUnavailable: The server does not answer.
        """
        if query.tenant_id is None and not self.is_operator:
            raise InvalidQuery("a search as reader needs a tenant; add --tenant")
        try:
            with locked_snapshot(
                connection, view=self.view, tenant_id=query.tenant_id, limit=limit
            ):
                yield
        except DatabaseUnavailable as exc:
            if exc.sqlstate == "57014":
                raise limit.exceeded() from exc
            raise

    @property
    def view(self) -> str:
        """What this searcher reads in PostgreSQL."""
        return OPERATOR_VIEW if self.is_operator else TENANT_VIEW


def range_of(query: EventQuery, *, now: datetime) -> tuple[datetime, datetime]:
    """Oldest and newest moment of what a search can find, both inclusive; maybe the wrong way."""
    newest = query.until - _MICROSECOND if query.until else now + AHEAD
    if query.after is not None:
        newest = min(newest, query.after.timestamp)
    return query.since or EARLIEST, newest


def find_newest(
    connection: Connection, query: EventQuery, *, now: datetime, view: str, limit: TimeLimit
) -> tuple[Border, list[EventRow]]:
    """Find the newest rows in PostgreSQL, one more than a page holds.

    Args:
        connection: Inside `Searcher.snapshot`.
        query: What to find.
        now: Aware.
        view: What is read.
        limit: Of the search.

    Returns:
        The border that the snapshot sees, and at most one row more than the limit of the query.

    Raises:
        InvalidQuery: The time of the search is over.
    """
    oldest, newest = range_of(query, now=now)
    if oldest > newest:
        return Border(hot=(), archived=()), []
    border = read_border(connection, since=oldest, until=newest)
    given = parameters(query)
    wanted: int = given["limit"]
    bound_s = limit.left_s
    found: dict[tuple[str, Any], EventRow] = {}
    for since, until in _windows(oldest, newest, oldest_hot=border.oldest_hot, now=now):
        window = given | {"since": since, "until": until}
        while len(found) < wanted:
            limit.check()
            if limit.left_s < bound_s * _SHORTER:
                bound_s = limit.left_s
                bound_statements(connection, bound_s)
            asked = wanted - len(found)
            rows = _read(connection, view, window | {"limit": asked})
            # A late row that is being merged may stand in both tables for a moment.
            for row in rows:
                found.setdefault((row["tenant_id"], row["id"]), row)
            if len(rows) < asked:
                break
            window |= _after(rows[-1])
        if len(found) >= wanted:
            break
    return border, list(found.values())


def page_of(rows: Sequence[EventRow], limit: int, archive: ArchiveUse = ArchiveUse()) -> Page:
    """Cut a page out of its rows and, where there is more, the first row of the next one."""
    if len(rows) <= limit:
        return Page(rows=rows, next_position=None, archive=archive)
    last = rows[limit - 1]
    position = Position(
        timestamp=last["timestamp"].astimezone(UTC),
        tenant_id=last["tenant_id"],
        event_id=str(last["id"]),
    )
    return Page(rows=rows[:limit], next_position=position, archive=archive)


def _read(connection: Connection, view: str, window: dict[str, Any]) -> list[EventRow]:
    # Not prepared: each statement is planned for its own values, so that null filters fold away.
    cursor = connection.execute(_statement(view), window, prepare=False)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, values, strict=True)) for values in cursor]


def _statement(view: str) -> LiteralString:
    statement = load_queries("search")["search_events"]
    if view == TENANT_VIEW:
        return statement
    # Same columns, same filters; the view differs, and the order of tenants within a microsecond:
    # the archive knows that of bytes only, the collation of this database may be another. A reader
    # has one tenant, and its index has the collation of the database: there it must not stand.
    return (
        statement.replace(TENANT_VIEW, OPERATOR_VIEW)
        .replace('("timestamp", tenant_id, id)', '("timestamp", tenant_id collate "C", id)')
        .replace("tenant_id desc", 'tenant_id collate "C" desc')
    )


def _after(row: EventRow) -> dict[str, Any]:
    return {
        "after_timestamp": row["timestamp"],
        "after_tenant": row["tenant_id"],
        "after_id": row["id"],
    }


def _windows(
    oldest: datetime, newest: datetime, *, oldest_hot: datetime | None, now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Ranges from the newest to the oldest moment, without gap or overlap; both ends included.

    They grow as far as PostgreSQL's partitions reach. Before them are late rows only: few, and read
    in one piece.
    """
    floor = newest if oldest_hot is None else max(oldest, oldest_hot)
    hi, lo, width = newest, min(newest, now) - FIRST_WINDOW, FIRST_WINDOW
    while lo > floor:
        yield lo, hi
        width *= WINDOW_GROWTH
        hi, lo = lo - _MICROSECOND, lo - width
    yield oldest, hi
