"""Detaches a verified partition from `audit.event` while readers and writers go on.

Here: the border that moves first, DETACH CONCURRENTLY, and what a killed or timed-out one left.
Not here: who is told where a day is read from (`search/border.py`), dropping (`retention/drop.py`).
Guarantees: readers are sent to the archive before the table goes, so a day never vanishes; a
repeat, a kill at any moment and a second process at the same time end in the same state; nobody
waits for this longer than a lock time-out.

Source: storage design, sections 1, 2 and 4 (locks run on PostgreSQL 16.14 and 18.4).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import stamina
from psycopg import sql

from audit_platform.crash_points import crash
from audit_platform.db.pool import OWNER_ROLE, Connection, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import DatabaseError, LockNotAvailable, PartitionLost, StepRefused
from audit_platform.retention.holds import blocking_holds, frozen_holds
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import (
    PartitionRow,
    mark_detach_started,
    mark_detached,
    one_at_a_time,
    read_partition,
)

PARENT: Final = "event"
"""Locked too: a second detach at the same time would take the first for an interrupted one."""
DETACH_TIMEOUT: Final = "2s"
"""While it waits, DETACH CONCURRENTLY holds nothing that a reader or a writer needs."""
FINALIZE_TIMEOUT: Final = "500ms"
"""Shorter than `deadlock_timeout` (1 s): FINALIZE waits for readers while it holds the partition,
and a reader that wants the partition meanwhile must not be chosen as the victim of the deadlock.
Measured, and why the design says otherwise: docs/decisions/0019-finalize-gives-way.md."""
PATIENCE_S: Final = 60.0
"""After this the next run goes on; readers have been sent to the archive by then."""
_LOOK_AGAIN_S: Final = 0.1

_SET_LOCK_TIMEOUT: Final = sql.SQL("set local lock_timeout = {}").format(
    sql.Literal(DETACH_TIMEOUT)
)
_DETACH: Final = sql.SQL("alter table audit.event detach partition {table} concurrently")
_FINALIZE: Final = sql.SQL("alter table audit.event detach partition {table} finalize")


class Attachment(StrEnum):
    """How the catalog holds a table; the order is that of a detach."""

    ATTACHED = "attached"
    PENDING = "pending"
    """Between the two transactions: new snapshots no longer see its rows through the parent."""
    DETACHED = "detached"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachResult:
    """Where the partition stands now.

    Attributes:
        state: `detached` when done; otherwise what it was, or `detach_started`.
        postponed_because: Why the next run has to go on; None when done.
    """

    state: State
    postponed_because: str | None = None


def detach(
    conn: Connection,
    name: str,
    *,
    now: datetime,
    oldest_transaction_s: float = 30,
    patience_s: float = PATIENCE_S,
) -> DetachResult:
    """Send readers to the archive, then take the partition out of `audit.event`.

    A half detached partition, this one or another, is finished first: PostgreSQL refuses every
    other concurrent detach until then. A partition that somebody detached by hand, or whose table
    is gone, is recorded as detached: its rows are then read from the archive.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, outside a transaction.
        name: Table without schema; a partition that is detached or dropped stays as it is.
        now: Aware; recorded as the moment of the detach.
        oldest_transaction_s: Postpone while a transaction has held a lock on `audit.event` for
            longer. Where its age is hidden from this role, it is watched for that long.
        patience_s: Longest time of retries against lock time-outs.

    Raises:
        StepRefused: It is not verified.
        PartitionLost: There is no such partition.
        PartitionBusy: Another process works on it, or detaches another one.
        DatabaseError: A partition is half detached whose record says that it is read from here.
    """
    with one_at_a_time(conn, name), one_at_a_time(conn, PARENT):
        row = _row(conn, name)
        if row.state in {State.DETACHED, State.DROPPED}:
            return DetachResult(state=row.state)
        if row.state is State.VERIFIED:
            obstacle = _long_holder(conn, oldest_transaction_s) or _move_border(conn, row)
            if obstacle is not None:
                return DetachResult(state=row.state, postponed_because=obstacle)
            crash("S_DETACH_MARKED")
        elif row.state is not State.DETACH_STARTED:
            raise StepRefused(
                f"{name} is {row.state}; only a verified partition is detached: verify it first",
                name=name,
                reason="state",
            )
        return _finish(conn, name, now=now, patience_s=patience_s)


def read_attachment(conn: Connection, name: str) -> Attachment:
    """Ask the catalog whether a table is a partition of `audit.event` right now."""
    with as_owner(conn):
        found = conn.execute(load_queries("detach")["find_attachment"], {"name": name}).fetchone()
    is_there, is_attached, is_pending = found or (False, False, False)
    if not is_there:
        return Attachment.MISSING
    if is_pending:
        return Attachment.PENDING
    return Attachment.ATTACHED if is_attached else Attachment.DETACHED


def _row(conn: Connection, name: str) -> PartitionRow:
    row = read_partition(conn, name)
    if row is None:
        raise PartitionLost(
            f"there is no partition {name}; `audit-platform partitions` lists them", name=name
        )
    return row


def _move_border(conn: Connection, row: PartitionRow) -> str | None:
    """Send readers to the archive from the commit on; says why not where it must not be done."""
    with as_owner(conn):
        conn.execute(_SET_LOCK_TIMEOUT)
        # Whoever places a hold now does so before or after this decision, never within.
        with frozen_holds(conn):
            holds = blocking_holds(conn, row.lo, row.hi, keep_hot=True)
            if holds:
                cases = ", ".join(sorted({hold.case_id for hold in holds}))
                return f"legal holds keep {row.name} in PostgreSQL (case {cases})"
            if not mark_detach_started(conn, row.name):
                return f"the record of {row.name} changed meanwhile; the next run looks again"
    return None


def _long_holder(conn: Connection, oldest_transaction_s: float) -> str | None:
    """Name a transaction that has held a lock on the parent for too long; None if there is none.

    Only those who hold a lock on the parent are waited for by the detach; a long export of
    another partition is not in its way.
    """
    deadline_s = time.monotonic() + oldest_transaction_s
    pause = threading.Event()
    watched: set[str] | None = None
    while True:
        # Not as the owner: the login sees the age of its own sessions, the owner of none.
        with translated():
            holders = conn.execute(load_queries("detach")["find_parent_holders"]).fetchall()
        for _, pid, application, age_s in holders:
            if age_s is not None and age_s >= oldest_transaction_s:
                return _waiting_for(pid, application, age_s)
        hidden = {one[0]: one for one in holders if one[3] is None}
        watched = set(hidden) if watched is None else watched & set(hidden)
        if not watched:
            return None
        if time.monotonic() >= deadline_s:
            _, pid, application, _ = hidden[min(watched)]
            return _waiting_for(pid, application, oldest_transaction_s)
        pause.wait(_LOOK_AGAIN_S)


def _waiting_for(pid: int, application: str, age_s: float) -> str:
    return (
        f"a transaction of {application or 'another program'} (process {pid}) has held audit.event "
        f"for {age_s:.0f} s or more; the next run tries again"
    )


def _finish(conn: Connection, name: str, *, now: datetime, patience_s: float) -> DetachResult:
    """Go on from wherever the catalog stands until the table is no partition any more."""
    attempts = stamina.retry_context(
        on=LockNotAvailable,
        attempts=None,
        timeout=patience_s,
        wait_initial=0.05,
        wait_max=1.0,
        wait_jitter=0.2,
    )
    try:
        for attempt in attempts:
            with attempt:
                _finalize_others(conn, name)
                _take_out(conn, name)
    except LockNotAvailable:
        reason = f"readers held {name} or audit.event for {patience_s:g} s; the next run goes on"
        return DetachResult(state=State.DETACH_STARTED, postponed_because=reason)
    if mark_detached(conn, name, now=now):
        crash("S_DETACHED")
    return DetachResult(state=_row(conn, name).state)


def _take_out(conn: Connection, name: str) -> None:
    attachment = read_attachment(conn, name)
    if attachment is Attachment.ATTACHED:
        try:
            _alter(conn, _DETACH, name, lock_timeout=DETACH_TIMEOUT)
        except LockNotAvailable:
            if read_attachment(conn, name) is Attachment.PENDING:
                crash("S_DETACH_PENDING")
            raise
    elif attachment is Attachment.PENDING:
        _alter(conn, _FINALIZE, name, lock_timeout=FINALIZE_TIMEOUT)


def _finalize_others(conn: Connection, name: str) -> None:
    """Finish detaches that were interrupted; the records are completed by their own next step.

    Raises:
        DatabaseError: Readers are still sent to such a partition, where they find nothing.
    """
    with as_owner(conn):
        found = conn.execute(load_queries("detach")["find_half_detached"]).fetchall()
    for other, state in found:
        if other == name:
            continue
        if state not in {State.DETACH_STARTED, State.DETACHED}:
            raise DatabaseError(
                f"audit.{other} is half detached, but its record says {state}: its rows are "
                "invisible. Finish it (ALTER TABLE audit.event DETACH PARTITION … FINALIZE) and "
                "attach it again with its bounds",
                name=other,
            )
        _alter(conn, _FINALIZE, other, lock_timeout=FINALIZE_TIMEOUT)


def _alter(conn: Connection, statement: sql.SQL, name: str, *, lock_timeout: str) -> None:
    with _owner_session(conn, lock_timeout=lock_timeout), translated():
        conn.execute(statement.format(table=sql.Identifier("audit", name)))


@contextmanager
def _owner_session(conn: Connection, *, lock_timeout: str) -> Iterator[None]:
    """Rights and time-out for the session: the statements inside refuse a transaction block."""
    queries = load_queries("detach")
    with translated():
        before = conn.execute(queries["read_session_rights"]).fetchone()
        role_before, timeout_before = before or ("none", "0")
        conn.execute(
            queries["set_session_rights"], {"role_name": OWNER_ROLE, "lock_timeout": lock_timeout}
        )
    try:
        yield
    finally:
        if not conn.closed and not conn.broken:
            with translated():
                conn.execute(
                    queries["set_session_rights"],
                    {"role_name": role_before, "lock_timeout": timeout_before},
                )
