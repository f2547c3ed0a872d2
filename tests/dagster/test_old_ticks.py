"""Old ticks on a real instance: which go, which stay, and what a dry run says."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RemoteInstigatorOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster_shared.error import SerializableErrorInfo

from audit_platform.jobs.janitor import TICKS_OP
from audit_platform.jobs.old_ticks import DeletedTicks, delete_old_ticks, tick_retention
from audit_platform.settings import Settings
from tests.dagster.location import ORIGIN, location_of

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

NOW = datetime.now(UTC)
WEEK = tick_retention(timedelta(days=7))
S = TickStatus


def sensor(instance: dg.DagsterInstance, name: str = "stream_backlog") -> InstigatorState:
    """A sensor that the daemon has seen."""
    origin = RemoteInstigatorOrigin(
        repository_origin=ORIGIN.repository_origin, instigator_name=name
    )
    state = InstigatorState(
        origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData()
    )
    instance.add_instigator_state(state)
    return state


def tick(
    instance: dg.DagsterInstance, state: InstigatorState, status: TickStatus, *, days: float
) -> int:
    """A tick of some days ago; returns its number."""
    made = instance.create_tick(
        TickData(
            instigator_origin_id=state.instigator_origin_id,
            instigator_name=state.instigator_name,
            instigator_type=state.instigator_type,
            status=status,
            timestamp=(NOW - timedelta(days=days)).timestamp(),
            selector_id=state.selector_id,
            run_ids=[],
            error=SerializableErrorInfo("it failed", [], None) if status is S.FAILURE else None,
        )
    )
    return made.tick_id


def left(instance: dg.DagsterInstance, state: InstigatorState) -> set[int]:
    found = instance.get_ticks(state.instigator_origin_id, state.selector_id)
    return {one.tick_id for one in found}


def delete(
    instance: dg.DagsterInstance, *, is_dry: bool = False, is_late: bool = False
) -> list[DeletedTicks]:
    return list(
        delete_old_ticks(instance, WEEK, now=NOW, is_dry=is_dry, is_time_up=lambda: is_late)
    )


def test_ticks_go_after_their_time_and_failures_stay_a_month(instance: dg.DagsterInstance) -> None:
    state = sensor(instance)
    kept = {
        tick(instance, state, S.SKIPPED, days=0),
        tick(instance, state, S.SUCCESS, days=6.9),
        tick(instance, state, S.FAILURE, days=29),
        tick(instance, state, S.STARTED, days=90),
    }
    for status, days in ((S.SKIPPED, 7.1), (S.SUCCESS, 400), (S.FAILURE, 31)):
        tick(instance, state, status, days=days)

    (done,) = delete(instance)

    assert left(instance, state) == kept
    assert (done.instigator, done.due, done.deleted) == ("stream_backlog", 3, 3)
    assert done.oldest is not None
    assert NOW - done.oldest == timedelta(days=400)


def test_newest_tick_stays_whatever_its_age(instance: dg.DagsterInstance) -> None:
    """The daemon goes on from it: without one, a schedule would look like a new one."""
    state = sensor(instance, "sensor_that_was_stopped")
    newest = tick(instance, state, S.SUCCESS, days=50)
    tick(instance, state, S.SUCCESS, days=51)

    delete(instance)

    assert left(instance, state) == {newest}


def test_dry_run_counts_what_would_go(instance: dg.DagsterInstance) -> None:
    state = sensor(instance)
    ticks = {tick(instance, state, S.SKIPPED, days=days) for days in (0, 8, 9, 10)}

    (done,) = delete(instance, is_dry=True)

    assert left(instance, state) == ticks
    assert (done.due, done.deleted) == (3, 0)


def test_deletion_ends_when_its_time_is_up(instance: dg.DagsterInstance) -> None:
    state = sensor(instance)
    ticks = {tick(instance, state, S.SKIPPED, days=days) for days in (0, 8)}

    (done,) = delete(instance, is_late=True)

    assert left(instance, state) == ticks
    assert (done.due, done.deleted) == (1, 0)


def test_each_sensor_is_counted_alone_and_more_than_a_page(instance: dg.DagsterInstance) -> None:
    busy, quiet = sensor(instance, "busy"), sensor(instance, "quiet")
    for number in range(2_100):
        tick(instance, busy, S.SKIPPED, days=8 + number / 1_000)
    kept = {tick(instance, busy, S.SKIPPED, days=1), tick(instance, quiet, S.SKIPPED, days=1)}
    tick(instance, quiet, S.SUCCESS, days=9)

    done = {one.instigator: (one.due, one.deleted) for one in delete(instance)}

    assert done == {"busy": (2_100, 2_100), "quiet": (1, 1)}
    assert left(instance, busy) | left(instance, quiet) == kept


def test_sensor_without_ticks_is_no_problem(instance: dg.DagsterInstance) -> None:
    sensor(instance)

    (done,) = delete(instance)

    assert (done.due, done.oldest) == (0, None)


def test_job_deletes_ticks_by_the_setting(
    settings_for_runs: Settings, instance: dg.DagsterInstance
) -> None:
    state = sensor(instance)
    kept = {tick(instance, state, S.SUCCESS, days=days) for days in (0, 1)}
    tick(instance, state, S.SUCCESS, days=3)
    job = location_of(settings_for_runs, ticks_retain_days=2).resolve_job_def("janitor")

    result = job.execute_in_process(instance=instance)

    assert left(instance, state) == kept
    shown: dict[str, Any] = {}
    for event in result.filter_events(lambda one: one.event_type_value == "STEP_OUTPUT"):
        if event.step_key == TICKS_OP:
            shown = {n: one.value for n, one in event.step_output_data.metadata.items()}
    assert (shown["due"], shown["deleted"], shown["dry run"]) == (1, 1, False)
    (record,) = shown["by sensor and schedule"].records
    assert record.data["instigator"] == "stream_backlog"
