"""A program that counts the events of one day a hundred times a second, wherever they are.

It reads as the storage design demands of every reader (section 4): lock, snapshot, states, then
rows from PostgreSQL, late ones included, and from the files of that snapshot. Counted are ids: a
row that stands in two places for a moment is one event. As an operator it locks the parent, as a
tenant the view.
"""

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from psycopg import sql

from audit_platform.archive.store import ArchiveStore, open_store, read_bytes
from audit_platform.db.pool import Connection, connect
from audit_platform.search.border import (
    OPERATOR_VIEW,
    TENANT_VIEW,
    locked_snapshot,
    read_archived,
    read_border,
)
from audit_platform.search.time_limit import TimeLimit
from tests.integration.retention.companion import options, report, say_ready

POLL_S: Final = 0.01
MICROSECOND: Final = timedelta(microseconds=1)
_IDS: Final = sql.SQL(
    "select string_agg(encode(uuid_send(id), 'hex'), ',') from {}"
    ' where "timestamp" >= %s and "timestamp" < %s'
)


@dataclass(slots=True, kw_only=True)
class Reader:
    """One reader with its connection."""

    conn: Connection
    store: ArchiveStore
    lo: datetime
    hi: datetime
    tenant: str | None
    changes: list[int] = field(default_factory=list[int])
    """Counts, each time another one than before was seen."""
    places: list[str] = field(default_factory=list[str])
    """Where the day was, each time that changed."""
    twice: int = 0
    """Polls in which PostgreSQL alone showed an event of a hot day twice."""
    longest_s: float = 0.0
    polls: int = 0

    def poll(self) -> None:
        """Count once, in one snapshot."""
        began = time.monotonic()
        view = OPERATOR_VIEW if self.tenant is None else TENANT_VIEW
        limit = TimeLimit(10)
        with locked_snapshot(self.conn, view=view, tenant_id=self.tenant, limit=limit):
            border = read_border(self.conn, since=self.lo, until=self.hi - MICROSECOND)
            archived = read_archived(self.conn, border.archived, view=view)
            found = self._ids_of_postgres(view)
        if border.hot:
            self.twice += len(found) != len(set(found))
        for path in (entry.path for partition in archived for entry in partition.files):
            found += self._ids_of_file(path)
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        self.polls += 1
        _note(self.changes, len(set(found)))
        _note(self.places, "PostgreSQL" if border.hot else "archive")

    def _ids_of_postgres(self, view: str) -> list[str]:
        """One text for all ids: a hundred times a second, values of their own would be the load."""
        row = self.conn.execute(
            _IDS.format(sql.Identifier("audit", view)), [self.lo, self.hi]
        ).fetchone()
        return row[0].split(",") if row and row[0] else []

    def _ids_of_file(self, path: str) -> list[str]:
        # Not a Python file: a reading thread that lets go of one while the interpreter ends aborts.
        content = pa.BufferReader(read_bytes(self.store, path))
        table = pq.read_table(content, columns=["id", "tenant_id"])
        if self.tenant is not None:
            table = table.filter(pc.field("tenant_id") == self.tenant)
        ids = table.column("id").combine_chunks()
        stored = ids.storage if isinstance(ids, pa.ExtensionArray) else ids
        return [value.hex() for value in stored.to_pylist()]


def _note(seen: list[Any], value: object) -> None:
    if not seen or seen[-1] != value:
        seen.append(value)


def main() -> None:
    """Poll until the test asks for the report."""
    given, end = options()
    reader = Reader(
        conn=connect(given["url"], application="border reader", role=given["role"]),
        store=open_store(given["archive_url"]),
        lo=datetime.fromisoformat(given["lo"]),
        hi=datetime.fromisoformat(given["hi"]),
        tenant=given["tenant"],
    )
    # What is imported and prepared first does not count as a long poll.
    for _ in range(5):
        reader.poll()
    reader.longest_s, reader.polls = 0.0, 0
    say_ready()
    began = time.monotonic()
    _poll_until(end, reader)
    report(
        {
            "changes": reader.changes,
            "places": reader.places,
            "twice": reader.twice,
            "longest_s": round(reader.longest_s, 4),
            "hz": round(reader.polls / (time.monotonic() - began), 1),
            "polls": reader.polls,
        }
    )


def _poll_until(end: Event, reader: Reader) -> None:
    due = time.monotonic()
    while not end.is_set():
        reader.poll()
        due = max(due + POLL_S, time.monotonic())
        end.wait(due - time.monotonic())


if __name__ == "__main__":
    main()
