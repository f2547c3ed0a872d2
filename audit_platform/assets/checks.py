"""Checks on the assets: each says what is wrong and what to do.

Here: asking the domain and judging the answer. Not here: when they run (`schedules.py`).
"""

from datetime import UTC, datetime
from typing import Final

import dagster as dg

from audit_platform.assets.audit_event import AUDIT_EVENT, TABLE_PARTITIONS
from audit_platform.errors import DatabaseUnavailable
from audit_platform.failures import dagster_failures
from audit_platform.resources import DatabaseResource, SettingsResource
from audit_platform.retention.ledger import LedgerComparison, compare_ledger
from audit_platform.retention.lifecycle import find_granted, read_runway

LEDGER_BATCHES: Final = 50
_TIMED_OUT: Final = "57014"


# Blocking: while partitions cannot be added, none is detached or dropped.
@dg.asset_check(asset=TABLE_PARTITIONS, blocking=True)
def partition_runway(settings: SettingsResource, database: DatabaseResource) -> dg.AssetCheckResult:
    """At least `AUDIT_PARTITIONS_ALARM` partitions (3) follow the present one without a gap."""
    alarm, now = settings.load().partitions_alarm, datetime.now(UTC)
    with dagster_failures(), database.owner("check runway") as conn:
        reach = read_runway(conn, now=now)
    is_enough = reach.partitions >= alarm
    remedy = "" if is_enough else "; materialize table_partitions, its last run says what failed"
    return dg.AssetCheckResult(
        passed=is_enough,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{reach.partitions} partitions ahead, alarm below {alarm}{remedy}",
        metadata={"partitions ahead": reach.partitions, "days ahead": round(reach.days, 2)},
    )


@dg.asset_check(asset=TABLE_PARTITIONS)
def partitions_owner_only(database: DatabaseResource) -> dg.AssetCheckResult:
    """No role besides the owner may touch a partition: a grant reads past the tenant filter."""
    with dagster_failures(), database.owner("check grants") as conn:
        granted = find_granted(conn)
    description = "no partition is granted to anybody"
    if granted:
        description = f"revoke all grants on: {', '.join(granted[:10])}"
    return dg.AssetCheckResult(
        passed=not granted,
        severity=dg.AssetCheckSeverity.ERROR,
        description=description,
        metadata={"granted partitions": len(granted)},
    )


@dg.asset_check(asset=AUDIT_EVENT)
def ledger_conservation(database: DatabaseResource) -> dg.AssetCheckResult:
    """Each of the newest 50 batches has as many rows in `audit.event` as its ledger row says."""
    try:
        with dagster_failures(), database.owner("check ledger") as conn:
            return _judge(compare_ledger(conn, batches=LEDGER_BATCHES))
    except dg.Failure as exc:
        cause = exc.__cause__
        if isinstance(cause, DatabaseUnavailable) and cause.sqlstate == _TIMED_OUT:
            return _not_compared()
        raise


def _judge(comparison: LedgerComparison) -> dg.AssetCheckResult:
    broken = comparison.broken
    judged = [batch for batch in comparison.batches if not batch.is_unjudged]
    rows = sum(batch.n_new for batch in judged)
    description = f"{rows:,} rows of {len(judged)} batches are all there"
    if comparison.unjudged:
        # What an import of history brought and the next night archived.
        description += f"; {comparison.unjudged} further batches reach into the archive"
    if broken:
        named = ", ".join(batch.batch_id for batch in broken[:5])
        description = f"{len(broken)} batches have other rows than their ledger says: {named}"
    return dg.AssetCheckResult(
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR,
        description=description,
        metadata={
            "batches": len(comparison.batches),
            "rows": comparison.rows,
            "broken batches": len(broken),
            "batches that reach into the archive": comparison.unjudged,
            "rows missing": sum(batch.n_new - batch.n_stored for batch in broken),
        },
    )


def _not_compared() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description="not compared: the count took over 30 s; nothing is known to be wrong",
    )
