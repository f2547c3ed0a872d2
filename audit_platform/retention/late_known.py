"""Late rows that the archive has already: no reason to open a partition again for them.

Here: looking late rows up in the files of their partition, and settling those that add nothing.
Not here: opening a partition and moving rows (`retention/late_rows.py`), reading files
(`archive/lookup.py`).
Guarantees: a row is taken away only while a file holds its key, checked byte by byte: with the same
leaf it is the event that was delivered again, with another one it becomes a dead letter; as soon as
one row is new, all of them are left to the merge.

A producer that sends its spool again after years would otherwise have every day of it built up from
the archive, opened, sealed and archived anew, to the same rows.
"""

from dataclasses import dataclass
from typing import Final

from audit_platform.archive.lookup import Key, stored_leaves
from audit_platform.archive.store import ArchiveStore
from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.retention.archived_partition import live_files
from audit_platform.retention.late_letters import keep_collided
from audit_platform.retention.late_table import take_rows
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_table import PartitionRow

AT_A_TIME: Final = 50_000
"""Rows looked up together; each such part reads the keys of the files once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRows:
    """What became of the late rows of an archived partition.

    Attributes:
        duplicates: Rows taken away: they were delivered again.
        collided: Rows that became dead letters.
        has_new: Whether rows wait that no file holds.
    """

    duplicates: int
    collided: int
    has_new: bool


def settle_known(
    conn: Connection,
    row: PartitionRow,
    store: ArchiveStore,
    vault: DeadLetterVault,
    *,
    at_a_time: int = AT_A_TIME,
) -> KnownRows:
    """Take away the late rows of a partition that its files hold, until one is new.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, holding the lock of the partition.
        row: Verified or later: its files hold all its rows.
        store: Where they lie.
        vault: Encrypts rows that become dead letters.
        at_a_time: Rows looked up together.

    Raises:
        ArchiveError: A file is missing, damaged, or the store does not answer.
        LockNotAvailable: The ledger is being folded for longer than the lock time-out.
    """
    duplicates = collided = 0
    while True:
        waiting = _first(conn, row, at_a_time)
        stored = stored_leaves(store, live_files(row), waiting)
        if len(stored) < len(waiting) or not waiting:
            return KnownRows(duplicates=duplicates, collided=collided, has_new=bool(waiting))
        same = {key: leaf for key, leaf in waiting.items() if stored[key] == leaf}
        other = {key: leaf for key, leaf in waiting.items() if key not in same}
        with as_owner(conn):
            duplicates += len(take_rows(conn, same))
            letters = take_rows(conn, other)
            keep_collided(conn, vault, letters)
            collided += len(letters)


def _first(conn: Connection, row: PartitionRow, most: int) -> dict[Key, bytes]:
    """Leaves of the first late rows of a partition, by key."""
    given = {"lo": row.lo, "hi": row.hi, "most": most}
    with as_owner(conn):
        rows = conn.execute(load_queries("rules")["list_late_keys"], given).fetchall()
    return {(tenant_id, moment, event_id): leaf for tenant_id, moment, event_id, leaf in rows}
