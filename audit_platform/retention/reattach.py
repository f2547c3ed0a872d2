"""Makes an archived partition a partition of `audit.event` again, sealed as it was.

Here: the table of a detached partition, proved once more; or one filled from the archive, with the
indexes of a hot partition; then triggers, ATTACH and the record, in one transaction. Not here: the
cold indexes, which follow (`retention/restore.py`), a table beside the archive (likewise), opening
a partition for more rows (`retention/reopen.py`).
Guarantees: readers see the day all the time, from the archive until the commit that attaches its
table, from the table after it; ATTACH reads no row under its lock, since a CHECK implies the
bounds; a kill leaves the partition where it was, and a repeat begins again with the table.

The day is `verified` again: sealed, its triggers in place, its files still listed. `restored_as` is
then the name of the partition itself, and `restored_at` says since when it is back.
"""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import stamina
from psycopg import sql

from audit_platform.archive.store import ArchiveStore
from audit_platform.crash_points import crash
from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.errors import LockNotAvailable, PartitionBusy
from audit_platform.retention.archived_partition import check_archived, live_files, refusal
from audit_platform.retention.detach import Attachment, read_attachment
from audit_platform.retention.lifecycle import DDL_LOCK_KEY, as_owner
from audit_platform.retention.partition import HOT_INDEXES, HOT_STORAGE
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import PartitionRow
from audit_platform.retention.removed_table import is_unproved
from audit_platform.retention.restored_table import (
    Filled,
    RestoreReport,
    add_primary_key,
    fill_table,
    make_table,
    prove_table,
    refuse_grants,
    remark_proved,
    take_statistics,
)

LOCK_TIMEOUT: Final = "500ms"
"""Short, because writers queue behind a waiting lock; the retry below waits without a lock."""
PATIENCE_S: Final = 60.0

_SET_LOCK_TIMEOUT: Final = sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
_SET_MEMORY: Final = sql.SQL("set local maintenance_work_mem = '256MB'")
_ADD_BOUNDS: Final = sql.SQL(
    'alter table {table} add constraint bounds check ("timestamp" >= {lo} and "timestamp" < {hi})'
)
_REMOVE_BOUNDS: Final = sql.SQL("alter table {table} drop constraint if exists bounds")
_INDEX: Final = sql.SQL("create index {name} on {table} ({columns}){where}")
_STORAGE: Final = sql.SQL("alter table {table} set ({storage})")
_ATTACH: Final = sql.SQL(
    "alter table audit.event attach partition {table} for values from ({lo}) to ({hi})"
)
# Those of the seal; a table that was detached has them still.
_SEAL: Final = (
    sql.SQL(
        "create or replace trigger sealed_row before insert or update or delete on {table}"
        " for each row execute function audit.refuse_sealed()"
    ),
    sql.SQL(
        "create or replace trigger sealed_all before truncate on {table}"
        " for each statement execute function audit.refuse_sealed()"
    ),
)


def reattach(
    conn: Connection,
    row: PartitionRow,
    store: ArchiveStore,
    *,
    now: datetime,
    patience_s: float = PATIENCE_S,
    clock: Callable[[], float] = time.monotonic,
) -> RestoreReport:
    """Attach a detached or dropped partition again; it may lack its cold indexes then.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, outside a transaction, holding the
            lock of the partition.
        row: As read under that lock.
        store: Read only where the table is gone.
        now: Aware; recorded as the moment of the restore.
        patience_s: Longest time of retries while others hold `audit.event`.
        clock: Seconds, for the report.

    Raises:
        StepRefused: It is attached, half detached, not archived, or some of its files expired.
        ArchiveMissing: A file is not there.
        ArchiveDamaged: A file is not what was written.
        ArchiveMismatch: The rows are not those that were sealed.
        LockNotAvailable: `audit.event` could not be changed for as long as `patience_s`.
    """
    began_s = clock()
    _check_state(row)
    filled = Filled(rows=row.n or 0, mark_sum=0, seconds=0.0)
    if _must_be_built(conn, row):
        filled = _build(conn, row, store)
    else:
        with as_owner(conn):
            prove_table(conn, row.name, rows=row.n or 0, leaf_digest=row.leaf_digest, mark_sum=None)
    _attach_with_retries(conn, row, now=now, patience_s=patience_s)
    return RestoreReport(
        partition=row.name,
        generation=row.generation,
        table=row.name,
        rows=filled.rows,
        seconds=filled.seconds,
        proof_seconds=clock() - began_s - filled.seconds,
        is_attached=True,
        expired_files=0,
        is_root_equal=True,
    )


def _must_be_built(conn: Connection, row: PartitionRow) -> bool:
    """Whether the rows have to come from the archive: no table, or one a killed restore left."""
    if row.state is State.DROPPED or read_attachment(conn, row.name) is Attachment.MISSING:
        return True
    return is_unproved(conn, row.name)


def _check_state(row: PartitionRow) -> None:
    check_archived(row)
    if row.state is State.DETACH_STARTED:
        raise refusal(row, "state", "it is being detached; let the detach end, then repeat")
    if row.state not in {State.DETACHED, State.DROPPED}:
        raise refusal(row, "state", f"it is {row.state}: attached, and searches read it there")
    if len(live_files(row)) != len(row.files):
        why = "some of its files expired, so it would lack rows: restore what is left beside"
        raise refusal(row, "expired", why)


def _build(conn: Connection, row: PartitionRow, store: ArchiveStore) -> Filled:
    """Fill a table from the archive and make it what the sealed partition was."""
    make_table(conn, row.name)
    table = sql.Identifier("audit", row.name)
    with as_owner(conn):
        filled = fill_table(conn, row.name, store, row.files)
        conn.execute(_SET_MEMORY)
        add_primary_key(conn, row.name)
        prove_table(
            conn, row.name, rows=row.n or 0, leaf_digest=row.leaf_digest, mark_sum=filled.mark_sum
        )
        for statement in _shape(row, table):
            conn.execute(statement)
        # The planner has to know the table from the moment it is searched.
        take_statistics(conn, row.name)
        remark_proved(conn, row.name, partition=row.name, generation=row.generation)
    crash("R_FILLED")
    return filled


def _shape(row: PartitionRow, table: sql.Identifier) -> list[sql.Composed]:
    """Statements that give a table of rows the settings, bounds and indexes of a partition."""
    storage = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.SQL(name), sql.SQL(value)) for name, value in HOT_STORAGE
    )
    bounds = {"lo": sql.Literal(row.lo.isoformat()), "hi": sql.Literal(row.hi.isoformat())}
    indexes = [
        _INDEX.format(
            name=sql.Identifier(f"{row.name}_{index.suffix}"),
            table=table,
            columns=sql.SQL(index.columns),
            where=sql.SQL("" if index.where is None else f" where {index.where}"),
        )
        for index in HOT_INDEXES
    ]
    return [
        _STORAGE.format(table=table, storage=storage),
        _ADD_BOUNDS.format(table=table, **bounds),
        *indexes,
    ]


def _attach_with_retries(
    conn: Connection, row: PartitionRow, *, now: datetime, patience_s: float
) -> None:
    attempts = stamina.retry_context(
        on=LockNotAvailable,
        attempts=None,
        timeout=patience_s,
        wait_initial=0.05,
        wait_max=2.0,
        wait_jitter=0.5,
    )
    for attempt in attempts:
        with attempt:
            _attach(conn, row, now=now)


def _attach(conn: Connection, row: PartitionRow, *, now: datetime) -> None:
    """Move the border and attach the table in one transaction."""
    queries = load_queries("restore")
    table = sql.Identifier("audit", row.name)
    key = {"name": row.name, "generation": row.generation, "state": row.state.value, "now": now}
    with as_owner(conn):
        conn.execute(_SET_LOCK_TIMEOUT)
        # As every statement that changes partitions: two at a time would wait for each other.
        conn.execute(load_queries("retention")["lock_partition_ddl"], {"key": DDL_LOCK_KEY})
        if conn.execute(queries["mark_reattached"], key).rowcount != 1:
            raise PartitionBusy(f"the record of {row.name} changed meanwhile", name=row.name)
        for statement in _SEAL:
            conn.execute(statement.format(table=table))
        # Attached by hand, with the record left behind: the record alone is put right.
        if read_attachment(conn, row.name) is not Attachment.ATTACHED:
            bounds = {"lo": sql.Literal(row.lo.isoformat()), "hi": sql.Literal(row.hi.isoformat())}
            conn.execute(_ATTACH.format(table=table, **bounds))
        conn.execute(_REMOVE_BOUNDS.format(table=table))
        refuse_grants(conn, row.name)
        crash("R_ATTACHED")
