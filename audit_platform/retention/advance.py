"""Runs the steps of a partition's life that are due, one after the other.

Here: from the decision (`retention/partition_states.py`) to the module that takes the step, what it
came to, and why it failed. Not here: the steps, which partitions a run looks at (`jobs/`,
`assets/`), how Dagster shows them.
Guarantees: a step starts only from the recorded state before it, read under the lock of the
partition; a failed one leaves its reason in `audit.partition.last_error` and is raised; what a
killed run left is taken up by the next one.
"""

import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from audit_platform.archive.export import export_partition
from audit_platform.archive.manifest import manifest_path
from audit_platform.archive.store import ArchiveStore
from audit_platform.archive.verify_apart import MODULE, Verifier, verify_apart
from audit_platform.crash_points import crash
from audit_platform.db.pool import Connection
from audit_platform.errors import (
    ArchiveMismatch,
    AuditPlatformError,
    DatabaseError,
    PartitionBusy,
    PartitionLost,
    StepRefused,
)
from audit_platform.retention.archive_copies import compare_copies
from audit_platform.retention.classes import RetentionClasses
from audit_platform.retention.cold_indexes import build_cold_indexes
from audit_platform.retention.detach import PATIENCE_S, detach
from audit_platform.retention.drop import drop
from audit_platform.retention.holds import blocking_holds
from audit_platform.retention.partition_states import LifecycleRules, Step, next_step
from audit_platform.retention.partition_table import (
    PartitionRow,
    mark_exported,
    mark_indexed,
    mark_verified,
    note_error,
    one_at_a_time,
    read_groups,
    read_partition,
)
from audit_platform.retention.seal import seal

_ORDER: Final = tuple(Step)
_Figures = Mapping[str, int | float | str]
_Outcome = tuple[_Figures, str | None]
"""Figures, and why the step was postponed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleContext:
    """What the steps need besides the partition.

    Attributes:
        rules: When a step is due.
        store: The archive that searches read.
        copy_store: The second copy; None keeps one.
        classes: Retention classes and tenants with files of their own, as they are now.
        rows_per_group: Rows of one Parquet row group.
        file_bytes: Size at which a further file begins.
        oldest_transaction_s: A detach is put off while a transaction has read for longer.
        patience_s: Longest time that one detach waits for readers.
        verifier: Who proves the archive after the export: always a process of its own, but where a
            test needs an archived day and not the proof of it.
    """

    rules: LifecycleRules
    store: ArchiveStore
    copy_store: ArchiveStore | None
    classes: RetentionClasses
    rows_per_group: int
    file_bytes: int
    oldest_transaction_s: float = 30.0
    patience_s: float = PATIENCE_S
    verifier: Verifier = verify_apart


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one step came to.

    Attributes:
        figures: Numbers and short texts, for people and for Dagster's metadata.
        postponed_because: Why a later run has to go on with this step; None when it was taken.
    """

    name: str
    step: Step
    seconds: float
    figures: _Figures = field(default_factory=dict[str, "int | float | str"])
    postponed_because: str | None = None


def advance(
    conn: Connection,
    row: PartitionRow,
    context: LifecycleContext,
    *,
    now: datetime,
    until: Step | None,
) -> list[StepReport]:
    """Take every step of one partition that is due, until one is not.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, outside a transaction, without a
            pooler in between.
        row: The partition; its state is read again under its lock.
        context: Rules and places.
        now: Aware; decides what is due and is recorded as the moment of each step.
        until: Last step to take; None takes all that are due.

    Returns:
        One report per step, in order; the last one may be postponed. Empty if nothing was due.

    Raises:
        PartitionBusy: Another process works on it; nothing was done.
        AuditPlatformError: A step failed, as its module says; noted in `last_error`.
    """
    reports: list[StepReport] = []
    with one_at_a_time(conn, row.name):
        while True:
            current = _read(conn, row.name)
            step = next_step(current, context.rules, now)
            if step is None or (until is not None and _ORDER.index(step) > _ORDER.index(until)):
                return reports
            if reports and reports[-1].step is step:
                raise StepRefused(
                    f"the step {step} of {row.name} changed nothing: somebody else changes its "
                    "record; the next run looks again",
                    name=row.name,
                    reason="unchanged",
                )
            reports.append(_take(conn, current, step, context, now=now))
            if reports[-1].postponed_because is not None:
                return reports


def _read(conn: Connection, name: str) -> PartitionRow:
    row = read_partition(conn, name)
    if row is None:
        raise PartitionLost(f"there is no partition {name}", name=name)
    return row


def _take(
    conn: Connection, row: PartitionRow, step: Step, context: LifecycleContext, *, now: datetime
) -> StepReport:
    """Take one step; a failure is noted where operators look, then raised."""
    began_s = time.monotonic()
    try:
        figures, postponed_because = _TAKERS[step](conn, row, context, now)
    except PartitionBusy:
        raise  # its step goes on elsewhere: nothing is wrong with this partition
    except AuditPlatformError as exc:
        # A broken connection cannot be told anything; the error itself says so.
        with suppress(DatabaseError):
            note_error(conn, row.name, f"{step}: {exc.message}")
        raise
    return StepReport(
        name=row.name,
        step=step,
        seconds=time.monotonic() - began_s,
        figures=figures,
        postponed_because=postponed_because,
    )


def _seal(
    conn: Connection, row: PartitionRow, context: LifecycleContext, now: datetime
) -> _Outcome:
    report = seal(conn, row.name, rules=context.rules, class_of=context.classes.class_of, now=now)
    return {"rows": report.n, "root": report.root.hex()}, None


def _index(
    conn: Connection, row: PartitionRow, context: LifecycleContext, now: datetime
) -> _Outcome:
    del context
    report = build_cold_indexes(conn, row.name)
    mark_indexed(conn, row.name, generation=row.generation, now=now)
    return {"indexes": len(report.created)}, None


def _export(
    conn: Connection, row: PartitionRow, context: LifecycleContext, now: datetime
) -> _Outcome:
    written = export_partition(
        conn,
        row,
        context.store,
        context.copy_store,
        groups=read_groups(conn, row.name, row.generation),
        file_tenant=context.classes.file_tenant,
        rows_per_group=context.rows_per_group,
        file_bytes=context.file_bytes,
        now=now,
    )
    mark_exported(
        conn,
        row.name,
        generation=row.generation,
        files=written.files,
        manifest_sha256=written.manifest_sha256,
        now=now,
    )
    crash("S_EXPORTED")
    return {"rows": written.rows, "files": len(written.files), "bytes": written.bytes}, None


def _verify(
    conn: Connection, row: PartitionRow, context: LifecycleContext, now: datetime
) -> _Outcome:
    """Let another process read the archive, compare the second copy, and record the result.

    Raises:
        ArchiveMismatch: The archive is not what was sealed.
    """
    if row.manifest_sha256 is None:
        raise AssertionError("unreachable: the table demands a manifest of an exported partition")
    report = context.verifier(
        context.store.url,
        manifest_path(row.lo, row.hi, row.generation),
        manifest_sha256=row.manifest_sha256,
        root=row.root,
    )
    if not report.is_intact or report.rows != row.n:
        raise ArchiveMismatch(
            f"the archive of {row.name} is not what was sealed: {report.verdict}. Replace the "
            "named file by its second copy; the verification is repeated",
            name=row.name,
            mismatches=report.mismatch_count,
        )
    if context.copy_store is not None:
        # The second copy is as good as the first where its bytes are the same.
        compared = compare_copies(row, context.store, context.copy_store)
        if compared.findings:
            raise ArchiveMismatch(compared.verdict, name=row.name)
    mark_verified(
        conn,
        row.name,
        generation=row.generation,
        manifest_sha256=row.manifest_sha256,
        verified_by=f"{MODULE} on {platform.node()}",
        now=now,
    )
    crash("S_VERIFIED")
    return {"rows": report.rows, "files": report.files, "bytes": report.bytes}, None


def _detach(
    conn: Connection, row: PartitionRow, context: LifecycleContext, now: datetime
) -> _Outcome:
    result = detach(
        conn,
        row.name,
        now=now,
        oldest_transaction_s=context.oldest_transaction_s,
        patience_s=context.patience_s,
    )
    return {"state": result.state}, result.postponed_because


def _drop(
    conn: Connection, row: PartitionRow, context: LifecycleContext, now: datetime
) -> _Outcome:
    # A hold is no fault: it is reported as a reason to wait, night after night.
    holds = blocking_holds(conn, row.lo, row.hi)
    if holds:
        cases = ", ".join(sorted({hold.case_id for hold in holds}))
        return {"holds": len(holds)}, f"legal holds cover {row.name} (case {cases})"
    result = drop(conn, row.name, context.store, context.copy_store, rules=context.rules, now=now)
    return {"rows": result.rows, "freed_bytes": result.freed_bytes}, None


_Taker = Callable[[Connection, PartitionRow, LifecycleContext, datetime], _Outcome]
_TAKERS: Final[Mapping[Step, _Taker]] = {
    Step.SEAL: _seal,
    Step.INDEX: _index,
    Step.EXPORT: _export,
    Step.VERIFY: _verify,
    Step.DETACH: _detach,
    Step.DROP: _drop,
}
