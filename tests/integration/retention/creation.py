"""Days far ahead, rows in them, and waiting for a state of the server."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

from audit_platform.db.pool import Connection
from audit_platform.retention.partition import DAY, PartitionBounds, bounds_between

FAR = datetime(2031, 3, 1, tzinfo=UTC)
DEADLINE_S = 20.0

INSERT = """
insert into audit.event
  (id, "timestamp", received_at, ingested_at, batch_id, actor_type, source, action, leaf_hash)
values (gen_random_uuid(), %s, now(), now(), %s, 'user', 'test', 'test.insert', sha256('x'))
"""


def days(count: int, *, first: datetime = FAR) -> list[PartitionBounds]:
    """Make bounds of some days far ahead of those that every database has."""
    return bounds_between(first, first + (count - 1) * DAY, "day")


def tables(admin: Connection, prefix: str) -> set[str]:
    """List tables by the beginning of their name."""
    rows = admin.execute(
        "select tablename from pg_tables where schemaname = 'audit' and tablename like %s",
        [f"{prefix}%"],
    ).fetchall()
    return {row[0] for row in rows}


def until(condition: Callable[[], bool], *, what: str) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        pause.wait(0.01)


def insert(conn: Connection, moment: datetime) -> None:
    """Store one row as the writer may."""
    conn.execute(INSERT, [moment, uuid4()])
