"""Late rows whose time is over: they go by the rules by which the files of their day go.

Here: which late rows are over, deleting them, the event that says so. Not here: archive files
(`retention/expire.py`), the rules (`retention/rules.py`), late rows that still get into their
partition (`retention/late_rows.py`).
Guarantees: only rows of a dropped partition go, after their time by the rule of their tenant and
class as they are now, and while no legal hold covers them; rows, event and accounts in one
transaction, so that a kill leaves all of them as they were; no deletion without its event in the
log (one more, if the process is killed between the event and the commit).

A day whose files are gone cannot be opened again. What came for it too late to be merged, or is
delivered again years later, would otherwise stay in `audit.event_late` for ever.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.events.act_event import Act
from audit_platform.events.act_log import ActLog
from audit_platform.events.event import ActorType, format_timestamp
from audit_platform.retention.classes import RetentionClasses
from audit_platform.retention.expire import ACTOR, Outcome
from audit_platform.retention.holds import blocking_holds, frozen_holds
from audit_platform.retention.late_table import take_pairs
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import PartitionRow, one_at_a_time, read_partition
from audit_platform.retention.rules import RuleBook

EXPIRE_LATE_ACTION: Final = "audit.late.expire"


@dataclass(frozen=True, slots=True, kw_only=True)
class LateDeletion:
    """What the deletion of late rows works with.

    Attributes:
        book: The rules as they are now.
        classes: The retention classes as they are now: these rows were never sealed.
        log: Takes the event of each deletion.
    """

    book: RuleBook
    classes: RetentionClasses
    log: ActLog


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiredLate:
    """Late rows of one tenant and class in one partition whose time is over.

    Attributes:
        outcome: `deleted`, or `held` where a legal hold keeps them.
    """

    partition: str
    tenant_id: str
    retention_class: str
    rows: int
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class _Over:
    """One tenant and class, with the sources and actions that late rows of it have."""

    tenant_id: str
    retention_class: str
    expired_at: datetime
    rows: int
    pairs: tuple[tuple[str, str], ...]


def late_partitions(conn: Connection) -> list[str]:
    """Name the dropped partitions for which rows wait, in order of time."""
    with as_owner(conn):
        rows = conn.execute(load_queries("rules")["list_late_partitions"]).fetchall()
    return [name for name, _, state in rows if state == State.DROPPED]


def expire_late(
    conn: Connection, partition: str, deletion: LateDeletion, *, now: datetime
) -> list[ExpiredLate]:
    """Delete the late rows of one partition whose time is over.

    Args:
        conn: As `audit_maint` or the owner, outside a transaction.
        partition: Its name; nothing is done unless it is dropped.
        deletion: Rules, classes, log.
        now: Aware.

    Raises:
        PartitionBusy: Another process works on the partition.
        QueueError: The log does not take the event; the rows stay for the next run.
    """
    # Whoever places a hold waits until this transaction ends: it comes before the deletion, or
    # after it.
    with one_at_a_time(conn, partition), frozen_holds(conn):
        row = read_partition(conn, partition)
        if row is None or row.state is not State.DROPPED:
            return []
        return [
            _expire(conn, row, over, deletion, now=now) for over in _over(conn, row, deletion, now)
        ]


def _expire(
    conn: Connection, row: PartitionRow, over: _Over, deletion: LateDeletion, *, now: datetime
) -> ExpiredLate:
    outcome, rows = Outcome.HELD, over.rows
    if not blocking_holds(conn, row.lo, row.hi, over.tenant_id):
        outcome, rows = Outcome.DELETED, take_pairs(conn, row, over.tenant_id, over.pairs)
        deletion.log.record(_act(row, over, rows), now=now)
    return ExpiredLate(
        partition=row.name,
        tenant_id=over.tenant_id,
        retention_class=over.retention_class,
        rows=rows,
        outcome=outcome,
    )


def _over(
    conn: Connection, row: PartitionRow, deletion: LateDeletion, now: datetime
) -> Iterator[_Over]:
    """Late rows of a partition whose time is over, by tenant and class."""
    counts: defaultdict[tuple[str, str], dict[tuple[str, str], int]] = defaultdict(dict)
    given = {"lo": row.lo, "hi": row.hi}
    for tenant_id, source, action, count in conn.execute(
        load_queries("rules")["count_late_pairs"], given
    ).fetchall():
        retention_class = deletion.classes.class_of(source, action)
        counts[tenant_id, retention_class][source, action] = count
    for (tenant_id, retention_class), pairs in sorted(counts.items()):
        end = deletion.book.expires_at(row.hi, tenant_id=tenant_id, retention_class=retention_class)
        if end is not None and end <= now:
            yield _Over(
                tenant_id=tenant_id,
                retention_class=retention_class,
                expired_at=end,
                rows=sum(pairs.values()),
                pairs=tuple(pairs),
            )


def _act(row: PartitionRow, over: _Over, rows: int) -> Act:
    return Act(
        action=EXPIRE_LATE_ACTION,
        actor=ACTOR,
        actor_type=ActorType.SYSTEM,
        entity_type="partition",
        entity_id=row.name,
        description=f"Delete late rows of {row.name}: their retention is over",
        metadata={
            "tenant": over.tenant_id,
            "class": over.retention_class,
            "rows": rows,
            "expired": format_timestamp(over.expired_at),
        },
    )
