"""Code locations and runs for tests: made like the daemon makes them, at any age.

Here: the few private parts of Dagster that its own tests use, in one place.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test, freeze_time
from pydantic import SecretStr

from audit_platform.db.pool import Connection
from audit_platform.definitions import build_defs
from audit_platform.events import lease as leases
from audit_platform.jobs.ingest import DRAIN_OP, INGEST_JOB, SHARD_TAG
from audit_platform.resources import platform_resources
from audit_platform.settings import Settings

ORIGIN = RemoteJobOrigin(
    repository_origin=RemoteRepositoryOrigin(
        code_location_origin=GrpcServerCodeLocationOrigin(
            host="127.0.0.1", port=1, location_name="audit_platform.definitions"
        ),
        repository_name="__repository__",
    ),
    job_name=INGEST_JOB,
)

EVENTS = {
    dg.DagsterRunStatus.STARTING: DagsterEventType.PIPELINE_STARTING,
    dg.DagsterRunStatus.STARTED: DagsterEventType.PIPELINE_START,
}


def location_of(settings: Settings, **changes: Any) -> dg.Definitions:
    """Make a code location whose resources read these settings."""
    given = {**settings.model_dump(exclude_defaults=True), **changes}
    return build_defs(platform_resources({name: _plain(value) for name, value in given.items()}))


def tick(
    defs: dg.Definitions, name: str, instance: dg.DagsterInstance, *, cursor: str | None = None
) -> SensorExecutionData:
    """Evaluate a sensor once, as the daemon does."""
    sensor = defs.resolve_sensor_def(name)
    resources = defs.get_repository_def().get_top_level_resources()
    with dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        resources={key: resources[key] for key in sensor.required_resource_keys},
    ) as context:
        return sensor.evaluate_tick(context)


def ago(seconds: float) -> datetime:
    """A moment in the past."""
    return datetime.now(UTC) - timedelta(seconds=seconds)


def requested(found: SensorExecutionData) -> list[dg.RunRequest]:
    """Run requests of a tick."""
    return list(found.run_requests or ())


def drain_config(request: dg.RunRequest) -> dict[str, Any]:
    """Config of the drain op in a run request."""
    return request.run_config["ops"][DRAIN_OP]["config"]


def take_lease(writer: Connection, run_id: str, *, ttl_s: float = 30.0) -> None:
    """Take the lease of shard 0 as a drain run does."""
    taken = leases.take(writer, shard=0, run_id=run_id, ttl_s=ttl_s, dead_run_id=None)
    assert taken is not None


def make_run(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    *,
    since: datetime,
    shard: int | None = 0,
    run_config: dict[str, Any] | None = None,
) -> str:
    """Make a drain run that has this status since then; returns its id."""
    tags = {} if shard is None else {SHARD_TAG: str(shard)}
    with freeze_time(since):
        run = create_run_for_test(
            instance,
            job_name=INGEST_JOB,
            status=status,
            tags=tags,
            run_config=run_config or {},
            remote_job_origin=ORIGIN,
        )
        if status in EVENTS:
            report(instance, run.run_id, EVENTS[status])
    return run.run_id


def report(instance: dg.DagsterInstance, run_id: str, kind: DagsterEventType) -> None:
    """Write the event of a run that changes its status."""
    event = DagsterEvent(event_type_value=kind.value, job_name=INGEST_JOB)
    instance.report_dagster_event(event, run_id=run_id)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value if isinstance(value, int | float | str) else str(value)
