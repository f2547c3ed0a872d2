"""Drops the table of a detached partition after a second proof that the archive holds its rows.

Here: the conditions, the proof of both copies and of the table, and the one transaction that drops.
Not here: deletion of archive files (`retention/expire.py`), which day is due
(`retention/partition_states.py`).
Guarantees: nothing is dropped whose rows, columns included, differ from what was sealed, whose
files differ from the manifest in any copy, which a legal hold covers, or before its grace period
ends; a kill leaves either the table or the record of its drop, never neither.

Source: storage design, section 2, step 7.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from psycopg import sql

from audit_platform.archive.compare import review_table
from audit_platform.archive.store import ArchiveStore
from audit_platform.crash_points import crash
from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.errors import PartitionLost, StepRefused
from audit_platform.retention.archive_copies import compare_copies
from audit_platform.retention.detach import Attachment, read_attachment
from audit_platform.retention.digest import digest_of
from audit_platform.retention.holds import blocking_holds, frozen_holds
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_states import LifecycleRules, State
from audit_platform.retention.partition_table import (
    PartitionRow,
    mark_dropped,
    one_at_a_time,
    read_partition,
)

LOCK_TIMEOUT: Final = "2s"
"""Nobody but operators reads a detached table; one who does puts the drop off to the next run."""

Reason = Literal["state", "grace", "hold", "attached", "copy", "changed_row"]

_SET_LOCK_TIMEOUT: Final = sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
# Against writers only: from the proof to the drop no row changes, and readers go on.
_FREEZE: Final = sql.SQL("lock table only {table} in share mode")
_DROP: Final = sql.SQL("drop table {table}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DropResult:
    """What a drop did.

    Attributes:
        state: `dropped`.
        rows: Rows of the table that this call dropped; 0 if it was dropped before.
        freed_bytes: Size of that table with its indexes.
    """

    state: State
    rows: int
    freed_bytes: int


def drop(
    conn: Connection,
    name: str,
    store: ArchiveStore,
    copy_store: ArchiveStore | None,
    *,
    rules: LifecycleRules,
    now: datetime,
) -> DropResult:
    """Prove once more that the archive holds the rows, then drop the table in one transaction.

    Args:
        conn: As `audit_maint` or the owner, outside a transaction.
        name: Table without schema; a partition that is dropped already stays as it is.
        store: Where searches read from.
        copy_store: The second copy; None where the platform keeps one copy only.
        rules: `grace` is counted from the detach.
        now: Aware; recorded as the moment of the drop.

    Raises:
        StepRefused: A condition does not hold; the field `reason` says which.
        PartitionLost: The partition or its table is not there.
        PartitionBusy: Another process works on it.
        LockNotAvailable: Somebody reads the table; the next run tries again.
        ArchiveError: A copy cannot be read.
    """
    with one_at_a_time(conn, name):
        row = read_partition(conn, name)
        if row is None:
            raise PartitionLost(f"there is no partition {name}", name=name)
        if row.state is State.DROPPED:
            return DropResult(state=row.state, rows=0, freed_bytes=0)
        _check_time(row, rules=rules, now=now)
        _check_holds(conn, row)
        _check_table(conn, row)
        _check_copies(row, store, copy_store)
        return _drop(conn, row, detached_before=now - rules.grace, now=now)


def _check_time(row: PartitionRow, *, rules: LifecycleRules, now: datetime) -> None:
    if row.state is not State.DETACHED or row.detached_at is None:
        raise _refusal(row, "state", f"it is {row.state}; only a detached partition is dropped")
    due = row.detached_at + rules.grace
    if now < due:
        raise _refusal(row, "grace", f"its grace period ends at {due.isoformat()}")


def _check_holds(conn: Connection, row: PartitionRow) -> None:
    holds = blocking_holds(conn, row.lo, row.hi)
    if holds:
        cases = ", ".join(sorted({hold.case_id for hold in holds}))
        raise _refusal(row, "hold", f"legal holds cover it (case {cases})")


def _check_table(conn: Connection, row: PartitionRow) -> None:
    attachment = read_attachment(conn, row.name)
    if attachment is Attachment.MISSING:
        raise PartitionLost(
            f"audit.{row.name} is gone, but no drop is recorded: find out who dropped it; its rows "
            "are in the archive, `audit-platform restore` brings them back",
            name=row.name,
        )
    if attachment is not Attachment.DETACHED:
        raise _refusal(row, "attached", "it is a partition of audit.event again; detach it first")


def _check_copies(row: PartitionRow, store: ArchiveStore, copy_store: ArchiveStore | None) -> None:
    """Hash every file of every copy, the manifest too, from its bytes."""
    held = sum(entry.rows for entry in row.files)
    if held != row.n:
        raise _refusal(row, "copy", f"its files hold {held} of {row.n} rows")
    compared = compare_copies(row, store, copy_store)
    if compared.findings:
        raise _refusal(row, "copy", compared.verdict)


def _drop(
    conn: Connection, row: PartitionRow, *, detached_before: datetime, now: datetime
) -> DropResult:
    table = sql.Identifier("audit", row.name)
    with as_owner(conn):
        conn.execute(_SET_LOCK_TIMEOUT)
        conn.execute(_FREEZE.format(table=table))
        leaf_digest = _prove(conn, row)
        size = conn.execute(load_queries("detach")["measure_table"], {"name": row.name}).fetchone()
        # The proofs may take minutes; a hold that is placed meanwhile still counts.
        with frozen_holds(conn):
            _check_holds(conn, row)
            is_marked = mark_dropped(
                conn,
                row.name,
                generation=row.generation,
                n=row.n or 0,
                leaf_digest=leaf_digest,
                detached_before=detached_before,
                now=now,
            )
            if not is_marked:
                raise _refusal(row, "state", "its record changed meanwhile")
            crash("S_DROP_UPDATED")
            conn.execute(_DROP.format(table=table))
    return DropResult(
        state=State.DROPPED, rows=row.n or 0, freed_bytes=int(size[0]) if size and size[0] else 0
    )


def _prove(conn: Connection, row: PartitionRow) -> bytes:
    """Compare the table with its seal: rows, leaves, and the columns that the leaves cover.

    Returns:
        The digest of its leaves as computed now.
    """
    found = digest_of(conn, row.name)
    if (found.n, found.leaf_digest) != (row.n, row.leaf_digest):
        raise _refusal(row, "changed_row", f"it holds {found.n} rows with other leaves than sealed")
    changed = review_table(conn, row.name).bad_leaves
    if changed:
        raise _refusal(row, "changed_row", f"columns of {changed} rows were changed after the seal")
    return found.leaf_digest


def _refusal(row: PartitionRow, reason: Reason, why: str) -> StepRefused:
    return StepRefused(f"{row.name} is not dropped: {why}", name=row.name, reason=reason)
