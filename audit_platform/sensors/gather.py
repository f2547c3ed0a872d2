"""Reads the state that the sensors decide on: runs from Dagster, leases from PostgreSQL.

Here: bounded reads, turned into the values of `sensors/decision.py`. Not here: any judgement.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg

from audit_platform.db.pool import Connection, translated
from audit_platform.events.backlog import Backlog, ShardBacklog
from audit_platform.events.lease import LeaseRow, read_leases
from audit_platform.jobs.ingest import DRAIN_OP, INGEST_JOB, SHARD_TAG
from audit_platform.sensors.decision import LeaseState, RunInFlight, RunStage, ShardState

RECENT_RUNS_PER_SHARD: Final = 20
"""Older unfinished runs are past every bound of `decide`; the reaper looks for them."""
MAX_RECENT_RUNS: Final = 1_000

STAGES: Final = {
    dg.DagsterRunStatus.NOT_STARTED: RunStage.PENDING,
    dg.DagsterRunStatus.QUEUED: RunStage.PENDING,
    dg.DagsterRunStatus.STARTING: RunStage.LAUNCHED,
    dg.DagsterRunStatus.STARTED: RunStage.STARTED,
    dg.DagsterRunStatus.CANCELING: RunStage.CANCELING,
}
FINISHED: Final = frozenset(
    {
        dg.DagsterRunStatus.SUCCESS,
        dg.DagsterRunStatus.FAILURE,
        dg.DagsterRunStatus.CANCELED,
    }
)


def gather_shards(
    instance: dg.DagsterInstance, conn: Connection, backlogs: Sequence[ShardBacklog], now: datetime
) -> tuple[ShardState, ...]:
    """Put together what is known of each shard.

    Args:
        instance: Dagster's storage.
        conn: As the writer.
        backlogs: Read before, so that nothing slips in between unseen.
        now: Aware.
    """
    leases = gather_leases(instance, conn)
    limit = min(MAX_RECENT_RUNS, RECENT_RUNS_PER_SHARD * len(backlogs))
    runs = runs_by_shard(
        instance.get_run_records(filters=dg.RunsFilter(job_name=INGEST_JOB), limit=limit)
    )
    return tuple(
        _shard_state(
            backlog, leases.get(backlog.shard, LeaseState()), runs.get(backlog.shard, []), now
        )
        for backlog in backlogs
    )


def gather_leases(instance: dg.DagsterInstance, conn: Connection) -> dict[int, LeaseState]:
    """Read all leases, and whether the run of each live one is finished."""
    with translated():
        rows = read_leases(conn)
    return {row.shard: _lease_state(instance, row) for row in rows}


def read_backlogs(backlog: Backlog, shards: Iterable[int]) -> list[ShardBacklog]:
    """Look at each stream."""
    return [backlog.state(shard) for shard in shards]


def runs_by_shard(records: Sequence[dg.RunRecord]) -> dict[int, list[dg.RunRecord]]:
    """Sort runs by the shard they drain, order kept."""
    found: dict[int, list[dg.RunRecord]] = {}
    for record in records:
        found.setdefault(_shard_of(record.dagster_run), []).append(record)
    return found


def in_flight(records: Iterable[dg.RunRecord]) -> tuple[RunInFlight, ...]:
    """Keep the unfinished runs."""
    return tuple(
        RunInFlight(
            run_id=record.dagster_run.run_id,
            stage=STAGES[record.dagster_run.status],
            since=_since(record),
        )
        for record in records
        if record.dagster_run.status in STAGES
    )


def _shard_state(
    backlog: ShardBacklog, lease: LeaseState, records: Sequence[dg.RunRecord], now: datetime
) -> ShardState:
    oldest_s, failures, failed_at = None, 0, None
    if backlog.oldest_ms is not None:
        oldest_s = max(0.0, now.timestamp() - backlog.oldest_ms / 1_000)
        failures, failed_at = _failures_at(records, backlog.oldest_ms)
    return ShardState(
        shard=backlog.shard,
        waiting=backlog.length,
        oldest_s=oldest_s,
        lease=lease,
        runs=in_flight(records),
        failures=failures,
        failed_at=failed_at,
        ended_s=_seconds_since_end(records, now),
        owner_since=_owner_since(lease, records),
    )


def _owner_since(lease: LeaseState, records: Sequence[dg.RunRecord]) -> datetime | None:
    owners = (one for one in records if one.dagster_run.run_id == lease.run_id)
    return next(map(_since, owners), None)


def _seconds_since_end(records: Sequence[dg.RunRecord], now: datetime) -> float | None:
    ends = [record.end_time for record in records if record.end_time is not None]
    return max(0.0, now.timestamp() - max(ends)) if ends else None


def _lease_state(instance: dg.DagsterInstance, row: LeaseRow) -> LeaseState:
    if row.run_id is None or not row.is_live:
        return LeaseState(run_id=row.run_id)
    owner = instance.get_run_by_id(row.run_id)
    is_finished = owner is not None and owner.status in FINISHED
    return LeaseState(run_id=row.run_id, is_unexpired=True, is_owner_finished=is_finished)


def _failures_at(records: Sequence[dg.RunRecord], oldest_ms: int) -> tuple[int, datetime | None]:
    """Count the newest finished runs that failed at the oldest entry, queued at `oldest_ms`.

    Also tells when the newest of them ended. A run that began before this entry was queued has
    stored what was there then: it worked, and was killed. Counted as a failure it would delay the
    next run (docs/decisions/0008-proof-of-death.md).
    """
    failures, failed_at = 0, None
    for record in records:
        status = record.dagster_run.status
        if status in STAGES:
            continue
        began = _moment(record.start_time) or record.create_timestamp
        if status is not dg.DagsterRunStatus.FAILURE or began.timestamp() * 1_000 < oldest_ms:
            break
        failures += 1
        failed_at = failed_at or _moment(record.end_time) or record.update_timestamp
    return failures, failed_at


def _since(record: dg.RunRecord) -> datetime:
    """Tell since when a run is at its stage.

    A run that waited in a long queue has only just been handed to the launcher. The time of that
    change is used there alone: before any change it is the database's own clock and time zone.
    """
    if record.dagster_run.status is dg.DagsterRunStatus.STARTING:
        return record.update_timestamp
    return _moment(record.start_time) or record.create_timestamp


def _moment(epoch_s: float | None) -> datetime | None:
    return None if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC)


def _shard_of(run: dg.DagsterRun) -> int:
    """Take the tag, or the config of a run launched by hand, or the default of that config."""
    tag = run.tags.get(SHARD_TAG)
    if tag is not None and tag.isdecimal():
        return int(tag)
    run_config: Mapping[str, Any] = run.run_config
    config = run_config.get("ops", {}).get(DRAIN_OP, {}).get("config", {})
    return int(config.get("shard", 0))
