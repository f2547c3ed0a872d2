"""Checks between the steps of a partition's life: what must be true before the next one.

Here: asking the domain and judging the answer, for one partition started by hand or for the newest
one that a check can say something about. Not here: the same questions inside the nightly runs
(`retention/walk.py`, whose answers `jobs/lifecycle.py` shows as the same checks), the steps
themselves, which ask again under their locks.
Guarantee: each blocks the asset behind it, because that one takes something away.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from audit_platform.archive.manifest import manifest_path
from audit_platform.archive.verify_apart import verify_apart
from audit_platform.assets.partition_pages import ARCHIVED, DETACHED, SEALED, VERIFIED
from audit_platform.db.pool import Connection
from audit_platform.failures import dagster_failures
from audit_platform.resources import DatabaseResource, SettingsResource
from audit_platform.retention.archive_copies import compare_copies
from audit_platform.retention.holds import Hold, blocking_holds
from audit_platform.retention.lifecycle_settings import open_archive, read_lifecycle_rules
from audit_platform.retention.overview import PartitionOverview, read_overview
from audit_platform.retention.partition_ledger import compare_partition
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import (
    PartitionRow,
    list_partitions,
    read_partition,
)

LEDGER_EQUALS_ROWS: Final = "ledger_equals_rows"
ARCHIVE_RE_READ: Final = "archive_re_read"
ARCHIVE_UNCHANGED: Final = "archive_unchanged"
NOT_HELD_HOT: Final = "not_held_hot"
NOT_HELD: Final = "not_held"
ON_TIME: Final = "on_time"

OVERDUE: Final = timedelta(hours=26)
"""A step is taken the night after it is due: a day, and two hours for the nights' backlog."""
_NAMED: Final = 10

_ATTACHED: Final = frozenset({State.SEALED, State.EXPORTED, State.VERIFIED})
_ARCHIVED: Final = frozenset(
    {State.EXPORTED, State.VERIFIED, State.DETACH_STARTED, State.DETACHED, State.DROPPED}
)
_ANY: Final = frozenset(State)


@dg.asset_check(asset=SEALED, name=LEDGER_EQUALS_ROWS, blocking=True)
def ledger_equals_rows(
    context: dg.AssetCheckExecutionContext, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Every row of the partition came in a batch of the ledger, and no batch misses a row."""
    with dagster_failures(), database.owner("check ledger") as conn:
        row = _row_of(context, conn, _ATTACHED)
        if row is None:
            return _nothing_to_check("no partition is sealed and still in PostgreSQL")
        found = compare_partition(conn, row.name, lo=row.lo, hi=row.hi)
    return dg.AssetCheckResult(
        passed=found.is_conserved,
        severity=dg.AssetCheckSeverity.ERROR,
        description=found.verdict,
        metadata={
            "partition": found.name,
            "rows": found.rows,
            "batches": found.batches,
            "batches without ledger": len(found.unknown),
            "batches with too many rows": len(found.exceeding),
            "batches with too few rows": len(found.short),
            "batches that reach into archived partitions": found.unjudged,
        },
    )


@dg.asset_check(asset=ARCHIVED, name=ARCHIVE_RE_READ, blocking=True)
def archive_re_read(
    context: dg.AssetCheckExecutionContext, settings: SettingsResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Another process reads the files alone and finds the rows, ids and roots of the seal."""
    values = settings.load()
    with dagster_failures():
        with database.owner("check archive") as conn:
            row = _row_of(context, conn, _ARCHIVED)
        if row is None or row.manifest_sha256 is None:
            return _nothing_to_check("no partition is archived")
        report = verify_apart(
            values.archive_place(),
            manifest_path(row.lo, row.hi, row.generation),
            manifest_sha256=row.manifest_sha256,
            root=row.root,
            expired=tuple(one.path for one in row.files if one.expiring_at or one.expired_at),
        )
    return dg.AssetCheckResult(
        passed=report.is_intact,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{row.name}: {report.verdict}",
        metadata={
            "partition": row.name,
            "rows": report.rows,
            "files": report.files,
            "bytes": report.bytes,
            "mismatches": report.mismatch_count,
        },
    )


@dg.asset_check(asset=VERIFIED, name=ARCHIVE_UNCHANGED, blocking=True)
def archive_unchanged(
    context: dg.AssetCheckExecutionContext, settings: SettingsResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Both copies still have the hashes of the manifest: from now on readers depend on them."""
    values = settings.load()
    with dagster_failures():
        with database.owner("check copies") as conn:
            row = _row_of(context, conn, _ARCHIVED)
        if row is None:
            return _nothing_to_check("no partition is archived")
        found = compare_copies(row, *open_archive(values))
    return dg.AssetCheckResult(
        passed=not found.findings,
        severity=dg.AssetCheckSeverity.ERROR,
        description=found.verdict,
        metadata={"partition": found.name, "copies": found.copies, "files": found.files},
    )


@dg.asset_check(asset=VERIFIED, name=NOT_HELD_HOT, blocking=True)
def not_held_hot(
    context: dg.AssetCheckExecutionContext, database: DatabaseResource
) -> dg.AssetCheckResult:
    """No legal hold wants the rows of the partition in PostgreSQL."""
    return _judge_holds(
        context,
        database,
        lambda conn, row: blocking_holds(conn, row.lo, row.hi, keep_hot=True),
    )


@dg.asset_check(asset=DETACHED, name=NOT_HELD, blocking=True)
def not_held(
    context: dg.AssetCheckExecutionContext, database: DatabaseResource
) -> dg.AssetCheckResult:
    """No legal hold covers the partition: its table may be dropped."""
    return _judge_holds(context, database, lambda conn, row: blocking_holds(conn, row.lo, row.hi))


@dg.asset_check(asset=SEALED, name=ON_TIME)
def on_time(settings: SettingsResource, database: DatabaseResource) -> dg.AssetCheckResult:
    """No step of any partition failed or is more than 26 hours late, legal holds apart.

    A run that never began leaves no failed run: this is where a missed night shows.
    """
    now = datetime.now(UTC)
    with dagster_failures(), database.owner("check life cycle") as conn:
        found = read_overview(conn, rules=read_lifecycle_rules(conn, settings.load()))
    late = [one for one in found if _is_late(one, now)]
    failed = [one for one in found if one.row.last_error is not None]
    shown = {one.row.name: one for one in [*failed, *late]}
    return dg.AssetCheckResult(
        passed=not shown,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_punctuality(list(shown.values())),
        metadata={
            "partitions": len(found),
            "steps that failed": len(failed),
            "steps that are late": len(late),
            "partitions that wait for a hold": sum(one.held_step is not None for one in found),
        },
    )


def _judge_holds(
    context: dg.AssetCheckExecutionContext,
    database: DatabaseResource,
    ask: Callable[[Connection, PartitionRow], list[Hold]],
) -> dg.AssetCheckResult:
    with dagster_failures(), database.owner("check holds") as conn:
        row = _row_of(context, conn, _ANY)
        if row is None:
            return _nothing_to_check("there is no partition")
        holds = ask(conn, row)
    cases = sorted({hold.case_id for hold in holds})
    covered = f"legal holds cover {row.name}: case {', '.join(cases)}; it waits for their release"
    return dg.AssetCheckResult(
        passed=not holds,
        severity=dg.AssetCheckSeverity.ERROR,
        description=covered if holds else f"no legal hold covers {row.name}",
        metadata={"partition": row.name, "holds": len(holds)},
    )


def _row_of(
    context: dg.AssetCheckExecutionContext, conn: Connection, states: frozenset[State]
) -> PartitionRow | None:
    """The partition of this run if it is in such a state; without one, the newest that is."""
    if context.has_partition_key:
        row = read_partition(conn, context.partition_key)
        return row if row is not None and row.state in states else None
    found = [row for row in list_partitions(conn) if row.state in states]
    return found[-1] if found else None


def _nothing_to_check(reason: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, description=f"nothing to check: {reason}")


def _is_late(one: PartitionOverview, now: datetime) -> bool:
    since = one.waits_since
    return since is not None and one.held_step is None and since + OVERDUE < now


def _punctuality(shown: list[PartitionOverview]) -> str:
    if not shown:
        return "every step was taken in its time"
    named = "; ".join(f"{one.row.name}: {_trouble(one)}" for one in shown[:_NAMED])
    more = f"; and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return f"{named}{more}; look at the last runs of the job that takes this step"


def _trouble(one: PartitionOverview) -> str:
    if one.row.last_error is not None:
        return one.row.last_error
    return f"{one.next_step} is due since {one.due_at:%Y-%m-%d %H:%M}Z"
