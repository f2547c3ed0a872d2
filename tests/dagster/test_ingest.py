"""The ingest job in one process: real rows from Redis to PostgreSQL, and what Dagster shows."""

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from audit_platform.assets.audit_event import AUDIT_EVENT
from audit_platform.db.pool import Connection, connected
from audit_platform.events import lease as leases
from audit_platform.events.stream import Appender, BatchEntry
from audit_platform.jobs.ingest import DRAIN_OP
from audit_platform.settings import Settings
from tests.conftest import RedisSpace
from tests.dagster.location import location_of
from tests.factories import event, wire

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

ROWS = 500


@pytest.fixture
def appender(redis_space: RedisSpace) -> Iterator[Appender]:
    made = Appender(redis_space.url("producer"), key_prefix=redis_space.prefix)
    yield made
    made.close()


@pytest.fixture
def admin(settings: Settings) -> Iterator[Connection]:
    url = settings.database_url_of("maint")
    with connected(url, application="test", role="audit_owner") as conn:
        yield conn


def append(appender: Appender, events: list[dict[str, Any]]) -> None:
    entry = BatchEntry(
        shard=0,
        ndjson=b"\n".join(wire(one) for one in events),
        count=len(events),
        received_ms=int(time.time() * 1_000),
    )
    appender.append_batch(entry)


def run_ingest(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    *,
    raise_on_error: bool = True,
    **config: object,
) -> dg.ExecuteInProcessResult:
    return location.resolve_job_def("ingest").execute_in_process(
        instance=instance,
        run_config={"ops": {DRAIN_OP: {"config": config}}},
        raise_on_error=raise_on_error,
    )


def observations(instance: dg.DagsterInstance) -> list[dict[str, Any]]:
    """Numbers of all observations of the asset, oldest first."""
    result = instance.fetch_observations(dg.AssetKey(AUDIT_EVENT), limit=100, ascending=True)
    found = [record.asset_observation for record in result.records]
    return [
        {name: value.value for name, value in one.metadata.items()}
        for one in found
        if one is not None
    ]


def totals(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (output,) = (
        made.step_output_data
        for made in result.all_events
        if made.is_step_event and made.is_successful_output
    )
    return {name: value.value for name, value in output.metadata.items()}


def test_run_moves_rows_and_observes_them_with_numbers(
    location: dg.Definitions, instance: dg.DagsterInstance, appender: Appender, admin: Connection
) -> None:
    events = [event() for _ in range(ROWS)]
    append(appender, events)

    result = run_ingest(location, instance, shard=0)

    assert result.success
    ids = {str(row[0]) for row in admin.execute("select id from audit.event").fetchall()}
    assert ids == {one["id"] for one in events}
    (numbers,) = observations(instance)
    assert (numbers["rows"], numbers["batches"], numbers["backlog"]) == (ROWS, 1, 0)
    assert numbers["rows_per_s"] > 0
    assert 0 < numbers["lag_p50_ms"] <= numbers["lag_p99_ms"]
    assert numbers["bytes"] > ROWS * 100
    assert numbers["duplicates"] == numbers["late"] == numbers["dead_letters"] == 0


def test_run_shows_its_totals_on_its_output(
    location: dg.Definitions, instance: dg.DagsterInstance, appender: Appender
) -> None:
    twice = event()
    append(appender, [twice, twice, event(action=None), event()])

    found = totals(run_ingest(location, instance, shard=0))

    assert found["ended because"] == "idle"
    assert (found["rows"], found["duplicates"], found["dead letters"]) == (2, 1, 1)
    assert sum(found["dead letters by reason"].values()) == 1


def test_ledger_names_the_run_that_stored(
    location: dg.Definitions, instance: dg.DagsterInstance, appender: Appender, admin: Connection
) -> None:
    append(appender, [event()])

    result = run_ingest(location, instance, shard=0)

    assert admin.execute("select run_id from audit.ingest_batch").fetchall() == [(result.run_id,)]


def test_run_without_events_observes_nothing(
    location: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    found = totals(run_ingest(location, instance))

    assert (found["rows"], found["ended because"]) == (0, "idle")
    assert observations(instance) == []


def test_second_run_of_a_held_shard_ends_at_once_and_harms_nothing(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    appender: Appender,
    settings: Settings,
    admin: Connection,
) -> None:
    append(appender, [event()])
    with connected(settings.database_url_of("writer"), application="test") as writer:
        leases.take(writer, shard=0, run_id="first", ttl_s=30, dead_run_id=None)

    held = totals(run_ingest(location, instance, shard=0))
    taken = totals(run_ingest(location, instance, shard=0, dead_run_id="first"))

    assert (held["ended because"], held["rows"]) == ("lease_held", 0)
    assert (taken["ended because"], taken["rows"]) == ("idle", 1)
    assert admin.execute("select count(*) from audit.event").fetchone() == (1,)


def test_wrong_setting_fails_the_run_with_cause_and_remedy(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    location = location_of(settings.model_copy(update={"dead_letter_key": None}))

    result = run_ingest(location, instance, raise_on_error=False, shard=0)

    assert not result.success
    (failure,) = (made for made in result.all_events if made.is_step_failure)
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert "AUDIT_DEAD_LETTER_KEY" in (data.description or "")
    assert data.metadata["error"].value == "InvalidSetting"


def test_job_carries_the_tags_that_coordinator_and_monitoring_read(
    location: dg.Definitions,
) -> None:
    job = location.resolve_job_def("ingest")

    assert job.tags == {"audit/lane": "ingest", "dagster/max_runtime": "720"}
    assert job.executor_def is dg.in_process_executor
