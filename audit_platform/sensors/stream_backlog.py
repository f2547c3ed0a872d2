"""Sensor `stream_backlog`: requests a drain run for each shard that has entries and no drain.

Here: gather, decide, translate; and waiting for an entry inside the tick, which is what makes a
drain start within seconds of the first event. Not here: the decision (`sensors/decision.py`).
It never moves data and keeps no cursor: the consumer group knows what was delivered. Its requests
carry no run key, because a key would block its shard for ever after one failed run.
"""

import time
from datetime import UTC, datetime
from threading import Event
from typing import Final

import dagster as dg

from audit_platform.db.pool import Connection
from audit_platform.errors import AuditPlatformError
from audit_platform.events.backlog import LONGEST_READ_MS, Backlog, ShardBacklog
from audit_platform.jobs.ingest import (
    DRAIN_OP,
    INGEST_JOB,
    MAX_RUNTIME_MARGIN_S,
    MAX_RUNTIME_TAG,
    SHARD_TAG,
)
from audit_platform.resources import DatabaseResource, SettingsResource, StreamResource
from audit_platform.sensors.decision import (
    Decision,
    DrainRequest,
    Launch,
    Skip,
    StreamState,
    decide,
    idle_s_of,
)
from audit_platform.sensors.gather import gather_shards, read_backlogs
from audit_platform.settings import Settings

# The daemon's loop runs every 5 s whatever this says; 5 would now and then miss a turn by jitter.
MINIMUM_INTERVAL_S: Final = 1
DAGSTER_SHARE_MS: Final = 1_000
"""What a tick may cost around its body. Without it ticks ended just past the next 5 s mark, and the
sensor was blind for 5 s of 15 (measured 2026-11-22, 2 cores under load, 8 ticks of 0.3 to 0.9 s
besides the wait). Being blind for 1 s of 10 costs less."""

LOOK_INTERVAL_MS: Final = 1_000
"""While a drain is active: how soon its end is seen if entries wait by then."""

_TEXT: Final = """
Looks at every Redis stream and requests a run of `ingest` where entries wait and nothing drains.

A tick lasts about 29 s: it waits for the first entry, so that a drain starts at once, and looks
every second while a drain is active, so that the next one follows at once. Where events come one by
one, a run is asked to stay ten times as long: a run costs more than the wait.
Every skipped tick says why in one sentence.
"""


@dg.sensor(
    name="stream_backlog",
    # By name: with the job itself Dagster warns about its own use of a beta parameter (1.13.27).
    job_name=INGEST_JOB,
    description=_TEXT,
    minimum_interval_seconds=MINIMUM_INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def stream_backlog(
    context: dg.SensorEvaluationContext,
    settings: SettingsResource,
    database: DatabaseResource,
    stream: StreamResource,
) -> dg.SensorResult:
    """Run one tick: decide, wait where nothing is to do, decide once more."""
    began_s, values = time.monotonic(), settings.load()
    try:
        with stream.backlog() as backlog, database.writer("stream_backlog") as conn:
            decision = _decide_and_wait(context.instance, conn, backlog, values, began_s)
    except AuditPlatformError as exc:
        # An outage of a service is no defect of the sensor: say it, and look again in 5 s.
        if not exc.retryable:
            raise
        return dg.SensorResult(skip_reason=f"{exc.message} The next tick looks again.")
    return _translate(decision, values)


def _decide_and_wait(
    instance: dg.DagsterInstance,
    conn: Connection,
    backlog: Backlog,
    settings: Settings,
    began_s: float,
) -> Decision:
    # Looks again and again within one tick: a tick costs Dagster's storage 2 KB and comes every 5 s
    # at best, a look costs a few milliseconds and sees the end of a drain within a second.
    while True:
        found, decision = _look(instance, conn, backlog, settings)
        spent_ms = round((time.monotonic() - began_s) * 1_000)
        block_ms = settings.sensor_block_ms - spent_ms - DAGSTER_SHARE_MS
        if isinstance(decision, Launch) or block_ms <= 0:
            return decision
        if isinstance(decision, Skip):
            Event().wait(min(block_ms, LOOK_INTERVAL_MS) / 1_000)
            continue
        # From the ids of this look, never `$`: an entry that came in between ends the wait.
        last_ids = {one.shard: one.last_id for one in found if one.shard in decision.shards}
        backlog.wait(last_ids, min(block_ms, decision.block_ms, LONGEST_READ_MS))


def _look(
    instance: dg.DagsterInstance, conn: Connection, backlog: Backlog, settings: Settings
) -> tuple[list[ShardBacklog], Decision]:
    found = read_backlogs(backlog, range(settings.shards))
    now = datetime.now(UTC)
    shards = gather_shards(instance, conn, found, now)
    state = StreamState(now=now, block_ms=settings.sensor_block_ms, shards=shards)
    return found, decide(state)


def _translate(decision: Decision, settings: Settings) -> dg.SensorResult:
    if isinstance(decision, Launch):
        requests = [_run_request(one, settings) for one in decision.requests]
        return dg.SensorResult(run_requests=requests)
    return dg.SensorResult(skip_reason=decision.reason)


def _run_request(request: DrainRequest, settings: Settings) -> dg.RunRequest:
    config: dict[str, int | float | str] = {"shard": request.shard}
    if request.dead_run_id is not None:
        config["dead_run_id"] = request.dead_run_id
    usual_s = settings.drain_idle_s
    idle_s = idle_s_of(request, usual_s=usual_s, longest_s=settings.drain_idle_longest_s)
    if idle_s != usual_s:
        config["idle_s"] = idle_s
    max_runtime_s = round(settings.drain_lifetime_s) + MAX_RUNTIME_MARGIN_S
    return dg.RunRequest(
        run_config={"ops": {DRAIN_OP: {"config": config}}},
        tags={SHARD_TAG: str(request.shard), MAX_RUNTIME_TAG: str(max_runtime_s)},
    )
