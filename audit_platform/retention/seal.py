"""Seals a partition: no more rows, and a root over those it has.

Here: the triggers that refuse every change, the step from `open` to `sealed` with its root, and
putting the triggers out of force again. Not here: reading and proving the rows
(`retention/digest.py`), the indexes that follow (`retention/cold_indexes.py`), which partition is
due (`retention/partition_states.py`), signing (`seal_no` stays empty).
Guarantees: whatever is in the table when its root is computed stays there, since every writer that
touched it has ended and every later one is refused with 55000, the owner included; a kill at any
moment leaves a state from which a repeat goes on, and a second copy of the job does nothing;
writers of other partitions never wait, those of this one no longer than `LOCK_TIMEOUT`.

Refused rows become late rows: the writer reads 55000 as "sealed" (`events/merge_rows.py`).

Source: storage design, section 2, step 1.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import stamina
from psycopg import sql

from audit_platform.crash_points import crash
from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.errors import LockNotAvailable, PartitionBusy, PartitionLost, StepRefused
from audit_platform.retention.digest import ClassOf, contents_of
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_states import LifecycleRules, State
from audit_platform.retention.partition_table import (
    PartitionRow,
    mark_root,
    mark_sealed,
    one_at_a_time,
    read_partition,
)

LOCK_TIMEOUT: Final = "200ms"
"""Writers of this partition queue behind the waiting lock; no event may wait longer than 250 ms."""
PATIENCE_S: Final = 60.0
"""A writer that keeps the partition busy for longer is left alone until the next run."""

_SET_LOCK_TIMEOUT: Final = sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
# Waits for every writer that touched the table, and keeps new ones out until the triggers stand.
_LOCK: Final = sql.SQL("lock table only {table} in share row exclusive mode")
_REFUSE_ROWS: Final = sql.SQL(
    "create or replace trigger sealed_row before insert or update or delete on {table}"
    " for each row execute function audit.refuse_sealed()"
)
_REFUSE_TRUNCATE: Final = sql.SQL(
    "create or replace trigger sealed_all before truncate on {table}"
    " for each statement execute function audit.refuse_sealed()"
)
# Not DROP TRIGGER: that takes ACCESS EXCLUSIVE, so that one long reader keeps the reopening out and
# every new reader of `audit.event` queues behind it. Disabling keeps writers out alone.
_ADMIT: Final = sql.SQL("alter table only {table} disable trigger {trigger}")
_TRIGGERS: Final = frozenset({"sealed_row", "sealed_all"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SealReport:
    """What is sealed now.

    Attributes:
        seconds: Of this call; next to nothing when it was sealed before.
    """

    n: int
    min_id: UUID | None
    max_id: UUID | None
    leaf_digest: bytes
    root: bytes
    seconds: float


def seal(
    conn: Connection,
    name: str,
    *,
    rules: LifecycleRules,
    class_of: ClassOf,
    now: datetime,
    patience_s: float = PATIENCE_S,
) -> SealReport:
    """Seal a partition, or finish what a killed seal left; a repeat changes nothing.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, outside a transaction.
        name: Table without schema.
        rules: How long after its end a partition is sealed.
        class_of: Retention class of a source and action, as of now; what it says is kept.
        now: Aware; decides whether it is due, and is recorded.
        patience_s: Longest time of retries while writers hold the table.

    Raises:
        PartitionLost: There is no such partition, or its table is gone or not attached.
        StepRefused: Its range has not ended for long enough.
        SealRefused: Ids or timestamps contradict each other; it stays sealed, without a root.
        PartitionBusy: Another process works on it, or opened it again meanwhile.
        LockNotAvailable: Writers held the table for longer than `patience_s`.
    """
    began_s = time.monotonic()
    with one_at_a_time(conn, name):
        row = _read(conn, name)
        if row.state is State.OPEN:
            row = _refuse_writers(conn, row, rules=rules, now=now, patience_s=patience_s)
        if row.state is State.SEALED and row.root is None:
            row = _prove(conn, row, class_of=class_of, now=now)
    if row.n is None or row.root is None or row.leaf_digest is None:
        raise PartitionBusy(f"{name} was opened again while it was sealed; the next run seals it")
    return SealReport(
        n=row.n,
        min_id=row.min_id,
        max_id=row.max_id,
        leaf_digest=row.leaf_digest,
        root=row.root,
        seconds=time.monotonic() - began_s,
    )


def unseal(conn: Connection, name: str) -> None:
    """Put the triggers out of force; the caller records the reopening in the same transaction.

    Args:
        conn: As `audit_maint` or the owner, inside the transaction of the reopening.
        name: Table without schema; without triggers it stays as it is.

    Raises:
        LockNotAvailable: Another maintenance statement held the table for longer than
            `LOCK_TIMEOUT`; readers are in nobody's way.
    """
    table = sql.Identifier("audit", name)
    with as_owner(conn):
        conn.execute(_SET_LOCK_TIMEOUT)
        for trigger in sorted(_in_force(conn, name)):
            conn.execute(_ADMIT.format(table=table, trigger=sql.Identifier(trigger)))


def _read(conn: Connection, name: str) -> PartitionRow:
    row = read_partition(conn, name)
    if row is None:
        raise PartitionLost(
            f"there is no partition {name}; `audit-platform partitions` lists them", name=name
        )
    return row


def _refuse_writers(
    conn: Connection,
    row: PartitionRow,
    *,
    rules: LifecycleRules,
    now: datetime,
    patience_s: float,
) -> PartitionRow:
    """Record `sealed` and set the triggers, in one transaction."""
    if row.hi + rules.seal_after > now:
        raise StepRefused(
            f"{row.name} ends at {row.hi.isoformat()}; it is sealed {rules.seal_after} later, when "
            "late producers are done",
            name=row.name,
            reason="early",
        )
    attempts = stamina.retry_context(
        on=LockNotAvailable,
        attempts=None,
        timeout=patience_s,
        wait_initial=0.05,
        wait_max=2.0,
        wait_jitter=0.5,
    )
    for attempt in attempts:
        with attempt, as_owner(conn):
            conn.execute(_SET_LOCK_TIMEOUT)
            if mark_sealed(conn, row.name, ended_before=now - rules.seal_after, now=now):
                _set_triggers(conn, row.name)
    crash("S_TRIGGERS")
    return _read(conn, row.name)


def _prove(
    conn: Connection, row: PartitionRow, *, class_of: ClassOf, now: datetime
) -> PartitionRow:
    """Record what the rows came to; before, make sure that they are still there and protected."""
    with as_owner(conn):
        if _in_force(conn, row.name) == _TRIGGERS:
            _check_attached(conn, row.name)
        else:
            # Somebody took a trigger away by hand. No root exists yet that a row could contradict.
            conn.execute(_SET_LOCK_TIMEOUT)
            _set_triggers(conn, row.name)
    contents = contents_of(conn, row.name, class_of)
    mark_root(conn, row.name, generation=row.generation, contents=contents, now=now)
    crash("S_DIGEST")
    return _read(conn, row.name)


def _set_triggers(conn: Connection, name: str) -> None:
    _check_attached(conn, name)
    table = sql.Identifier("audit", name)
    for statement in (_LOCK, _REFUSE_ROWS, _REFUSE_TRUNCATE):
        conn.execute(statement.format(table=table))


def _check_attached(conn: Connection, name: str) -> None:
    """Refuse to seal what readers of `audit.event` do not see.

    Raises:
        PartitionLost: Says what to do.
    """
    found = conn.execute(load_queries("retention")["inspect_partition"], {"name": name}).fetchone()
    is_there, is_attached = found or (False, False)
    if not is_there:
        raise PartitionLost(
            f"audit.{name} is gone, but was never archived: bring it back from a backup, or, if it "
            "was empty, let `audit-platform up` make it again",
            name=name,
        )
    if not is_attached:
        raise PartitionLost(
            f"audit.{name} is no partition of audit.event, so nobody finds its rows: attach it "
            "with its bounds",
            name=name,
        )


def _in_force(conn: Connection, name: str) -> set[str]:
    rows = conn.execute(load_queries("partitions")["find_seal_triggers"], {"name": name}).fetchall()
    return {row[0] for row in rows}
