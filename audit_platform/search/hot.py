"""Searches in PostgreSQL: hot partitions and late rows.

Here: running an `EventQuery` and the boundary protocol of the storage design, section 4. Not here:
filters and cursors (`search/query.py`); archives, which come with their issue.
Guarantee: one page is one consistent snapshot, newest first, each event once; a reader sees the
tenant it names and no other.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

from audit_platform.db.pool import OWNER_ROLE, Connection, connected, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import DatabaseUnavailable, InvalidQuery
from audit_platform.search.query import EARLIEST, EventQuery, Position, parameters

# An operator's search over all tenants has no index that begins with the time: without a range it
# would sort every row. So a page is looked for in growing windows from the newest event on. Factor
# 8: at most 8 times the rows of the page are read, in a handful of statements.
FIRST_WINDOW: Final = timedelta(minutes=10)
WINDOW_GROWTH: Final = 8
# Nothing lies further ahead: the ingest job refuses events more than minutes ahead of its clock.
AHEAD: Final = timedelta(days=1)
_TENANT_VIEW: Final = "event_read"
_OPERATOR_VIEW: Final = "event_all"
# LOCK cannot be prepared, so it stands here and not among the named queries.
_LOCK: Final[Mapping[str, LiteralString]] = {
    _TENANT_VIEW: "lock table audit.event_read in access share mode",
    _OPERATOR_VIEW: "lock table only audit.event in access share mode",
}
_BEGIN: Final = "begin isolation level repeatable read read only"
_MICROSECOND: Final = timedelta(microseconds=1)

EventRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page: events newest first, JSON columns as their stored text.

    Attributes:
        next_position: Where the next page starts; None if this one is the last.
    """

    rows: Sequence[EventRow]
    next_position: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Searcher:
    """Who asks: the reader of one tenant, or an operator over all of them."""

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
        """Find one page; a change of data between two pages moves no event into both.

        Args:
            connection: From `connected`; outside a transaction.
            query: A reader must name its tenant.
            now: Aware; the search starts a day after it.

        Raises:
            InvalidQuery: A reader without tenant, or the search took too long.
            DatabaseUnavailable: The server does not answer.
        """
        if query.tenant_id is None and not self.is_operator:
            raise InvalidQuery("a search as reader needs a tenant; add --tenant")
        return search_events(connection, query, now=now, view=self._view, timeout_s=self.timeout_s)

    @property
    def _view(self) -> str:
        return _OPERATOR_VIEW if self.is_operator else _TENANT_VIEW


def search_events(
    connection: Connection, query: EventQuery, *, now: datetime, view: str, timeout_s: float
) -> Page:
    """Find one page in one snapshot.

    Args:
        connection: With the rights that `view` needs; outside a transaction.
        query: What to find.
        now: Aware.
        view: What is read: `event_read` (one tenant) or `event_all` (operators).
        timeout_s: Longest time of one statement.

    Raises:
        InvalidQuery: A statement took longer than `timeout_s`.
        DatabaseUnavailable: The server does not answer.
    """
    try:
        with translated(), _snapshot(connection, query, view=view, timeout_s=timeout_s):
            rows = _find(connection, query, now=now, view=view)
    except DatabaseUnavailable as exc:
        if exc.sqlstate == "57014":
            raise InvalidQuery(
                f"the search took longer than {timeout_s:g} s; narrow it with --since, --entity "
                "or --user, or raise AUDIT_SEARCH_TIMEOUT_S"
            ) from exc
        raise
    return _page(rows, query.limit)


@contextmanager
def _snapshot(
    connection: Connection, query: EventQuery, *, view: str, timeout_s: float
) -> Iterator[None]:
    """A read-only transaction whose snapshot agrees with the partitions it sees.

    The lock comes before the first SELECT: a detach that began earlier is waited for, one that
    begins later waits for us. Without it a reader got 0 of 1,040 rows (storage design, section 4).
    """
    queries = load_queries("search")
    connection.execute(_BEGIN)
    try:
        connection.execute(_LOCK[view])
        connection.execute(queries["set_tenant"], {"tenant_id": query.tenant_id or ""})
        milliseconds = str(max(int(timeout_s * 1000), 1))
        connection.execute(queries["set_search_timeout"], {"timeout_ms": milliseconds})
        yield
    finally:
        if not connection.closed and not connection.broken:
            connection.execute("rollback")


def _find(connection: Connection, query: EventQuery, *, now: datetime, view: str) -> list[EventRow]:
    given = parameters(query)
    wanted: int = given["limit"]
    found: dict[tuple[str, Any], EventRow] = {}
    for since, until in _windows(connection, query, now=now):
        window = given | {"since": since, "until": until}
        while len(found) < wanted:
            asked = wanted - len(found)
            rows = _read(connection, view, window | {"limit": asked})
            # A late row that is being merged may stand in both tables for a moment.
            found |= {(row["tenant_id"], row["id"]): row for row in rows}
            if len(rows) < asked:
                break
            window |= _after(rows[-1])
        if len(found) >= wanted:
            break
    return list(found.values())


def _read(connection: Connection, view: str, window: dict[str, Any]) -> list[EventRow]:
    statement = load_queries("search")["search_events"]
    if view == _OPERATOR_VIEW:
        # Same columns, same filters, the view alone differs.
        statement = statement.replace(_TENANT_VIEW, _OPERATOR_VIEW)
    # Not prepared: each statement is planned for its own values, so that null filters fold away.
    cursor = connection.execute(statement, window, prepare=False)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, values, strict=True)) for values in cursor]


def _after(row: EventRow) -> dict[str, Any]:
    return {
        "after_timestamp": row["timestamp"],
        "after_tenant": row["tenant_id"],
        "after_id": row["id"],
    }


def _windows(
    connection: Connection, query: EventQuery, *, now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Ranges from the newest to the oldest moment, without gap or overlap; both ends included."""
    reach = connection.execute(load_queries("search")["find_oldest_partition"]).fetchone()
    floor = query.since or EARLIEST
    oldest = max(floor, reach[0]) if reach and reach[0] else floor
    hi = query.until - _MICROSECOND if query.until else now + AHEAD
    if query.after is not None:
        hi = min(hi, query.after.timestamp)
    lo, width = min(hi, now) - FIRST_WINDOW, FIRST_WINDOW
    while lo > oldest:
        yield lo, hi
        width *= WINDOW_GROWTH
        hi, lo = lo - _MICROSECOND, lo - width
    if floor <= hi:
        yield floor, hi


def _page(rows: list[EventRow], limit: int) -> Page:
    if len(rows) <= limit:
        return Page(rows=rows, next_position=None)
    kept = rows[:limit]
    last = kept[-1]
    position = Position(
        timestamp=last["timestamp"].astimezone(UTC),
        tenant_id=last["tenant_id"],
        event_id=str(last["id"]),
    )
    return Page(rows=kept, next_position=position)
