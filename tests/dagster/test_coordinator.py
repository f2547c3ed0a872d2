"""Who waits in Dagster's queue and who does not."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from audit_platform.jobs.coordinator import INGEST_LANE, LANE_TAG
from audit_platform.jobs.ingest import ingest
from tests.dagster.location import ORIGIN

pytestmark = pytest.mark.dagster


@pytest.fixture
def queueing() -> Iterator[dg.DagsterInstance]:
    """An instance with our coordinator and Dagster's launcher that only notes what it launched."""
    coordinator = {"module": "audit_platform.jobs.coordinator", "class": "IngestFirstCoordinator"}
    launcher = {"module": "dagster._core.test_utils", "class": "MockedRunLauncher"}
    overrides = {"run_coordinator": coordinator, "run_launcher": launcher}
    with dg.instance_for_test(overrides=overrides) as made:
        yield made


def submit(instance: dg.DagsterInstance, tags: dict[str, str]) -> dg.DagsterRun:
    run = create_run_for_test(
        instance,
        job_name=ingest.name,
        tags=tags,
        status=dg.DagsterRunStatus.NOT_STARTED,
        remote_job_origin=ORIGIN,
        job_code_origin=dg.reconstructable(ingest).get_python_origin(),
    )
    instance.submit_run(run.run_id, workspace=None)  # pyright: ignore[reportArgumentType]
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def launched(instance: dg.DagsterInstance) -> list[str]:
    return [run.run_id for run in instance.run_launcher.queue()]  # pyright: ignore[reportAttributeAccessIssue]


def test_ingest_run_is_launched_without_waiting_in_the_queue(queueing: dg.DagsterInstance) -> None:
    run = submit(queueing, {LANE_TAG: INGEST_LANE})

    assert run.status is dg.DagsterRunStatus.STARTING
    assert launched(queueing) == [run.run_id]


@pytest.mark.parametrize("tags", [{}, {LANE_TAG: "maintenance"}, {LANE_TAG: "bulk"}])
def test_every_other_run_waits_in_the_queue(
    queueing: dg.DagsterInstance, tags: dict[str, str]
) -> None:
    run = submit(queueing, tags)

    assert run.status is dg.DagsterRunStatus.QUEUED
    assert launched(queueing) == []


def test_run_that_was_submitted_already_is_not_launched_again(
    queueing: dg.DagsterInstance,
) -> None:
    run = submit(queueing, {LANE_TAG: INGEST_LANE})

    queueing.submit_run(run.run_id, workspace=None)  # pyright: ignore[reportArgumentType]

    assert launched(queueing) == [run.run_id]
