"""Which events lie in PostgreSQL and which in the archive, as one snapshot sees it.

Here: the transaction every reader of events runs in, and the list of partitions it reads there.
Not here: the searches (`search/hot.py`, `search/cold.py`), the states
(`retention/partition_states.py`).
Guarantee: inside `locked_snapshot` the list of partitions, the partitions that PostgreSQL scans and
the late rows agree: a day is in one place, never in none. Held by five statements in this order:

    begin isolation level repeatable read read only
    set local statement_timeout           takes no snapshot, and bounds the wait for the lock too
    lock table … in access share mode     before the first SELECT, so before the snapshot: a detach
                                          that began earlier is waited for, a later one waits for us
    select … from audit.partition         the border
    select … from the events

The border moves to the archive (`detach_started`) before the detach begins, so a snapshot that
misses the rows sees the state. Without the lock a reader got 0 of 1,040 rows.

The view of readers joins partitions and late rows and cannot tell them apart. A SELECT over the
range of an archived partition therefore gives its late rows and, until a detach that has just
begun is done, rows that are archived already: equal rows, which `search/everywhere.py` takes once.

Source: storage design, section 4 (run on PostgreSQL 16.14 and 18.4).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from audit_platform.archive.manifest import FileEntry
from audit_platform.db.pool import Connection, translated
from audit_platform.db.queries import load_queries
from audit_platform.retention.partition_states import HOT_STATES
from audit_platform.search.time_limit import TimeLimit

TENANT_VIEW: Final = "event_read"
OPERATOR_VIEW: Final = "event_all"
# LOCK cannot be prepared, so it stands here and not among the named queries.
_LOCK: Final[Mapping[str, LiteralString]] = {
    # The reader has no right on the table; a lock on the view takes the tables below it.
    TENANT_VIEW: "lock table audit.event_read in access share mode",
    OPERATOR_VIEW: "lock table only audit.event in access share mode",
}
_FILES: Final[Mapping[str, str]] = {
    TENANT_VIEW: "list_archive_files_of_tenant",
    OPERATOR_VIEW: "list_archive_files",
}
_BEGIN: Final = "begin isolation level repeatable read read only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The range of one partition: `lo` inclusive, `hi` exclusive."""

    name: str
    lo: datetime
    hi: datetime
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Border:
    """Partitions of a range by the place of their rows, each list newest first."""

    hot: tuple[Span, ...]
    archived: tuple[Span, ...]

    @property
    def oldest_hot(self) -> datetime | None:
        """First moment that PostgreSQL's partitions of the range hold."""
        return self.hot[-1].lo if self.hot else None

    def archived_from(self, since: datetime) -> tuple[Span, ...]:
        """Archived partitions that reach to a moment or beyond."""
        return tuple(span for span in self.archived if span.hi > since)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedPartition:
    """An archived partition and the files that hold its rows."""

    span: Span
    files: tuple[FileEntry, ...]


@contextmanager
def locked_snapshot(
    connection: Connection, *, view: str, tenant_id: str | None, limit: TimeLimit
) -> Iterator[None]:
    """A read-only transaction whose snapshot agrees with the partitions it sees.

    Args:
        connection: Outside a transaction, with the rights that `view` needs.
        view: `TENANT_VIEW` or `OPERATOR_VIEW`.
        tenant_id: Whose events the view of readers shows; None: nobody's.
        limit: Of the search.

    Raises:
        DatabaseError: A statement failed; PostgreSQL's errors inside the block are translated.
    """
    queries = load_queries("search")
    with translated():
        connection.execute(_BEGIN)
        try:
            bound_statements(connection, limit.left_s)
            connection.execute(_LOCK[view])
            connection.execute(queries["set_tenant"], {"tenant_id": tenant_id or ""})
            yield
        finally:
            if not connection.closed and not connection.broken:
                connection.execute("rollback")


def bound_statements(connection: Connection, longest_s: float) -> None:
    """Bound the time of each statement from now on, to the end of the transaction.

    Args:
        connection: Inside a transaction.
        longest_s: At least a millisecond is given: 0 would mean no bound.
    """
    milliseconds = max(int(longest_s * 1000), 1)
    # SET takes no parameters, and set_config would take a snapshot before the lock.
    connection.execute(f"set local statement_timeout = {milliseconds:d}".encode())


def read_border(connection: Connection, *, since: datetime, until: datetime) -> Border:
    """Read which partitions of a range are where.

    Args:
        connection: Inside `locked_snapshot`.
        since: Aware, inclusive.
        until: Aware, inclusive.
    """
    rows = connection.execute(
        load_queries("search")["list_partitions_in_range"], {"since": since, "until": until}
    ).fetchall()
    places: dict[bool, list[Span]] = {True: [], False: []}
    for name, lo, hi, generation, state in rows:
        places[state in HOT_STATES].append(Span(name=name, lo=lo, hi=hi, generation=generation))
    return Border(hot=tuple(places[True]), archived=tuple(places[False]))


def read_archived(
    connection: Connection, spans: Sequence[Span], *, view: str
) -> tuple[ArchivedPartition, ...]:
    """Read the files of archived partitions, in the order given.

    Args:
        connection: Inside the same `locked_snapshot` as the border.
        spans: From the border.
        view: As of the snapshot: a reader is not told of files of other tenants.

    Raises:
        ArchiveDamaged: An entry has not the form that the export writes.
    """
    names = [span.name for span in spans]
    rows = connection.execute(load_queries("search")[_FILES[view]], {"names": names})
    files = {name: tuple(map(FileEntry.from_json, entries)) for name, entries in rows}
    return tuple(ArchivedPartition(span=span, files=files[span.name]) for span in spans)
