"""Sensor `reaper`: reports drain runs failed that nothing executes any more.

Here: gather, judge, report. Not here: the judgement (`sensors/lost_runs.py`). The launcher has no
health check: when a host or the code server dies together with a run, that run stays STARTED. It
stops nobody, because `decide` ignores it, but it looks alive and counts among the runs in progress.
"""

import json
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from audit_platform.errors import AuditPlatformError
from audit_platform.jobs.ingest import INGEST_JOB
from audit_platform.resources import DatabaseResource
from audit_platform.sensors.gather import FINISHED, STAGES, gather_leases, in_flight, runs_by_shard
from audit_platform.sensors.lost_runs import confirm, suspects

# A lost run delays no event: its shard gets another run. So a tick a minute is often enough; each
# costs Dagster's storage 2 KB.
MINIMUM_INTERVAL_S: Final = 60
MAX_RUNS: Final = 200
MESSAGE: Final = (
    "Reported failed by the reaper: the run is unfinished but holds no lease, so nothing executes "
    "it. Its events stay in the stream; the next drain run stores them."
)

_TEXT: Final = """
Reports drain runs failed that are unfinished in Dagster but executed by nobody: the host or the
code server died with them. No event is lost by that; the next run stores what was pending.
"""


@dg.sensor(
    name="reaper",
    description=_TEXT,
    minimum_interval_seconds=MINIMUM_INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def reaper(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SensorResult:
    """Run one tick: find suspects, report those that were suspects before."""
    filters = dg.RunsFilter(job_name=INGEST_JOB, statuses=list(STAGES))
    # Oldest first: a limit must not hide the runs that are lost.
    records = context.instance.get_run_records(filters=filters, limit=MAX_RUNS, ascending=True)
    if not records:
        return dg.SensorResult(skip_reason="no unfinished drain runs", cursor="{}")
    try:
        with database.writer("reaper") as conn:
            leases = gather_leases(context.instance, conn)
    except AuditPlatformError as exc:
        if not exc.retryable:
            raise
        return dg.SensorResult(skip_reason=f"{exc.message} The next tick looks again.")
    now = datetime.now(UTC)
    runs = {shard: in_flight(found) for shard, found in runs_by_shard(records).items()}
    seen: dict[str, float] = json.loads(context.cursor or "{}")
    dead, seen = confirm(suspects(runs, leases, now), seen, now.timestamp())
    reported = [run_id for run_id in dead if _report_failed(context.instance, run_id)]
    reason = _sentence(len(records), reported, list(seen))
    return dg.SensorResult(skip_reason=reason, cursor=json.dumps(seen))


def _report_failed(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Report a run failed unless it ended meanwhile; returns whether it was reported."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status in FINISHED:
        return False
    instance.report_run_failed(run, message=MESSAGE)
    return True


def _sentence(unfinished: int, reported: list[str], suspected: list[str]) -> str:
    parts = [f"{unfinished} unfinished drain runs"]
    if reported:
        parts.append(f"reported failed: {', '.join(run_id[:8] for run_id in reported)}")
    if suspected:
        parts.append(f"suspected: {', '.join(run_id[:8] for run_id in suspected)}")
    return "; ".join(parts)
