"""Rows of `audit.partition`: read, locked against a second copy, changed by guarded steps.

Here: the record of a partition and one function per step, each a single guarded statement. Not
here: which step is due (`retention/partition_states.py`), what a step does before it is recorded
(`retention/seal.py`, `archive/`, `retention/detach.py`, `retention/drop.py`), former generations
(`retention/partition_generations.py`).
Guarantee: a step is recorded only from the state before it; a repeat, or a second copy of the job,
gets False and has changed nothing. The table itself refuses a skipped step.

Every function works inside a transaction of the caller or makes its own. Time is a parameter.

Length: one function per arrow of the state machine; in two modules nobody would see them as one
table.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from audit_platform.archive.manifest import FileEntry, Group
from audit_platform.db.pool import Connection, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import PartitionBusy
from audit_platform.retention.lifecycle import DDL_LOCK_KEY, as_owner
from audit_platform.retention.partition_states import State

DEFAULT_CLASS: Final = "standard"
"""Retention class of events that no row of `audit.retention_class` names."""
_MAX_ERROR_LENGTH: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedContents:
    """What the rows of a sealed partition came to.

    Attributes:
        n: Rows.
        min_id: Smallest id; None for an empty partition.
        max_id: Largest id; None likewise.
        leaf_digest: SHA-256 over all leaves in order of id, then leaf.
        root: Merkle root over the group records.
        groups: Of each tenant and retention class, in the order of the records.
        classes: Retention class of each (source, action) that is not `DEFAULT_CLASS`.
    """

    n: int
    min_id: UUID | None
    max_id: UUID | None
    leaf_digest: bytes
    root: bytes
    groups: tuple[Group, ...]
    classes: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRow:
    """One row of `audit.partition`, as it was when read."""

    name: str
    lo: datetime
    hi: datetime
    generation: int
    state: State
    n: int | None = None
    min_id: UUID | None = None
    max_id: UUID | None = None
    leaf_digest: bytes | None = None
    root: bytes | None = None
    seal_no: int | None = None
    files: tuple[FileEntry, ...] = ()
    manifest_sha256: bytes | None = None
    verified_by: str | None = None
    classes: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    opened_at: datetime | None = None
    sealed_at: datetime | None = None
    seal_checked_at: datetime | None = None
    indexed_at: datetime | None = None
    exported_at: datetime | None = None
    verified_at: datetime | None = None
    detached_at: datetime | None = None
    dropped_at: datetime | None = None
    last_error: str | None = None
    restored_at: datetime | None = None
    restored_as: str | None = None

    @property
    def stepped_at(self) -> datetime | None:
        """When its last step was recorded; None while it was never sealed."""
        known = (
            *(self.sealed_at, self.seal_checked_at, self.indexed_at, self.exported_at),
            *(self.verified_at, self.detached_at),
        )
        return max((moment for moment in known if moment is not None), default=None)

    @property
    def returned_at(self) -> datetime | None:
        """When it was attached again; a table beside the archive does not count."""
        return self.restored_at if self.restored_as == self.name else None

    def class_of(self, source: str, action: str) -> str:
        """Retention class that the seal gave to events of this source and action.

        The export asks here and not the rules: they may have changed since, and the group roots
        must stay those of the seal.
        """
        return self.classes.get((source, action), DEFAULT_CLASS)


@contextmanager
def one_at_a_time(conn: Connection, name: str) -> Iterator[None]:
    """Keep every other process from working on this partition, for one block.

    A lock of the session: it ends with the process, however that ends. The same session may take
    it again inside.

    Args:
        conn: Outside a transaction; no pooler in between.
        name: Table without schema.

    Raises:
        PartitionBusy: Another session holds it.
    """
    queries = load_queries("partitions")
    key = {"name": name, "key": DDL_LOCK_KEY}
    with translated():
        found = conn.execute(queries["try_partition_lock"], key).fetchone()
    if found != (True,):
        raise PartitionBusy(
            f"another process works on {name}; let it finish, the step is repeated", name=name
        )
    try:
        yield
    finally:
        # A broken connection has given the lock back already.
        if not conn.closed and not conn.broken:
            with translated():
                conn.execute(queries["release_partition_lock"], key)


def read_partition(conn: Connection, name: str) -> PartitionRow | None:
    """Read one record.

    Args:
        conn: As `audit_maint` or the owner.
        name: Table without schema.

    Returns:
        None if no partition of this name was ever made.
    """
    rows = _read(conn, name)
    return rows[0] if rows else None


def list_partitions(conn: Connection) -> list[PartitionRow]:
    """Read all records, in order of time."""
    return _read(conn, None)


def read_groups(conn: Connection, name: str, generation: int) -> tuple[Group, ...]:
    """Read what a sealed generation holds of each tenant and class, in the order of its root."""
    with as_owner(conn):
        rows = conn.execute(
            load_queries("partitions")["read_partition_groups"],
            {"name": name, "generation": generation},
        ).fetchall()
    return tuple(
        Group(tenant_id=tenant_id, retention_class=retention_class, n=n, root=root)
        for tenant_id, retention_class, n, root in rows
    )


def mark_sealed(conn: Connection, name: str, *, ended_before: datetime, now: datetime) -> bool:
    """Record `open` → `sealed`; the triggers belong into the same transaction.

    Args:
        conn: As `audit_maint` or the owner.
        name: Table without schema.
        ended_before: The range must have ended by then.
        now: Aware.

    Returns:
        False if it was not open, or has not ended for long enough.
    """
    return _changed(conn, "mark_sealed", {"name": name, "ended_before": ended_before, "now": now})


def mark_root(
    conn: Connection, name: str, *, generation: int, contents: SealedContents, now: datetime
) -> bool:
    """Record what a sealed partition holds, with its group roots, in one transaction."""
    key = {"name": name, "generation": generation}
    groups = contents.groups
    classes = sorted([*pair, named] for pair, named in contents.classes.items())
    with as_owner(conn):
        given = {
            "n": contents.n,
            "min_id": contents.min_id,
            "max_id": contents.max_id,
            "leaf_digest": contents.leaf_digest,
            "root": contents.root,
            "classes": json.dumps(classes),
            "now": now,
        }
        if not _changed(conn, "mark_root", key | given):
            return False
        rows = {
            "tenant_ids": [group.tenant_id for group in groups],
            "retention_classes": [group.retention_class for group in groups],
            "counts": [group.n for group in groups],
            "roots": [group.root for group in groups],
        }
        conn.execute(load_queries("partitions")["insert_partition_groups"], key | rows)
    return True


def mark_indexed(conn: Connection, name: str, *, generation: int, now: datetime) -> bool:
    """Record that the cold indexes are there; the state stays `sealed`."""
    return _changed(conn, "mark_indexed", {"name": name, "generation": generation, "now": now})


def mark_exported(
    conn: Connection,
    name: str,
    *,
    generation: int,
    files: Sequence[FileEntry],
    manifest_sha256: bytes,
    now: datetime,
) -> bool:
    """Record `sealed` → `exported`; every file and the manifest lie in the archive."""
    given = {
        "name": name,
        "generation": generation,
        "files": _files_text(files),
        "manifest_sha256": manifest_sha256,
        "now": now,
    }
    return _changed(conn, "mark_exported", given)


def mark_verified(
    conn: Connection,
    name: str,
    *,
    generation: int,
    manifest_sha256: bytes,
    verified_by: str,
    now: datetime,
) -> bool:
    """Record `exported` → `verified`.

    Args:
        conn: As `audit_maint` or the owner.
        name: Table without schema.
        generation: That was verified.
        manifest_sha256: Of the manifest that was read; another one was not verified.
        verified_by: Process and host that re-read the archive.
        now: Aware.
    """
    given = {
        "name": name,
        "generation": generation,
        "manifest_sha256": manifest_sha256,
        "verified_by": verified_by,
        "now": now,
    }
    return _changed(conn, "mark_verified", given)


def mark_detach_started(conn: Connection, name: str) -> bool:
    """Record `verified` → `detach_started`: readers go to the archive from the commit on.

    Returns:
        False also while an active hold wants the rows in PostgreSQL.
    """
    return _changed(conn, "mark_detach_started", {"name": name})


def mark_detached(conn: Connection, name: str, *, now: datetime) -> bool:
    """Record `detach_started` → `detached`.

    Returns:
        False also while the catalog still knows the table as a partition, half detached included.
    """
    return _changed(conn, "mark_detached", {"name": name, "now": now})


def mark_dropped(
    conn: Connection,
    name: str,
    *,
    generation: int,
    n: int,
    leaf_digest: bytes,
    detached_before: datetime,
    now: datetime,
) -> bool:
    """Record `detached` → `dropped`; the DROP belongs into the same transaction.

    Args:
        conn: As `audit_maint` or the owner, inside the transaction that drops the table.
        name: Table without schema.
        generation: That was looked at.
        n: Rows counted in this transaction.
        leaf_digest: Computed in this transaction (`retention/digest.py`).
        detached_before: It must have been detached by then; 7 days at least.
        now: Aware.

    Returns:
        False also if the rows are not those that were sealed, or an active hold touches the range.
    """
    given = {
        "name": name,
        "generation": generation,
        "n": n,
        "leaf_digest": leaf_digest,
        "detached_before": detached_before,
        "now": now,
    }
    return _changed(conn, "mark_dropped", given)


def replace_files(
    conn: Connection,
    name: str,
    *,
    generation: int,
    before: Sequence[FileEntry],
    files: Sequence[FileEntry],
) -> bool:
    """Exchange the file entries; False if they are no longer those of `before`."""
    given = {
        "name": name,
        "generation": generation,
        "files_before": _files_text(before),
        "files": _files_text(files),
    }
    return _changed(conn, "replace_partition_files", given)


def note_restored(
    conn: Connection, name: str, *, table: str | None, before: str | None, now: datetime
) -> bool:
    """Note the table that holds a restored day beside its archive, or None when it is gone.

    Args:
        conn: As `audit_maint` or the owner.
        name: Of the partition.
        table: In schema audit; None once it was dropped.
        before: What was noted until now; another value means that somebody else restored it.
        now: Aware.
    """
    given = {
        "name": name,
        "restored_as": table,
        "restored_before": before,
        "now": None if table is None else now,
    }
    return _changed(conn, "note_partition_restored", given)


def note_error(conn: Connection, name: str, error: str) -> bool:
    """Note why the next step failed, for people; cleared by the next step that succeeds."""
    return _changed(
        conn, "note_partition_error", {"name": name, "error": error[:_MAX_ERROR_LENGTH]}
    )


def _changed(conn: Connection, query: str, given: Mapping[str, Any]) -> bool:
    with as_owner(conn):
        return conn.execute(load_queries("partitions")[query], given).rowcount == 1


def _read(conn: Connection, name: str | None) -> list[PartitionRow]:
    with as_owner(conn):
        cursor = conn.execute(load_queries("partitions")["read_partition_rows"], {"name": name})
        columns = [column.name for column in cursor.description or ()]
        return [_row(dict(zip(columns, values, strict=True))) for values in cursor]


def _row(found: dict[str, Any]) -> PartitionRow:
    return PartitionRow(
        **found
        | {
            "state": State(found["state"]),
            "files": tuple(FileEntry.from_json(entry) for entry in found["files"]),
            "classes": {(source, action): named for source, action, named in found["classes"]},
        }
    )


def _files_text(files: Sequence[FileEntry]) -> str:
    return json.dumps([entry.to_row() for entry in files])
