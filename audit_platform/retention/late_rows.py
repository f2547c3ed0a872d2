"""Late rows into their partitions: every night, whatever state the partition is in.

Here: which partitions have rows waiting, opening them, moving the rows, those that cannot be
moved. Not here: the statements (`retention/late_table.py`), rows that need no opening
(`retention/late_known.py`), how a partition is opened (`retention/reopen.py`), archiving it
anew (the life cycle goes on by itself: an open partition whose time is over is due at once), the
proof that the former generation is all there (`retention/old_generations.py`).
Guarantees: a row leaves `audit.event_late` in the transaction that adds it to its partition, so a
search finds it once at every moment; a row whose key is taken is a duplicate if its leaf is the
same and a dead letter (`id_collision`) if not; a kill anywhere is continued by the next run.

    no partition ever          it is created, open
    open                       rows are moved
    sealed, exported           left alone until its archive is verified
    verified and later         rows that its files hold already are settled first; if no other row
                               waits, it stays as it is (`retention/late_known.py`)
    verified                   opened again (`retention/reopen.py`)
    detach_started             its detach is finished, then as detached
    detached, dropped          attached again first, from the archive if need be
                               (`retention/restore.py`): it is verified then
    dropped, files expired     rows stay late until their own time is over
                               (`retention/late_expiry.py`): what they belong to is gone by rule

Source: storage design, section 3.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import stamina

from audit_platform.archive.store import ArchiveStore
from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.errors import (
    AuditPlatformError,
    LockNotAvailable,
    PartitionBusy,
    PartitionLost,
)
from audit_platform.events.act_log import ActLog
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.event import ActorType
from audit_platform.retention.archived_partition import live_files
from audit_platform.retention.detach import detach
from audit_platform.retention.late_known import KnownRows, settle_known
from audit_platform.retention.late_letters import keep_collided
from audit_platform.retention.late_table import Moved, move_rows
from audit_platform.retention.lifecycle import as_owner, ensure_partitions
from audit_platform.retention.partition import PartitionBounds, PartitionInterval, bounds_for
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import (
    PartitionRow,
    note_error,
    one_at_a_time,
    read_partition,
)
from audit_platform.retention.reopen import PATIENCE_S, Reopening, reopen
from audit_platform.retention.restore import restore_day

ACTOR: Final = "late merge"
MOST_PARTITIONS: Final = 400
"""Of one run: an import of a year by days is merged in one night, one by hours in some."""
_REASON: Final = "rows came late"
_ATTEMPTS: Final = 3
# Their files hold all their rows: what is late may be there already.
_LOOKED_UP: Final = frozenset({State.VERIFIED, State.DETACH_STARTED, State.DETACHED, State.DROPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class LateMerge:
    """What the merge works with.

    Attributes:
        store: Where dropped partitions are brought back from.
        log: Takes the event of each opening.
        vault: Encrypts rows that become dead letters.
        interval: Range of a new partition.
        patience_s: Longest wait for readers of one partition.
    """

    store: ArchiveStore
    log: ActLog
    vault: DeadLetterVault
    interval: PartitionInterval | str
    patience_s: float = PATIENCE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeReport:
    """What became of the rows that waited for one partition.

    Attributes:
        partition: Its name.
        opened_from: State it was opened again from; None if it was open.
        added: Rows it has now.
        duplicates: Rows it had already.
        collided: Rows that became dead letters.
        skipped: Why the rows still wait, where that is in order.
        problem: Why they still wait, where somebody has to act; noted in `last_error` too.
    """

    partition: str
    opened_from: State | None = None
    added: int = 0
    duplicates: int = 0
    collided: int = 0
    skipped: str | None = None
    problem: str | None = None


class _Skipped(Exception):
    """The rows of a partition wait for something that comes by itself."""


def merge_late(
    conn: Connection, merge: LateMerge, *, now: datetime, most: int = MOST_PARTITIONS
) -> list[MergeReport]:
    """Move late rows into their partitions.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, outside a transaction.
        merge: Stores, log, vault.
        now: Aware.
        most: Partitions of this call at most, oldest first.

    Returns:
        One report per partition with rows waiting. A partition that fails does not stop the
        others: look at `problem`.

    Raises:
        DatabaseError: The rows that wait cannot be listed, or partitions cannot be created.
    """
    _make_partitions(conn, merge, most=most)
    with as_owner(conn):
        rows = conn.execute(load_queries("rules")["list_late_partitions"]).fetchall()
    return [_merge_one(conn, str(name), merge, now=now) for name, *_ in rows[:most]]


def _make_partitions(conn: Connection, merge: LateMerge, *, most: int) -> None:
    with as_owner(conn):
        hours = conn.execute(load_queries("rules")["list_late_hours"], {"most": most}).fetchall()
    wanted = {bounds_for(hour, merge.interval) for (hour,) in hours}
    ensure_partitions(conn, sorted(wanted, key=lambda bounds: bounds.lo))


def _merge_one(conn: Connection, name: str, merge: LateMerge, *, now: datetime) -> MergeReport:
    try:
        with one_at_a_time(conn, name):
            return _merge_rows(conn, name, merge, now=now)
    except _Skipped as exc:
        return MergeReport(partition=name, skipped=str(exc))
    except (PartitionBusy, LockNotAvailable) as exc:
        return MergeReport(partition=name, skipped=exc.message)
    except AuditPlatformError as exc:
        if not conn.closed and not conn.broken:
            note_error(conn, name, f"late rows: {exc.message}")
        return MergeReport(partition=name, problem=exc.message)


def _merge_rows(conn: Connection, name: str, merge: LateMerge, *, now: datetime) -> MergeReport:
    before = _read(conn, name)
    known = KnownRows(duplicates=0, collided=0, has_new=True)
    if before.state in _LOOKED_UP:
        known = settle_known(conn, before, merge.store, merge.vault)
    if not known.has_new:
        return MergeReport(partition=name, duplicates=known.duplicates, collided=known.collided)
    _open(conn, before, merge, now=now)
    moved = _move(conn, before, merge.vault)
    return MergeReport(
        partition=name,
        opened_from=None if before.state is State.OPEN else before.state,
        added=moved.added,
        duplicates=known.duplicates + moved.duplicates,
        collided=known.collided + len(moved.collided),
    )


def _open(conn: Connection, row: PartitionRow, merge: LateMerge, *, now: datetime) -> None:
    """Bring a partition into the state `open`, from any other."""
    match row.state:
        case State.OPEN:
            # A record without its table, for example of a partition that somebody dropped by hand.
            ensure_partitions(conn, [PartitionBounds(name=row.name, lo=row.lo, hi=row.hi)])
            return
        case State.SEALED | State.EXPORTED:
            raise _Skipped(f"{row.name} is {row.state}: rows come in when its archive is verified")
        case State.VERIFIED:
            pass
        case State.DETACH_STARTED:
            result = detach(conn, row.name, now=now, patience_s=merge.patience_s)
            if result.postponed_because is not None:
                raise _Skipped(result.postponed_because)
            restore_day(conn, _read(conn, row.name), merge.store, attach=True, now=now)
        case State.DETACHED | State.DROPPED:
            if len(live_files(row)) != len(row.files):
                raise _Skipped(
                    f"files of {row.name} have expired: its late rows stay late until their own "
                    "time is over"
                )
            restore_day(conn, row, merge.store, attach=True, now=now)
    reopen(conn, _read(conn, row.name), _reopening(merge), now=now)


def _reopening(merge: LateMerge) -> Reopening:
    return Reopening(
        actor=ACTOR,
        actor_type=ActorType.SYSTEM,
        reason=_REASON,
        log=merge.log,
        patience_s=merge.patience_s,
    )


def _read(conn: Connection, name: str) -> PartitionRow:
    row = read_partition(conn, name)
    if row is None:
        raise PartitionLost(f"there is no partition {name}", name=name)
    return row


def _move(conn: Connection, row: PartitionRow, vault: DeadLetterVault) -> Moved:
    attempts = stamina.retry_context(
        on=LockNotAvailable, attempts=_ATTEMPTS, timeout=None, wait_initial=0.05, wait_max=0.5
    )
    for attempt in attempts:
        with attempt, as_owner(conn):
            moved = move_rows(conn, row)
            keep_collided(conn, vault, moved.collided)
            return moved
    raise AssertionError("unreachable: the last attempt returns or raises")
