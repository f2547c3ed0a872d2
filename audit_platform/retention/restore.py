"""Brings an archived partition back: into a table beside the archive, or into `audit.event` again.

Here: the choice between the two, the table beside the archive. Not here: its end
(`retention/removed_table.py`), attaching (`retention/reattach.py`), the table and its proof
(`retention/restored_table.py`), the weekly trial (`retention/drill.py`), opening a partition for
more rows (`retention/reopen.py`).
Guarantees: nothing is used before it was proved equal to what was sealed; a kill leaves the
partition where it was; a repeat does what is left.

    way        state                     what is done
    beside     exported … dropped        COPY into audit.restored_<name>; searches stay as they are
    attached   detached                  the table is proved again, then attached
    attached   dropped, or table lost    COPY into audit.<name>, keys, then attached; searches read
                                         it while its cold indexes are built
    attached   attached by a killed one  the cold indexes that it lacks

Source: storage design, sections 2 (step 6), 3 and 7.
"""

import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from audit_platform.archive.store import ArchiveStore
from audit_platform.crash_points import crash
from audit_platform.db.pool import Connection
from audit_platform.errors import ArchiveMismatch, AuditPlatformError, PartitionLost
from audit_platform.retention.archived_partition import (
    check_archived,
    live_files,
    verify_archived,
)
from audit_platform.retention.cold_indexes import build_cold_indexes, lacks_cold_indexes
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_table import (
    PartitionRow,
    note_restored,
    one_at_a_time,
    read_partition,
)
from audit_platform.retention.reattach import reattach
from audit_platform.retention.removed_table import beside_name, drop_table
from audit_platform.retention.restored_table import (
    Filled,
    RestoreReport,
    add_primary_key,
    fill_table,
    is_proved,
    make_table,
    prove_table,
    remark_proved,
    take_statistics,
)


def restore_day(
    conn: Connection, row: PartitionRow, store: ArchiveStore, *, attach: bool, now: datetime
) -> RestoreReport:
    """Bring a partition back; a repeat finds the table beside the archive and proves it again.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, outside a transaction.
        row: The partition; its state is read again under its lock.
        store: The archive, or its second copy.
        attach: Into `audit.event`; otherwise into a table of its own, which no search reads.
        now: Aware; recorded as the moment of the restore.

    Raises:
        StepRefused: It is not archived yet, attached already, or half detached.
        PartitionBusy: Another process works on it.
        ArchiveMissing: A file is not there.
        ArchiveDamaged: A file is not what was written.
        ArchiveMismatch: The rows are not those that were sealed.
        LockNotAvailable: `audit.event` could not be changed within a minute of retries.
    """
    with one_at_a_time(conn, row.name):
        current = read_partition(conn, row.name)
        if current is None:
            raise PartitionLost(f"there is no partition {row.name}", name=row.name)
        if not attach:
            return _restore_beside(conn, current, store, now=now)
        if current.returned_at is not None and lacks_cold_indexes(conn, current.name):
            report = _attached(current)
        else:
            report = reattach(conn, current, store, now=now)
            crash("R_COMMITTED")
            # Searches have the day again; the copy that only operators could read is not needed.
            drop_table(conn, beside_name(current.name))
        return replace(report, indexing_seconds=_index(conn, current.name))


def _index(conn: Connection, name: str) -> float:
    """Build the cold indexes that an attached partition lacks; searches read it meanwhile."""
    began_s = time.monotonic()
    if lacks_cold_indexes(conn, name):
        build_cold_indexes(conn, name)
    crash("R_INDEXED")
    return time.monotonic() - began_s


def _attached(row: PartitionRow) -> RestoreReport:
    """What is there of a restore that was killed after it had attached the partition."""
    return RestoreReport(
        partition=row.name,
        generation=row.generation,
        table=row.name,
        rows=row.n or 0,
        seconds=0.0,
        proof_seconds=0.0,
        is_attached=True,
        expired_files=0,
        is_root_equal=True,
    )


def _restore_beside(
    conn: Connection, row: PartitionRow, store: ArchiveStore, *, now: datetime
) -> RestoreReport:
    check_archived(row)
    table = beside_name(row.name)
    began_s = time.monotonic()
    if is_proved(conn, table, partition=row.name, generation=row.generation):
        with as_owner(conn):
            _prove(conn, row, table, None)
        filled = Filled(rows=_rows(row), mark_sum=0, seconds=0.0)
    else:
        _check_remaining(row, store)
        filled = _fill(conn, row, store, now=now)
    return RestoreReport(
        partition=row.name,
        generation=row.generation,
        table=table,
        rows=filled.rows,
        seconds=filled.seconds,
        proof_seconds=time.monotonic() - began_s - filled.seconds,
        is_attached=False,
        expired_files=len(row.files) - len(live_files(row)),
        is_root_equal=_is_whole(row),
    )


def _fill(conn: Connection, row: PartitionRow, store: ArchiveStore, *, now: datetime) -> Filled:
    table = beside_name(row.name)
    make_table(conn, table)
    try:
        with as_owner(conn):
            filled = fill_table(conn, table, store, live_files(row))
            add_primary_key(conn, table)
            _prove(conn, row, table, filled.mark_sum)
            take_statistics(conn, table)
            remark_proved(conn, table, partition=row.name, generation=row.generation)
            note_restored(conn, row.name, table=table, before=row.restored_as, now=now)
        crash("R_FILLED")
    except AuditPlatformError:
        # An empty table that nobody asked for; if even this fails, the next restore replaces it.
        with suppress(AuditPlatformError):
            drop_table(conn, table)
        raise
    return filled


def _prove(conn: Connection, row: PartitionRow, table: str, mark_sum: int | None) -> None:
    digest = row.leaf_digest if _is_whole(row) else None
    prove_table(conn, table, rows=_rows(row), leaf_digest=digest, mark_sum=mark_sum)


def _check_remaining(row: PartitionRow, store: ArchiveStore) -> None:
    """Prove, group by group, what is left of a partition whose digest cannot be equal any more."""
    if _is_whole(row):
        return
    report = verify_archived(row, store)
    if not report.is_intact:
        raise ArchiveMismatch(
            f"what is left of {row.name} is not what was sealed: {report.verdict}. Verify the "
            "archive and restore from its second copy",
            name=row.name,
            mismatches=report.mismatch_count,
        )


def _is_whole(row: PartitionRow) -> bool:
    return len(live_files(row)) == len(row.files)


def _rows(row: PartitionRow) -> int:
    return sum(one.rows for one in live_files(row))
