"""Walks the partitions whose next step is due and takes their steps, one partition at a time.

Here: which partitions a run looks at, the proofs between the steps (the ledger before an export,
both copies before a detach), what a run came to. Not here: the steps, which ask again what must
hold under their locks (`retention/advance.py`), when a run begins (`schedules.py`), how Dagster
shows it (`jobs/lifecycle.py`).
Guarantee: a partition that fails stops no other; one that another process works on is left to it;
a repeat does what is left. The oldest goes first, so that a backlog ends in order of time.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from audit_platform.db.pool import Connection
from audit_platform.errors import AuditPlatformError, PartitionBusy, StepRefused
from audit_platform.retention.advance import LifecycleContext, StepReport, advance
from audit_platform.retention.archive_copies import COPIES_REASON, CopyComparison, compare_copies
from audit_platform.retention.holds import Hold, blocking_holds
from audit_platform.retention.partition_ledger import (
    LEDGER_REASON,
    PartitionLedger,
    compare_partition,
)
from audit_platform.retention.partition_states import LifecycleRules, State, Step, next_step
from audit_platform.retention.partition_table import (
    PartitionRow,
    list_partitions,
    note_error,
    read_partition,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionOutcome:
    """What a run did to one partition.

    Attributes:
        row: Its record afterwards.
        reports: Steps that were taken, in order; the last one may be postponed.
        ledger: What the ledger said before the export; None when it was not asked.
        copies: What the hashes of both copies said before the detach; likewise.
        holds: Legal holds that forbade the step.
        proved_step: Step before which proofs were asked; None if none was due.
        error: Why the step after those failed; None when none did.
    """

    row: PartitionRow
    reports: tuple[StepReport, ...]
    ledger: PartitionLedger | None = None
    copies: CopyComparison | None = None
    holds: tuple[Hold, ...] = ()
    proved_step: Step | None = None
    error: AuditPlatformError | None = None

    @property
    def taken(self) -> tuple[StepReport, ...]:
        """Steps that were taken as a whole."""
        return tuple(one for one in self.reports if one.postponed_because is None)

    @property
    def waits_because(self) -> str | None:
        """Why a later run has to go on, without anything being wrong; None otherwise."""
        if isinstance(self.error, PartitionBusy):
            return self.error.message
        postponed = [one.postponed_because for one in self.reports if one.postponed_because]
        return postponed[-1] if postponed else None

    @property
    def failed_because(self) -> str | None:
        """What is wrong; None if nothing is."""
        if self.error is None or isinstance(self.error, PartitionBusy):
            return None
        return self.error.message


def find_due(
    conn: Connection, *, rules: LifecycleRules, steps: Collection[Step], now: datetime
) -> list[PartitionRow]:
    """List the partitions whose next step is one of these and due, the oldest first.

    Args:
        conn: As `audit_maint` or the owner.
        rules: When steps are due.
        steps: That the run may take; a partition whose next step is another one is left alone.
        now: Aware.
    """
    return [row for row in list_partitions(conn) if next_step(row, rules, now) in steps]


def advance_due(
    conn: Connection,
    context: LifecycleContext,
    *,
    steps: Collection[Step],
    clock: Callable[[], datetime],
    names: Collection[str] = (),
    is_time_up: Callable[[], bool] = lambda: False,
) -> Iterator[PartitionOutcome]:
    """Take the due steps of every partition, and tell of each partition when it is done.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, outside a transaction, without a
            pooler in between.
        context: Rules and places.
        steps: Consecutive steps that this run may take.
        clock: Gives an aware moment; asked again for each partition, since a run may last hours.
        names: Only these partitions; empty: all.
        is_time_up: Asked before each partition; True leaves the rest to the next run.

    Raises:
        DatabaseUnavailable: The connection broke; the other partitions wait for the next run.
    """
    for row in find_due(conn, rules=context.rules, steps=steps, now=clock()):
        if names and row.name not in names:
            continue
        if is_time_up():
            return
        yield advance_one(conn, row, context, steps=steps, now=clock())


def advance_one(
    conn: Connection,
    row: PartitionRow,
    context: LifecycleContext,
    *,
    steps: Collection[Step],
    now: datetime,
) -> PartitionOutcome:
    """Take the due steps of one partition, with the proofs between them.

    Raises:
        DatabaseUnavailable: The connection broke.
    """
    reports: list[StepReport] = []
    proofs = _Proofs()
    error: AuditPlatformError | None = None
    try:
        if Step.EXPORT in steps:
            reports += advance(conn, row, context, now=now, until=Step.INDEX)
        proofs.ask(conn, row.name, context, steps=steps, now=now)
        reports += advance(conn, row, context, now=now, until=max(steps, key=tuple(Step).index))
    except AuditPlatformError as exc:
        if conn.closed:
            raise
        error = exc
    return PartitionOutcome(
        row=read_partition(conn, row.name) or row,
        reports=tuple(reports),
        ledger=proofs.ledger,
        copies=proofs.copies,
        holds=proofs.holds,
        proved_step=proofs.step,
        error=error,
    )


@dataclass(slots=True)
class _Proofs:
    """What was asked before a step; a refusal is noted like the failure of that step."""

    ledger: PartitionLedger | None = None
    copies: CopyComparison | None = None
    holds: tuple[Hold, ...] = ()
    step: Step | None = None

    def ask(
        self,
        conn: Connection,
        name: str,
        context: LifecycleContext,
        *,
        steps: Collection[Step],
        now: datetime,
    ) -> None:
        """Ask what the next step of the partition needs.

        Raises:
            StepRefused: Ledger or copies contradict; the field `reason` says which.
        """
        row = read_partition(conn, name)
        step = None if row is None else next_step(row, context.rules, now)
        if row is None or step not in steps:
            return
        self.step = step
        if step is Step.EXPORT:
            self.ledger = compare_partition(conn, name, lo=row.lo, hi=row.hi)
            if not self.ledger.is_conserved:
                _refuse(conn, name, self.ledger.verdict, LEDGER_REASON)
        elif step is Step.DROP:
            self.holds = tuple(blocking_holds(conn, row.lo, row.hi))
        elif step is Step.DETACH and row.state is State.VERIFIED:
            self.holds = tuple(blocking_holds(conn, row.lo, row.hi, keep_hot=True))
            if self.holds:
                return
            self.copies = compare_copies(row, context.store, context.copy_store)
            if self.copies.findings:
                _refuse(conn, name, self.copies.verdict, COPIES_REASON)


def _refuse(conn: Connection, name: str, verdict: str, reason: str) -> NoReturn:
    note_error(conn, name, verdict)
    raise StepRefused(verdict, name=name, reason=reason)
