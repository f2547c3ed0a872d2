"""Archived days for the tests of restore: lived up to a state, with a copy of the rows beside.

Here: days of all column types, the way to a state, what stands in the tables. The steps are the
real ones of `retention/advance.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from audit_platform.archive.compare import Comparison, compare_tables
from audit_platform.db.pool import Connection, connected
from audit_platform.retention.advance import advance
from audit_platform.retention.classes import RetentionClasses
from audit_platform.retention.partition import PartitionBounds
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import PartitionRow, read_partition
from tests.conftest import Database
from tests.factories import event, wire
from tests.integration.events.store import frame_of_lines, open_writer
from tests.integration.retention.lives import LONG_AGO, Life, begin_life, row_of

KEPT = "kept"
"""Table with the rows as they were before the partition was archived."""


def archived_life(
    database: Database,
    conn: Connection,
    place: Path,
    state: State,
    *,
    rows: int = 300,
    day: datetime = LONG_AGO,
    own_files: Sequence[str] = (),
) -> Life:
    """Make a day with rows of every type, keep a copy of them, and let it live up to a state."""
    life = begin_life(database, place, rows=rows, day=day)
    if rows:
        store_unusual(database, life.bounds)
    keep_copy(database, life.name)
    live_until(conn, life, state, own_files=own_files)
    assert row_of(conn, life).state is state
    return life


def live_until(
    conn: Connection, life: Life, state: State, *, own_files: Sequence[str] = ()
) -> None:
    """Take every step up to a state."""
    classes = RetentionClasses(own_rules=frozenset((one, "standard") for one in own_files))
    context = replace(life.context(), classes=classes)
    last = {State.VERIFIED: 1, State.DETACHED: 2, State.DROPPED: 3}[state]
    for moment in life.moments[:last]:
        advance(conn, row_of(conn, life), context, now=moment, until=None)


def store_unusual(database: Database, bounds: PartitionBounds) -> None:
    """Store rows with the values that types get wrong."""
    moment = bounds.lo + timedelta(hours=5)
    odd: list[dict[str, Any]] = [
        {"severity": 0, "sampled_rate": 0.1, "entity_label": ""},
        {"severity": 5, "sampled_rate": 1e-7, "description": 'tab\t newline\n back\\slash \\N ,"'},
        {"bulk_action_id": str(uuid4()), "bulk_item_no": 2**62, "trace_id": "a" * 32},
        {"actor_type": "bulk_action", "status": "denied", "user_label": "\u202e عربى 🦀 \x7f\x01"},
        {"impersonator_id": "root", "correlation_id": "  spaces  ", "user_id": ""},
    ]
    events = [
        event(timestamp=moment + timedelta(microseconds=n), **one) for n, one in enumerate(odd)
    ]
    lines = [wire(one) for one in events]
    numbers = event(timestamp=bounds.hi - timedelta(microseconds=1), metadata={"n": 1})
    # Bytes that neither a float nor a JSON parser gives back.
    lines.append(
        wire(numbers).replace(b'{"n":1}', b'{"n":1e400,"m":12345678901234567890.10,"k":-0.0}')
    )
    writer = open_writer(database.writer_url)
    counts = writer.save(frame_of_lines(lines))
    writer.connection.close()
    assert counts.n_new == len(lines), counts


def keep_copy(database: Database, name: str) -> None:
    """Copy the rows of a partition into a table of the same shape."""
    with connected(database.maint_url, application="test", role="audit_owner") as conn:
        conn.execute(f"create table audit.{KEPT} (like audit.event including all)".encode())
        conn.execute(f"insert into audit.{KEPT} select * from only audit.{name}".encode())


def differences(database: Database, table: str) -> Comparison:
    """Compare a table with the kept rows."""
    with connected(database.maint_url, application="test", role="audit_owner") as conn:
        return compare_tables(conn, KEPT, table)


def fresh(conn: Connection, life: Life) -> PartitionRow:
    """The record of the day now."""
    row = read_partition(conn, life.name)
    assert row is not None
    return row


def one_value(database: Database, statement: str, *values: object) -> Any:
    """First column of the first row, asked as the administrator."""
    with psycopg.connect(database.admin_url) as conn:
        row = conn.execute(statement.encode(), values).fetchone()
    return None if row is None else row[0]


def tables_like(database: Database, pattern: str) -> list[str]:
    """Tables of the schema by a pattern of LIKE."""
    with psycopg.connect(database.admin_url) as conn:
        rows = conn.execute(
            "select tablename from pg_tables where schemaname = 'audit' and tablename like %s"
            " order by tablename",
            [pattern],
        ).fetchall()
    return [row[0] for row in rows]


def alter_behind_the_seal(database: Database, statement: str) -> None:
    """Change a sealed table as a superuser can: with its triggers off."""
    with psycopg.connect(database.admin_url) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute(statement.encode())
