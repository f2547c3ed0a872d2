"""Former generations of reopened partitions: proved to be in the present one, then deleted.

Here: the proof, leaf by leaf from the archive files of both generations, and the deletion of the
older files. Not here: opening a partition again (`retention/reopen.py`), the verification of the
new files (`archive/verify.py`), files whose time is over (`retention/expire.py`).
Guarantees: a file of a former generation goes only after every row in it was found in the present
one, whose archive was verified, and a day later; its root and those of its groups stay; a kill is
continued by the next run.

Leaves are computed from the columns of the files; each file is read only if its bytes have the hash
of its entry. Memory is bounded, whatever the number of rows (`archive/leaf_order.py`).

Source: storage design, section 3: reopening may only add.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from audit_platform.archive.leaf_order import LeafOrder
from audit_platform.archive.manifest import FileEntry, manifest_path
from audit_platform.archive.read import frame_of, read_rows
from audit_platform.archive.row_check import id_bytes
from audit_platform.archive.store import ArchiveStore
from audit_platform.db.pool import Connection
from audit_platform.errors import ArchiveMismatch, AuditPlatformError, PartitionBusy, StepRefused
from audit_platform.events.act_event import Act, repeatable_tail
from audit_platform.events.act_log import ActLog
from audit_platform.events.event import ActorType
from audit_platform.integrity.leaf import leaf_hashes
from audit_platform.retention.partition_generations import (
    Generation,
    list_generations,
    mark_files_deleted,
    mark_proved,
)
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import (
    PartitionRow,
    note_error,
    one_at_a_time,
    read_partition,
)

DELETE_ACTION: Final = "audit.archive.delete_generation"
ACTOR: Final = "retention"
NAMED_IDS: Final = 10
_ARCHIVED: Final = frozenset({State.VERIFIED, State.DETACH_STARTED, State.DETACHED, State.DROPPED})
_Leaf = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class OldFiles:
    """What settling works with.

    Attributes:
        store: Where both generations are read from.
        copy_store: The second copy; None where the platform keeps one copy only.
        log: Takes the event of each deletion.
        keep: How long old files stay after the new ones are verified: older snapshots of readers
            name them.
    """

    store: ArchiveStore
    copy_store: ArchiveStore | None
    log: ActLog
    keep: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Where one former generation stands after a run.

    Attributes:
        partition: Name of the partition.
        generation: The former one.
        is_proved: Whether every row of it was found in the present one, now or earlier.
        deleted_files: Files that this run deleted, both copies counted once, manifest included.
        problem: Why somebody has to look at it; noted in `last_error` too.
    """

    partition: str
    generation: int
    is_proved: bool
    deleted_files: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Rows of a former generation that the present one lacks."""

    count: int
    sample: tuple[UUID, ...]


def settle_generations(conn: Connection, old: OldFiles, *, now: datetime) -> list[Settled]:
    """Prove former generations and delete the files of those that were proved long enough ago.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, outside a transaction.
        old: Stores, log, time.
        now: Aware.

    Returns:
        One report per former generation that still has files, apart from partitions whose new
        archive is not verified yet, or on which another process works.
    """
    reports: list[Settled] = []
    for generation in list_generations(conn):
        try:
            with one_at_a_time(conn, generation.partition_name):
                report = _settle(conn, generation, old, now=now)
        except PartitionBusy:
            continue
        except AuditPlatformError as exc:
            if not conn.closed and not conn.broken:
                note_error(conn, generation.partition_name, f"old generation: {exc.message}")
            report = _report(generation, problem=exc.message)
        if report is not None:
            reports.append(report)
    return reports


def missing_rows(
    store: ArchiveStore, before: Sequence[FileEntry], after: Sequence[FileEntry]
) -> Missing:
    """Find rows of some archive files that others lack; equal is what has id and leaf in common.

    Args:
        store: Where all of them lie.
        before: Files whose rows must be there.
        after: Files that must hold them.

    Raises:
        ArchiveError: A file is missing, damaged, or the store does not answer.
    """
    with LeafOrder() as wanted, LeafOrder() as present:
        _collect(store, before, wanted)
        _collect(store, after, present)
        return _compare(_leaves(wanted), _leaves(present))


def _settle(
    conn: Connection, generation: Generation, old: OldFiles, *, now: datetime
) -> Settled | None:
    row = read_partition(conn, generation.partition_name)
    if row is None or row.state not in _ARCHIVED or row.verified_at is None:
        return None
    if generation.proved_at is None:
        _prove(row, generation, old.store)
        mark_proved(conn, row.name, generation.generation, now=now)
    if now < row.verified_at + old.keep:
        return _report(generation, is_proved=True)
    deleted = _delete(row, generation, old, now=now)
    mark_files_deleted(conn, row.name, generation.generation, now=now)
    return _report(generation, is_proved=True, deleted_files=deleted)


def _prove(row: PartitionRow, generation: Generation, store: ArchiveStore) -> None:
    """Compare two generations.

    Raises:
        StepRefused: One of them has rows that no file holds, so that nothing can be compared.
        ArchiveMismatch: Rows are missing; names some.
    """
    for which, files, n in (
        ("former", generation.files, generation.n),
        ("present", row.files, row.n or 0),
    ):
        kept = [entry for entry in files if entry.expired_at is None]
        if sum(entry.rows for entry in kept) != n:
            raise StepRefused(
                f"generation {generation.generation} of {row.name} cannot be proved: files of its "
                f"{which} generation are gone; its files stay. Delete them by hand when nobody "
                "needs them",
                name=row.name,
                reason="expired",
            )
    found = missing_rows(store, generation.files, row.files)
    if found.count:
        raise ArchiveMismatch(
            f"{found.count} rows of {row.name} generation {generation.generation} are not in "
            f"generation {row.generation}: {', '.join(map(str, found.sample))}. The former files "
            "stay; find out who removed the rows, and restore them from there",
            name=row.name,
            mismatches=found.count,
        )


def _delete(row: PartitionRow, generation: Generation, old: OldFiles, *, now: datetime) -> int:
    paths = [entry.path for entry in generation.files]
    # The manifest last: as long as it is there, it names what may still lie beside it.
    paths.append(manifest_path(row.lo, row.hi, generation.generation))
    for store in (old.copy_store, old.store):
        if store is not None:
            for path in paths:
                store.delete(path)
    # The moment and the id of the act come from the record: a repeat is the same event.
    proved_at = generation.proved_at or now
    tail = repeatable_tail(row.name, str(generation.generation), "superseded")
    old.log.record(_act(row, generation, paths), now=proved_at, tail74=tail)
    return len(paths)


def _act(row: PartitionRow, generation: Generation, paths: Sequence[str]) -> Act:
    return Act(
        action=DELETE_ACTION,
        actor=ACTOR,
        actor_type=ActorType.SYSTEM,
        entity_type="partition",
        entity_id=row.name,
        description=(
            f"Delete the files of generation {generation.generation} of {row.name}: "
            f"generation {row.generation} holds all of its rows"
        ),
        metadata={
            "generation": generation.generation,
            "rows": generation.n,
            "root": generation.root.hex(),
            "files": len(paths),
        },
    )


def _collect(store: ArchiveStore, entries: Sequence[FileEntry], order: LeafOrder) -> None:
    for batch in read_rows(store, entries):
        rows = frame_of(batch)
        order.add(id_bytes(rows["id"]), leaf_hashes(rows).to_list(), [0] * rows.height)


def _leaves(order: LeafOrder) -> Iterator[_Leaf]:
    for block in order.blocks():
        for event_id, leaf, _ in block:
            yield event_id, leaf


def _compare(wanted: Iterator[_Leaf], present: Iterator[_Leaf]) -> Missing:
    """Walk two ascending sequences; every element of the first must occur in the second."""
    count, sample = 0, list[UUID]()
    candidate = next(present, None)
    for leaf in wanted:
        while candidate is not None and candidate < leaf:
            candidate = next(present, None)
        if candidate == leaf:
            # Each row of the second stands for one of the first: equal rows are counted too.
            candidate = next(present, None)
            continue
        count += 1
        if len(sample) < NAMED_IDS:
            sample.append(UUID(bytes=leaf[0]))
    return Missing(count=count, sample=tuple(sample))


def _report(
    generation: Generation,
    *,
    is_proved: bool | None = None,
    deleted_files: int = 0,
    problem: str | None = None,
) -> Settled:
    return Settled(
        partition=generation.partition_name,
        generation=generation.generation,
        is_proved=generation.proved_at is not None if is_proved is None else is_proved,
        deleted_files=deleted_files,
        problem=problem,
    )
