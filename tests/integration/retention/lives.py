"""A day with real rows, an archive with two copies, and who sees which rows at a moment.

Here: what the tests of detach, drop and kills share. Rows are stored by the real consumer
transaction, so that leaves, ledger and partition agree as in production.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pyarrow.parquet as pq

from audit_platform.archive.store import ArchiveStore, open_store, read_bytes
from audit_platform.archive.verify import Recorded, verify
from audit_platform.archive.verify_apart import Verifier, verify_apart
from audit_platform.archive.verify_report import VerifyReport
from audit_platform.db.pool import Connection, connected
from audit_platform.retention.advance import LifecycleContext, StepReport, advance
from audit_platform.retention.classes import RetentionClasses
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import PartitionBounds, bounds_for
from audit_platform.retention.partition_states import HOT_STATES, LifecycleRules, State, Step
from audit_platform.retention.partition_table import PartitionRow, read_partition
from tests.conftest import Database
from tests.factories import event
from tests.integration.events.store import frame_of, open_writer

LONG_AGO = datetime(2025, 6, 1, tzinfo=UTC)
RULES = LifecycleRules(
    seal_after=timedelta(hours=48), hot_for=timedelta(days=30), grace=timedelta(days=7)
)
TENANTS = ("acme", "globex", "Ümlaut & Söhne")
LINES = 1_000
"""Rows stored per transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One day of a test, from its first row to its drop."""

    bounds: PartitionBounds
    ids: tuple[str, ...]
    archive: Path
    copy: Path

    @property
    def name(self) -> str:
        return self.bounds.name

    @property
    def sealing(self) -> datetime:
        """When seal, export and verification are due."""
        return self.bounds.hi + timedelta(hours=49)

    @property
    def detaching(self) -> datetime:
        return self.bounds.hi + timedelta(days=31)

    @property
    def dropping(self) -> datetime:
        return self.detaching + timedelta(days=8)

    @property
    def moments(self) -> tuple[datetime, ...]:
        return (self.sealing, self.detaching, self.dropping)

    def context(
        self, *, oldest_transaction_s: float = 30, patience_s: float = 60
    ) -> LifecycleContext:
        return context_of(
            self.archive.as_uri(),
            self.copy.as_uri(),
            oldest_transaction_s=oldest_transaction_s,
            patience_s=patience_s,
            verifier=verify_here,
        )


def verify_here(
    url: str, manifest_path: str, *, manifest_sha256: bytes | None, root: bytes | None
) -> VerifyReport:
    """The proof without the process: a new interpreter is most of the time of an archived day."""
    store = open_store(url)
    recorded = Recorded(manifest_sha256=manifest_sha256, root=root)
    return verify(read_bytes(store, manifest_path), store, recorded=recorded)


def context_of(
    url: str,
    copy_url: str,
    *,
    oldest_transaction_s: float,
    patience_s: float,
    verifier: Verifier = verify_apart,
) -> LifecycleContext:
    return LifecycleContext(
        rules=RULES,
        store=open_store(url),
        copy_store=open_store(copy_url),
        classes=RetentionClasses(),
        rows_per_group=1_000,
        file_bytes=64 << 20,
        oldest_transaction_s=oldest_transaction_s,
        patience_s=patience_s,
        verifier=verifier,
    )


def begin_life(
    database: Database, place: Path, *, rows: int = 1_000, day: datetime = LONG_AGO
) -> Life:
    """Make a day and store rows in it, spread over its hours and three tenants."""
    bounds = bounds_for(day, "day")
    with connected(database.maint_url, application="test") as conn:
        ensure_partitions(conn, [bounds])
    ids: list[str] = []
    writer = open_writer(database.writer_url)
    step = (bounds.hi - bounds.lo) / max(rows, 1)
    for first in range(0, rows, LINES):
        numbers = range(first, min(first + LINES, rows))
        events = [_event(number, bounds.lo + step * number) for number in numbers]
        counts = writer.save(frame_of(events))
        assert counts.n_new == len(events), counts
        ids += [one["id"] for one in events]
    writer.connection.close()
    return Life(
        bounds=bounds,
        ids=tuple(sorted(ids)),
        archive=place / "archive",
        copy=place / "copy",
    )


def _event(number: int, moment: datetime) -> dict[str, Any]:
    return event(
        timestamp=moment,
        tenant_id=TENANTS[number % len(TENANTS)],
        entity_id=str(number % 97),
        user_id=str(number % 13),
        status="failure" if number % 50 == 0 else "success",
        description=f"row {number} “quoted”, ünïcödé" if number % 3 else None,
    )


def live(
    conn: Connection, life: Life, *, now: datetime, until: Step | None = None, **options: float
) -> list[StepReport]:
    """Take the steps that are due at a moment."""
    row = read_partition(conn, life.name)
    assert row is not None
    return advance(conn, row, life.context(**options), now=now, until=until)


def row_of(conn: Connection, life: Life) -> PartitionRow:
    row = read_partition(conn, life.name)
    assert row is not None
    return row


@contextmanager
def reading(database: Database, *, url: str | None = None) -> Iterator["psycopg.Connection[Any]"]:
    """A reader's transaction as in the storage design, section 4.

    Args:
        database: Of the test.
        url: Who reads; None: the maintenance login, whose age the detach may see.
    """
    with psycopg.connect(url or database.maint_url, autocommit=True) as conn:
        conn.execute("set role audit_owner")
        conn.execute("begin isolation level repeatable read read only")
        conn.execute("lock table only audit.event in access share mode")
        yield conn
        conn.execute("rollback")


def count_hot(reader: "psycopg.Connection[Any]", life: Life) -> int:
    """Rows of the day that PostgreSQL shows."""
    row = reader.execute(
        'select count(*) from audit.event where "timestamp" >= %s and "timestamp" < %s',
        [life.bounds.lo, life.bounds.hi],
    ).fetchone()
    assert row is not None
    return row[0]


def visible_ids(database: Database, life: Life) -> list[str]:
    """Every row that a reader sees, with repeats if there were any: hot, cold and late."""
    store = open_store(life.archive.as_uri())
    with reading(database) as reader:
        found = reader.execute(
            "select state, files from audit.partition where name = %s", [life.name]
        ).fetchone()
        assert found is not None
        state, files = found
        late = _ids(reader, "audit.event_late", life)
        if State(state) in HOT_STATES:
            return sorted(late + _ids(reader, "audit.event", life))
        return sorted(late + cold_ids(store, [entry["path"] for entry in files]))


def cold_ids(store: ArchiveStore, paths: Sequence[str]) -> list[str]:
    ids: list[str] = []
    for path in paths:
        table = pq.read_table(io.BytesIO(read_bytes(store, path)), columns=["id"])
        ids += [_uuid_text(value) for value in table.column("id").to_pylist()]
    return ids


def _uuid_text(value: Any) -> str:
    """Arrow gives bytes or a UUID, by its version."""
    return str(value if isinstance(value, UUID) else UUID(bytes=value))


def _ids(reader: "psycopg.Connection[Any]", table: str, life: Life) -> list[str]:
    rows = reader.execute(
        f'select id from {table} where "timestamp" >= %s and "timestamp" < %s'.encode(),
        [life.bounds.lo, life.bounds.hi],
    ).fetchall()
    return [str(row[0]) for row in rows]


def leftovers(life: Life) -> list[str]:
    """Temporary files in either copy: anything that is neither a data file nor a manifest."""
    return [
        path.name
        for root in (life.archive, life.copy)
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in {".parquet", ".json"}
    ]


def has_table(database: Database, life: Life) -> bool:
    """Whether the table of the day is there."""
    with psycopg.connect(database.admin_url) as conn:
        row = conn.execute("select to_regclass(%s)", [f"audit.{life.name}"]).fetchone()
    return row is not None and row[0] is not None
