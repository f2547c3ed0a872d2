"""What the Dagster UI shows, asked over its own GraphQL API."""

import re

import pytest

from tests.acceptance.conftest import Stack
from tests.acceptance.dagster_api import DagsterApi, Run, eventually
from tests.acceptance.load import loaded

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
]

TROUBLE = re.compile(r"\b(?:ERROR|CRITICAL|WARNING|Traceback|\w*Warning:)")


def active_run(api: DagsterApi) -> Run | None:
    return next(iter(api.runs(pipelineName="ingest", statuses=["STARTED"])), None)


def test_code_locations_load_without_an_error(stack: Stack) -> None:
    locations = stack.api.locations()

    assert locations
    assert set(locations.values()) == {("LOADED", "RepositoryLocation")}


def test_every_sensor_and_schedule_is_on_by_itself(stack: Stack) -> None:
    sensors, schedules = stack.api.sensors(), stack.api.schedules()

    assert {"stream_backlog", "reaper"} <= set(sensors)
    assert set(sensors.values()) == {"RUNNING"}
    assert schedules
    assert set(schedules.values()) == {"RUNNING"}


def test_every_required_daemon_is_well(stack: Stack) -> None:
    eventually(lambda: all(stack.api.daemons().values()), within_s=60, what="healthy daemons")

    assert {"SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR"} <= set(stack.api.daemons())


def test_ingest_runs_succeed_or_are_at_work(stack: Stack) -> None:
    stack.send(action="acceptance.run")

    run = eventually(lambda: active_run(stack.api), within_s=60, what="an ingest run at work")

    assert run.tags["audit/shard"] == "0"


def test_a_busy_run_plots_its_numbers_on_the_page_of_the_asset(stack: Stack) -> None:
    plotted = {"rows", "batches", "rows_per_s", "lag_p50_ms", "lag_p99_ms", "bytes"}

    with loaded(stack.data_dir, rate=150):
        observations = eventually(
            lambda: [
                numbers
                for numbers in stack.api.observed_numbers("audit_event")
                if numbers.get("rows")
            ],
            within_s=120,
            what="an observation with rows",
        )

    assert plotted <= set(observations[0])
    assert {"duplicates", "dead_letters", "late", "backlog"} <= set(observations[0])


def test_materialising_the_partitions_by_hand_succeeds(stack: Stack) -> None:
    run_id = stack.api.materialise("table_partitions")

    eventually(
        lambda: stack.api.run(run_id).status in {"SUCCESS", "FAILURE"},
        within_s=90,
        what="the end of the run",
    )
    assert stack.api.run(run_id).status == "SUCCESS"


def test_after_a_terminated_ingest_run_the_next_takes_over(stack: Stack) -> None:
    with loaded(stack.data_dir, rate=50) as load:
        run = eventually(lambda: active_run(stack.api), within_s=60, what="an ingest run at work")

        stack.api.terminate(run.run_id)

        eventually(
            lambda: stack.api.run(run.run_id).status == "CANCELED", within_s=60, what="its end"
        )
        event_id = stack.send(action="acceptance.after")
        next_run = eventually(lambda: stack.storing_run(event_id), within_s=90, what="the next run")
        report = load.end()

    assert next_run != run.run_id
    eventually(
        lambda: len(stack.stored(load.action)) == report.accepted, within_s=30, what="all stored"
    )
    assert set(stack.stored(load.action).values()) == {1}


@pytest.mark.parametrize("process", ["webserver", "daemon", "code-server"])
def test_no_error_and_no_warning_is_logged_at_start(stack: Stack, process: str) -> None:
    lines = stack.logs_at_start[process].splitlines()

    troubles = [line for line in lines if TROUBLE.search(line)]

    assert lines
    assert troubles == []
