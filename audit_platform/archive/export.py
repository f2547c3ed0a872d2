"""Export of a sealed partition: one stream of rows into Parquet files and their manifest.

Here: the statement that reads the partition, which row goes to which file, the proof that no row
is missing, the manifest. Not here: the files (`archive/file_set.py`), the connection
(`db/arrow_rows.py`), recording the step (`retention/advance.py`), reading the files back
(`archive/verify.py`).
Guarantees: the rows are one snapshot; the manifest is written last, to both copies, so that it
never names a file that is not there; a repeat replaces whatever an interrupted export left; memory
does not grow with the number of rows.

Rows come from the partition alone (`only`), in the order of its primary key; a partition of more
than a day is read date by date in the same statement, since each date has files of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString, Protocol
from uuid import UUID

import pyarrow as pa
import pyarrow.compute
from psycopg import sql

from audit_platform.archive.columns import COLUMNS, TENANT, conform, schema_fingerprint
from audit_platform.archive.file_set import ExportPlan, FileSet
from audit_platform.archive.manifest import FileEntry, Group, Manifest, partition_root
from audit_platform.archive.routes import by_day, by_file, day_of
from audit_platform.archive.store import ArchiveStore
from audit_platform.db.arrow_rows import arrow_rows
from audit_platform.db.pool import OWNER_ROLE, Connection, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import ArchiveMismatch

# Made when it is imported, so that no type checker knows its functions.
_COMPUTE: Final[Any] = pyarrow.compute
_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_SETTINGS: Final[tuple[LiteralString, ...]] = (
    # Where the order needs a sort: fewer runs on the disk.
    "work_mem = '64MB'",
    # Compiling thirty columns costs half a second and saves nothing.
    "jit = off",
)


class SealedPartition(Protocol):
    """What is exported: a row of `audit.partition` with its root."""

    @property
    def name(self) -> str:
        """Table without schema."""
        ...

    @property
    def lo(self) -> datetime:
        """First moment."""
        ...

    @property
    def hi(self) -> datetime:
        """First moment after it."""
        ...

    @property
    def generation(self) -> int:
        """Grows when a sealed partition was opened again."""
        ...

    @property
    def n(self) -> int | None:
        """Rows at seal."""
        ...

    @property
    def min_id(self) -> UUID | None:
        """Smallest id at seal."""
        ...

    @property
    def max_id(self) -> UUID | None:
        """Largest id at seal."""
        ...

    @property
    def leaf_digest(self) -> bytes | None:
        """SHA-256 over the ordered leaves."""
        ...

    @property
    def root(self) -> bytes | None:
        """Merkle root over the groups."""
        ...

    def class_of(self, source: str, action: str) -> str:
        """Retention class that the seal gave to events of this source and action."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        files: In the order of their paths, filters included.
        manifest_sha256: 32 bytes.
        bytes: Of the Parquet files of one copy.
    """

    files: tuple[FileEntry, ...]
    manifest_path: str
    manifest_sha256: bytes
    rows: int
    bytes: int


@dataclass(slots=True)
class _Seen:
    """What came by, to be compared with the seal."""

    rows: int = 0
    min_id: bytes | None = None
    max_id: bytes | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        found = _COMPUTE.min_max(batch.column("id").storage).as_py()
        self.min_id = min(self.min_id or found["min"], found["min"])
        self.max_id = max(self.max_id or found["max"], found["max"])


def export_partition(
    conn: Connection,
    row: SealedPartition,
    store: ArchiveStore,
    copy_store: ArchiveStore | None,
    *,
    groups: Sequence[Group],
    file_tenant: Callable[[str, str], str | None],
    rows_per_group: int,
    file_bytes: int,
    now: datetime,
) -> ExportReport:
    """Write the files and the manifest of a sealed partition.

    Call it only under the lock of the partition, and only until the export is recorded: it begins
    by removing what lies in the archive of this partition and generation.

    Args:
        conn: As `audit_maint` or the owner, outside a transaction; the rows come through a second
            connection with the same login.
        row: Sealed, with its root.
        store: Takes each file first.
        copy_store: Takes the second copy; None keeps one.
        groups: Of the seal (`partition_table.read_groups`).
        file_tenant: Whose file takes the rows of a tenant and class: the tenant, or None for the
            file that tenants share.
        rows_per_group: Rows of a row group.
        file_bytes: Size at which the next file begins.
        now: Aware; noted in the manifest.

    Raises:
        ArchiveMismatch: The rows are not those of the seal; the archive holds nothing of them.
        ArchiveFull: No room; what was written is removed.
        ArchiveReadOnly: The archive takes no files.
        ArchiveUnavailable: Disk or network failed.
        ArchiveDamaged: The store gave back other bytes than it got.
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    if row.n is None or row.root is None or row.leaf_digest is None:
        raise ArchiveMismatch(f"{row.name} has no root yet: seal it, then export", name=row.name)
    if partition_root(groups) != row.root or sum(group.n for group in groups) != row.n:
        raise ArchiveMismatch(
            f"the groups of {row.name} do not give its root: restore audit.partition_group from "
            "a backup, or open the partition again and seal it",
            name=row.name,
        )
    plan = ExportPlan(
        name=row.name,
        lo=row.lo,
        hi=row.hi,
        generation=row.generation,
        rows_per_group=rows_per_group,
        file_bytes=file_bytes,
    )
    with FileSet(store, copy_store, plan) as file_set:
        _write_rows(conn, row, file_set, file_tenant)
        files = file_set.finish()
        manifest = Manifest(
            partition=row.name,
            lo=row.lo,
            hi=row.hi,
            generation=row.generation,
            n=row.n,
            min_id=row.min_id,
            max_id=row.max_id,
            leaf_digest=row.leaf_digest,
            root=row.root,
            schema_fingerprint=schema_fingerprint(),
            written_at=now,
            groups=tuple(groups),
            files=files,
        )
        sha256 = file_set.write_manifest(manifest)
    return ExportReport(
        files=files,
        manifest_path=manifest.path,
        manifest_sha256=bytes.fromhex(sha256),
        rows=row.n,
        bytes=sum(file.bytes for file in files),
    )


def _write_rows(
    conn: Connection,
    row: SealedPartition,
    file_set: FileSet,
    file_tenant: Callable[[str, str], str | None],
) -> None:
    seen = _Seen()
    statement = _select(row, is_sorted_by_bytes=_sorts_by_bytes(conn))
    with arrow_rows(conn, statement, role=OWNER_ROLE, settings=_SETTINGS) as batches:
        for batch in batches:
            rows = conform(batch)
            if not rows.num_rows:
                continue
            seen.add(rows)
            for day, part in by_day(rows, first=row.lo, last=row.hi - _MICROSECOND):
                for key, group in by_file(part, day, row.class_of, file_tenant):
                    file_set.add(group, key)
            file_set.close_finished(
                day=day_of(rows.column("timestamp")[-1].as_py()),
                tenant=rows.column(TENANT)[-1].as_py(),
            )
    _check_against_seal(row, seen)


def _select(row: SealedPartition, *, is_sorted_by_bytes: bool) -> sql.Composed:
    """Read all columns in the order of the files."""
    # With another collation the index is of no use here, and PostgreSQL sorts.
    tenant: LiteralString = "tenant_id" if is_sorted_by_bytes else 'tenant_id collate "C"'
    by_day: LiteralString = (
        """("timestamp" at time zone 'utc')::date, """ if row.hi - row.lo > _DAY else ""
    )
    return sql.SQL(
        'select {columns} from only {table} order by {by_day}{tenant}, "timestamp", id'
    ).format(
        columns=sql.SQL(", ").join(sql.Identifier(name) for name in COLUMNS),
        table=sql.Identifier("audit", row.name),
        by_day=sql.SQL(by_day),
        tenant=sql.SQL(tenant),
    )


def _sorts_by_bytes(conn: Connection) -> bool:
    with translated():
        found = conn.execute(load_queries("archive")["tell_whether_text_sorts_by_bytes"]).fetchone()
    return found == (True,)


def _check_against_seal(row: SealedPartition, seen: _Seen) -> None:
    """Compare what came by with the seal; leaves are proved by the process that verifies."""
    ids = tuple(
        None if value is None else UUID(bytes=value) for value in (seen.min_id, seen.max_id)
    )
    if seen.rows == row.n and ids == (row.min_id, row.max_id):
        return
    raise ArchiveMismatch(
        f"{row.name} holds {seen.rows:,} rows, its seal says {row.n:,}, or its first and last id "
        "differ: find out who changed a sealed partition; nothing was archived",
        name=row.name,
        rows=seen.rows,
        sealed_rows=row.n,
    )
