"""Restores a random archived partition on trial and records how it went.

Here: the choice, the steps of a drill, its record. Not here: a restore that somebody wants
(`retention/restore.py`), the table and its proof (`retention/restored_table.py`), when a drill runs
(`schedules.py`).
Guarantees: the life of the partition is not touched, nor any table but the drill's own, which is
gone at the end; a drill that finds something is recorded like one that does not, with what it
found; one that can tell nothing (the store does not answer, no disk) is an error and no record.

What is compared: the files with the manifest and the seal, every leaf computed; the restored rows
with the seal, every leaf computed again by the server; and, while the partition's own table
exists, all columns of all rows with it. What a leaf leaves out (when and how a row arrived) is
compared with the files as a sum, otherwise.

Source: storage design, section 7.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Final

from audit_platform.archive.compare import compare_tables
from audit_platform.archive.store import ArchiveStore
from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.errors import (
    ArchiveDamaged,
    ArchiveMismatch,
    ArchiveMissing,
    AuditPlatformError,
    Redelivered,
)
from audit_platform.retention.archived_partition import ARCHIVED, live_files, verify_archived
from audit_platform.retention.detach import Attachment, read_attachment
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import (
    PartitionRow,
    list_partitions,
    one_at_a_time,
    read_partition,
)
from audit_platform.retention.removed_table import drill_name, drop_table
from audit_platform.retention.restored_table import (
    Filled,
    add_primary_key,
    fill_table,
    make_table,
    prove_table,
)

_MILLION: Final = 1_000_000
_MAX_DETAIL_LENGTH: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillReport:
    """What a drill came to.

    Attributes:
        rows: Restored; 0 if the archive could not be read.
        seconds: Of the restore; files verified and tables compared not included.
        mismatches: Rows, files or hashes that differ; 0 is a passed drill.
        detail: What was compared, or what differed first.
    """

    partition: str
    generation: int
    rows: int
    seconds: float
    mismatches: int
    detail: str

    @property
    def seconds_per_million(self) -> float | None:
        """Seconds per million rows; None for an empty partition."""
        return self.seconds / self.rows * _MILLION if self.rows else None


@dataclass(frozen=True, slots=True)
class _Finding:
    """What one comparison found; 0 mismatches and what was compared, or what differs."""

    mismatches: int
    words: str


def run_drill(
    conn: Connection, store: ArchiveStore, *, rng: Random, now: datetime
) -> DrillReport | None:
    """Restore one archived partition, any of them with the same chance, compare, and record it.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, outside a transaction.
        store: The archive, or its second copy.
        rng: Chooses; a known start gives a known choice.
        now: Aware; recorded as the moment of the drill.

    Returns:
        What was found, also recorded; None if nothing is archived yet.

    Raises:
        PartitionBusy: Another process works on the chosen partition; the next drill chooses anew.
        ArchiveUnavailable: The store does not answer.
        DatabaseError: The rows cannot be stored, for example for want of disk.
    """
    archived = [one for one in list_partitions(conn) if one.state in ARCHIVED and _has_files(one)]
    if not archived:
        return None
    return drill_partition(conn, rng.choice(archived).name, store, now=now)


def drill_partition(
    conn: Connection, name: str, store: ArchiveStore, *, now: datetime
) -> DrillReport | None:
    """Restore one partition on trial, compare, and record it.

    Args:
        conn: As `run_drill`.
        name: Table without schema.
        store: The archive, or its second copy.
        now: Aware.

    Returns:
        None if it is not archived, or was opened again meanwhile.

    Raises:
        As `run_drill`.
    """
    with one_at_a_time(conn, name):
        row = read_partition(conn, name)
        if row is None or row.state not in ARCHIVED or not _has_files(row):
            return None
        report = _drill(conn, row, store)
        _record(conn, report, now=now)
    return report


def _has_files(row: PartitionRow) -> bool:
    """An empty partition has none and counts; one whose files all expired does not."""
    return not row.files or bool(live_files(row))


def _drill(conn: Connection, row: PartitionRow, store: ArchiveStore) -> DrillReport:
    filled = Filled(rows=0, mark_sum=0, seconds=0.0)
    findings: list[_Finding] = []
    table = drill_name(row.name)
    try:
        findings.append(_verify(row, store))
        make_table(conn, table)
        filled = _restore(conn, row, store, table)
        findings.append(_Finding(0, "restored rows equal the seal"))
        findings.append(_compare(conn, row, table))
    except (ArchiveMissing, ArchiveDamaged, ArchiveMismatch, Redelivered) as exc:
        found = exc.fields.get("mismatches")
        findings.append(_Finding(found if isinstance(found, int) else 1, exc.message))
    finally:
        # What went wrong matters more than a table that the next drill of this day replaces.
        with suppress(AuditPlatformError):
            drop_table(conn, table)
    wrong = [one for one in findings if one.mismatches]
    return DrillReport(
        partition=row.name,
        generation=row.generation,
        rows=filled.rows,
        seconds=filled.seconds,
        mismatches=sum(one.mismatches for one in wrong),
        detail="; ".join(one.words for one in wrong or findings),
    )


def _verify(row: PartitionRow, store: ArchiveStore) -> _Finding:
    report = verify_archived(row, store)
    return _Finding(report.mismatch_count, report.verdict)


def _restore(conn: Connection, row: PartitionRow, store: ArchiveStore, table: str) -> Filled:
    files = live_files(row)
    with as_owner(conn):
        filled = fill_table(conn, table, store, files)
        add_primary_key(conn, table)
        prove_table(
            conn,
            table,
            rows=sum(one.rows for one in files),
            leaf_digest=row.leaf_digest if len(files) == len(row.files) else None,
            mark_sum=filled.mark_sum,
        )
    return filled


def _compare(conn: Connection, row: PartitionRow, table: str) -> _Finding:
    """Compare with the partition's own table, as long as there is one that holds the same rows."""
    is_whole = len(live_files(row)) == len(row.files)
    has_table = (
        row.state is not State.DROPPED and read_attachment(conn, row.name) is not Attachment.MISSING
    )
    if not (is_whole and has_table):
        return _Finding(0, "there is no original table left to compare with")
    with as_owner(conn):
        found = compare_tables(conn, row.name, table)
    if not found.mismatches:
        return _Finding(0, "all columns of all rows equal the original table")
    named = ", ".join((*found.types, *found.sample))
    words = (
        f"{found.only_left:,} rows only in audit.{row.name}, {found.only_right:,} only in the "
        f"archive, {found.differing:,} differ, {len(found.types)} columns of other types: {named}"
    )
    return _Finding(found.mismatches, words)


def _record(conn: Connection, report: DrillReport, *, now: datetime) -> None:
    with as_owner(conn):
        conn.execute(
            load_queries("restore")["record_restore_drill"],
            {
                "at": now,
                "partition_name": report.partition,
                "generation": report.generation,
                "rows": report.rows,
                "seconds": report.seconds,
                "mismatches": report.mismatches,
                "detail": report.detail[:_MAX_DETAIL_LENGTH],
            },
        )
