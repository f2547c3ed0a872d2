"""Opens a sealed partition again, so that it can take more rows; it never loses one.

Here: the conditions, the proof that the table still holds what was sealed, the one transaction
that opens it. Not here: a partition that is not attached (`retention/restore.py` brings it back
first), the rows that then come (`retention/late_rows.py`), what becomes of the generation that
ended (`retention/old_generations.py`).
Guarantees: a partition is opened only while its table holds every sealed row and its archive was
verified, so that what it held can be proved later; a kill leaves it either as it was or open; each
opening is an event of the log.

A sealed or exported partition is on its way to `verified`: it is left alone until then.

Source: storage design, section 3.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import stamina

from audit_platform.db.pool import Connection
from audit_platform.errors import LockNotAvailable, StepRefused
from audit_platform.events.act_event import Act
from audit_platform.events.act_log import ActLog
from audit_platform.events.event import ActorType
from audit_platform.retention.detach import Attachment, read_attachment
from audit_platform.retention.digest import digest_of
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_generations import mark_reopened
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import PartitionRow, note_restored, one_at_a_time
from audit_platform.retention.seal import unseal

REOPEN_ACTION: Final = "audit.partition.reopen"
PATIENCE_S: Final = 60.0
"""Readers that hold the partition for longer make the next run open it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopening:
    """Who opens a partition again, and why.

    Attributes:
        actor: A job or an operator.
        actor_type: Kind of actor.
        reason: One sentence for people.
        log: Takes the event of it.
        patience_s: Longest time of retries while readers hold the table.
    """

    actor: str
    actor_type: ActorType
    reason: str
    log: ActLog
    patience_s: float = PATIENCE_S


def reopen(conn: Connection, row: PartitionRow, reopening: Reopening, *, now: datetime) -> None:
    """Open a verified partition again, as its next generation.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, outside a transaction.
        row: As it was read; its state and generation must still be these.
        reopening: Who and why.
        now: Aware.

    Raises:
        StepRefused: It is in another state, its record changed, or its table does not hold what
            was sealed or is not attached.
        PartitionBusy: Another process works on it.
        LockNotAvailable: Readers held the table for longer than `patience_s`.
        QueueError: The log does not take the event; the partition stays as it was.
    """
    if row.state is not State.VERIFIED:
        raise _refusal(row, "state", f"it is {row.state}, not verified")
    with one_at_a_time(conn, row.name), as_owner(conn):
        if not mark_reopened(conn, row, now=now):
            raise _refusal(row, "state", "its record changed meanwhile")
        _prove(conn, row)
        if row.restored_as == row.name:
            # The generation that was brought back ends here.
            note_restored(conn, row.name, table=None, before=row.restored_as, now=now)
        _admit(conn, row, patience_s=reopening.patience_s)
        reopening.log.record(_act(row, reopening), now=now)


def _act(row: PartitionRow, reopening: Reopening) -> Act:
    return Act(
        action=REOPEN_ACTION,
        actor=reopening.actor,
        actor_type=reopening.actor_type,
        entity_type="partition",
        entity_id=row.name,
        description=f"Open {row.name} again: {reopening.reason}",
        metadata={
            "state": row.state,
            "generation": row.generation,
            "rows": row.n,
            "root": None if row.root is None else row.root.hex(),
        },
    )


def _prove(conn: Connection, row: PartitionRow) -> None:
    """Compare the table with its seal, in the transaction that opens it."""
    if read_attachment(conn, row.name) is not Attachment.ATTACHED:
        raise _refusal(row, "attached", "it is no partition of audit.event: attach it first")
    found = digest_of(conn, row.name)
    if (found.n, found.leaf_digest) != (row.n, row.leaf_digest):
        why = f"it holds {found.n} rows, not the {row.n} that were sealed with these leaves"
        raise _refusal(row, "changed_row", why)


def _admit(conn: Connection, row: PartitionRow, *, patience_s: float) -> None:
    """Take the triggers away; each attempt waits briefly, the time between without a lock.

    A savepoint per attempt: the proof is not repeated because a reader was in the way.
    """
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
            unseal(conn, row.name)


def _refusal(row: PartitionRow, reason: str, why: str) -> StepRefused:
    return StepRefused(f"{row.name} is not opened again: {why}", name=row.name, reason=reason)
