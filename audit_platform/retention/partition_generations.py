"""Former generations of partitions that were opened again: kept until the next one is proved.

Here: the guarded step from a sealed state back to `open`, and what the generation before held. Not
here: when a partition is opened again, its triggers and its table (`retention/late_rows.py`).
Guarantee: a generation that was sealed is never forgotten: its root stays for ever, its files until
every leaf of it was found in the generation that followed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from audit_platform.archive.manifest import FileEntry
from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import PartitionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a partition held until it was opened again.

    Attributes:
        state: Where it stood then.
        proved_at: When all its leaves were found in the next generation; None until then.
    """

    partition_name: str
    generation: int
    state: State
    n: int
    min_id: UUID | None
    max_id: UUID | None
    leaf_digest: bytes
    root: bytes
    files: tuple[FileEntry, ...]
    manifest_sha256: bytes | None
    sealed_at: datetime
    reopened_at: datetime
    proved_at: datetime | None


def mark_reopened(conn: Connection, row: PartitionRow, *, now: datetime) -> bool:
    """Record a sealed partition as `open`, generation + 1; what it held is kept beside it.

    Removing the triggers and attaching the table belong into the same transaction.

    Args:
        conn: As `audit_maint` or the owner.
        row: As it was read: another state or generation by now means that somebody was faster.
        now: Aware.

    Returns:
        False if the record is no longer that of `row`; nothing was changed.

    Raises:
        ValueError: It is open already; nothing would be opened again.
    """
    if row.state is State.OPEN:
        raise ValueError(f"{row.name} is open; only what was sealed is opened again")
    queries = load_queries("partitions")
    key = {"name": row.name, "state": row.state, "generation": row.generation}
    with as_owner(conn):
        # Locked first: what is kept below must be what is overwritten after it.
        if conn.execute(queries["lock_partition_row"], key).fetchone() is None:
            return False
        conn.execute(queries["keep_partition_generation"], key | {"now": now})
        return conn.execute(queries["mark_reopened"], key).rowcount == 1


def list_generations(conn: Connection, name: str | None = None) -> list[Generation]:
    """List former generations whose files are not deleted yet, oldest generation first.

    Args:
        conn: As `audit_maint` or the owner.
        name: Of one partition; None for all.
    """
    with as_owner(conn):
        cursor = conn.execute(
            load_queries("partitions")["list_partition_generations"], {"name": name}
        )
        columns = [column.name for column in cursor.description or ()]
        return [_generation(dict(zip(columns, values, strict=True))) for values in cursor]


def mark_proved(conn: Connection, name: str, generation: int, *, now: datetime) -> bool:
    """Record that every leaf of a former generation is in the one that followed."""
    return _changed(conn, "mark_generation_proved", name, generation, now)


def mark_files_deleted(conn: Connection, name: str, generation: int, *, now: datetime) -> bool:
    """Record that the files of a former generation are gone; False before it was proved."""
    return _changed(conn, "mark_generation_files_deleted", name, generation, now)


def _changed(conn: Connection, query: str, name: str, generation: int, now: datetime) -> bool:
    given = {"name": name, "generation": generation, "now": now}
    with as_owner(conn):
        return conn.execute(load_queries("partitions")[query], given).rowcount == 1


def _generation(found: Mapping[str, Any]) -> Generation:
    files = tuple(FileEntry.from_json(entry) for entry in found["files"])
    return Generation(**{**found, "state": State(found["state"]), "files": files})
