"""Cold deletion: archive files whose time is over, one guarded step after the other.

Here: which files are due, marking, deleting both copies, the event that says so. Not here: the
rules (`retention/rules.py`), holds (`retention/holds.py`), files of former generations
(`retention/old_generations.py`), when this runs (`jobs/`).
Guarantees: only a file of a dropped partition goes, after its time, and while no legal hold covers
it; a kill at any moment is continued by the next run; the record of the file and its group roots
stay, so the rest of the day still verifies; no deletion without its event in the log.

    entry of the file    leads on to             when
    kept                 marked `expiring_at`    its time is over and nothing holds it
    expiring             deleted, `expired_at`   an hour later, if that is still so
    expiring             kept again              a hold or a longer rule came in between

Readers leave a marked file alone; the hour lets go those whose snapshot is older than the mark.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from audit_platform.archive.manifest import FileEntry
from audit_platform.archive.store import ArchiveStore, copy_file
from audit_platform.db.pool import Connection
from audit_platform.errors import StepRefused
from audit_platform.events.act_event import Act, repeatable_tail
from audit_platform.events.act_log import ActLog
from audit_platform.events.event import ActorType, format_timestamp
from audit_platform.retention.holds import Hold, blocking_holds, frozen_holds
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import (
    PartitionRow,
    list_partitions,
    one_at_a_time,
    read_partition,
    replace_files,
)
from audit_platform.retention.rules import RuleBook

EXPIRE_ACTION: Final = "audit.archive.expire"
ACTOR: Final = "retention"
READERS_LEAVE: Final = timedelta(hours=1)
"""No search reads a file for so long; an export that does reports the file as expired."""


class Outcome(StrEnum):
    """What `expire_file` did."""

    MARKED = "marked"
    WAITING = "waiting"
    """Marked, but readers may still be at it."""
    DELETED = "deleted"
    HELD = "held"
    SPARED = "spared"
    """It was marked, but is held or not due any more: kept again, with both copies."""
    NOTHING = "nothing"
    """It is not due, or gone already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpirableFile:
    """A file whose time is over, or whose deletion has begun.

    Attributes:
        partition: Name of its partition.
        generation: Of the partition.
        entry: The file, as recorded.
        expires_at: When its time was over; None if a longer rule came after it was marked.
        holds: What forbids its deletion.
    """

    partition: str
    generation: int
    entry: FileEntry
    expires_at: datetime | None
    holds: tuple[Hold, ...]

    @property
    def is_held(self) -> bool:
        """Whether a legal hold covers it."""
        return bool(self.holds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What cold deletion works with.

    Attributes:
        book: The rules as they are now.
        store: Where searches read from.
        copy_store: The second copy; None where the platform keeps one copy only.
        log: Takes the event of each deletion.
    """

    book: RuleBook
    store: ArchiveStore
    copy_store: ArchiveStore | None
    log: ActLog


def expirable(conn: Connection, book: RuleBook, *, now: datetime) -> list[ExpirableFile]:
    """List the files that are due, held ones included, and those whose deletion has begun.

    Args:
        conn: As `audit_maint` or the owner.
        book: The rules as they are now.
        now: Aware.

    Returns:
        In order of time.
    """
    return [
        found for row in list_partitions(conn) for found in _expirable_of(conn, row, book, now=now)
    ]


def expire_file(
    conn: Connection, partition: str, path: str, deletion: Deletion, *, now: datetime
) -> Outcome:
    """Take one file one step further.

    Args:
        conn: As `audit_maint` or the owner, outside a transaction.
        partition: Name of its partition.
        path: Of the file, as in its entry.
        deletion: Rules, stores, log.
        now: Aware.

    Raises:
        PartitionBusy: Another process works on the partition.
        QueueError: The log does not take the event; the file stays marked for the next run.
        ArchiveError: A store refuses or does not answer; likewise.
        StepRefused: The record of the partition changed meanwhile.
    """
    # Whoever places a hold waits until this transaction ends: it comes before the deletion, or
    # after it.
    with one_at_a_time(conn, partition), frozen_holds(conn):
        row = read_partition(conn, partition)
        found = None if row is None else _find(conn, row, path, deletion.book, now=now)
        if row is None or found is None:
            return Outcome.NOTHING
        if found.entry.expiring_at is None:
            return _mark(conn, row, found, now=now)
        if found.is_held or found.expires_at is None:
            return _spare(conn, row, found, deletion)
        if now - found.entry.expiring_at < READERS_LEAVE:
            return Outcome.WAITING
        return _delete(conn, row, found, deletion, now=now)


def _find(
    conn: Connection, row: PartitionRow, path: str, book: RuleBook, *, now: datetime
) -> ExpirableFile | None:
    files = _expirable_of(conn, row, book, now=now)
    return next((file for file in files if file.entry.path == path), None)


def _expirable_of(
    conn: Connection, row: PartitionRow, book: RuleBook, *, now: datetime
) -> Iterator[ExpirableFile]:
    if row.state is not State.DROPPED:
        return
    for entry in row.files:
        if entry.expired_at is not None:
            continue
        end = book.expires_at(row.hi, tenant_id=entry.tenant, retention_class=entry.retention_class)
        is_over = end is not None and end <= now
        if is_over or entry.expiring_at is not None:
            holds = blocking_holds(conn, row.lo, row.hi, entry.tenant)
            yield ExpirableFile(
                partition=row.name,
                generation=row.generation,
                entry=entry,
                expires_at=end if is_over else None,
                holds=tuple(holds),
            )


def _mark(conn: Connection, row: PartitionRow, found: ExpirableFile, *, now: datetime) -> Outcome:
    if found.is_held:
        return Outcome.HELD
    _record(conn, row, found.entry, replace(found.entry, expiring_at=now))
    return Outcome.MARKED


def _delete(
    conn: Connection,
    row: PartitionRow,
    found: ExpirableFile,
    deletion: Deletion,
    *,
    now: datetime,
) -> Outcome:
    entry = found.entry
    for store in _stores(deletion):
        store.delete(entry.path)
    # Time and id come from the mark: a run that was killed after this line repeats the same event.
    marked_at = entry.expiring_at or now
    tail = repeatable_tail(row.name, str(row.generation), entry.path, marked_at.isoformat())
    deletion.log.record(_act(row, found), now=marked_at, tail74=tail)
    _record(conn, row, entry, replace(entry, expired_at=now))
    return Outcome.DELETED


def _spare(
    conn: Connection, row: PartitionRow, found: ExpirableFile, deletion: Deletion
) -> Outcome:
    """Keep a marked file after all; a copy that a killed run has deleted is made again.

    Raises:
        StepRefused: Neither copy is left: the deletion was complete before the hold or the rule.
    """
    entry = found.entry
    stores = _stores(deletion)
    holding = [store for store in stores if store.exists(entry.path)]
    if not holding:
        raise StepRefused(
            f"{entry.path} was deleted before it was held; release the holds that came too late: "
            "the next run then records its end",
            name=row.name,
            reason="deleted",
        )
    for store in stores:
        if store not in holding:
            copy_file(holding[0], store, entry.path, sha256=entry.sha256)
    _record(conn, row, entry, replace(entry, expiring_at=None))
    return Outcome.SPARED


def _stores(deletion: Deletion) -> list[ArchiveStore]:
    """The second copy first: while the first is there, nothing is missing to a reader."""
    return [one for one in (deletion.copy_store, deletion.store) if one is not None]


def _record(conn: Connection, row: PartitionRow, before: FileEntry, after: FileEntry) -> None:
    files = [after if entry == before else entry for entry in row.files]
    is_changed = replace_files(
        conn, row.name, generation=row.generation, before=row.files, files=files
    )
    if not is_changed:
        raise StepRefused(
            f"the files of {row.name} were recorded anew meanwhile; the next run looks again",
            name=row.name,
            reason="state",
        )


def _act(row: PartitionRow, found: ExpirableFile) -> Act:
    entry = found.entry
    return Act(
        action=EXPIRE_ACTION,
        actor=ACTOR,
        actor_type=ActorType.SYSTEM,
        entity_type="archive_file",
        entity_id=entry.path,
        description=f"Delete the archive file {entry.path}: its retention is over",
        metadata={
            "partition": row.name,
            "generation": row.generation,
            "class": entry.retention_class,
            "tenant": entry.tenant,
            "rows": entry.rows,
            "bytes": entry.bytes,
            "sha256": entry.sha256,
            "expired": None if found.expires_at is None else format_timestamp(found.expires_at),
        },
    )
