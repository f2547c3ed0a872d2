"""The job `janitor` on a real instance: what it deletes, what it leaves, what it shows."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from audit_platform.errors import QueueUnavailable
from audit_platform.events.stream import GROUP
from audit_platform.jobs.finished_runs import RUNS_AT_ONCE, RunRetention, delete_finished
from audit_platform.jobs.ingest import INGEST_JOB
from audit_platform.jobs.janitor import (
    LEFTOVERS_OP,
    REDIS_OP,
    RUNS_OP,
    TICKS_OP,
    retention_rules,
)
from audit_platform.settings import Settings
from tests.conftest import RedisSpace
from tests.dagster.location import location_of

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

Status = dg.DagsterRunStatus
EARLY = RunRetention(job_name=INGEST_JOB, longest=timedelta(days=7))


def later(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def make(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus, *, job: str = INGEST_JOB
) -> str:
    return create_run_for_test(instance, job_name=job, status=status).run_id


def delete(
    instance: dg.DagsterInstance,
    *,
    now: datetime,
    most: int = 1_000,
    is_time_up: Callable[[], bool] = lambda: False,
) -> tuple[int, int]:
    done = delete_finished(instance, EARLY, now=now, most=most, is_time_up=is_time_up)
    return done.due, done.deleted


def left(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def outputs(result: dg.ExecuteInProcessResult, op: str) -> dict[str, Any]:
    (event,) = result.filter_events(
        lambda one: one.event_type_value == "STEP_OUTPUT" and one.step_key == op
    )
    return {name: one.value for name, one in event.step_output_data.metadata.items()}


def test_finished_runs_go_after_their_time_and_unfinished_ones_never(
    instance: dg.DagsterInstance,
) -> None:
    finished = {make(instance, one) for one in (Status.SUCCESS, Status.FAILURE, Status.CANCELED)}
    unfinished = {make(instance, one) for one in (Status.STARTED, Status.NOT_STARTED)}
    other_job = make(instance, Status.SUCCESS, job="create_partitions")

    assert delete(instance, now=later(6.9)) == (0, 0)
    assert delete(instance, now=later(7.1)) == (3, 3)

    assert left(instance) == unfinished | {other_job}
    assert not finished & left(instance)


def test_deletion_removes_the_events_of_a_run_too(instance: dg.DagsterInstance) -> None:
    run_id = make(instance, Status.STARTED)
    instance.report_run_failed(instance.get_run_by_id(run_id))  # pyright: ignore[reportArgumentType]
    assert instance.all_logs(run_id)

    delete(instance, now=later(8))

    assert not instance.all_logs(run_id)


def test_deletion_is_bounded_in_number_and_goes_on_the_next_time(
    instance: dg.DagsterInstance,
) -> None:
    total = RUNS_AT_ONCE + 10
    for _ in range(total):
        make(instance, Status.SUCCESS)

    assert delete(instance, now=later(8), most=RUNS_AT_ONCE + 3) == (total, RUNS_AT_ONCE + 3)
    assert delete(instance, now=later(8)) == (7, 7)
    assert left(instance) == set()


def test_deletion_is_bounded_in_time(instance: dg.DagsterInstance) -> None:
    for _ in range(5):
        make(instance, Status.SUCCESS)
    turns = iter([False, False, True])

    assert delete(instance, now=later(8), is_time_up=lambda: next(turns)) == (5, 2)


def test_oldest_runs_go_first(instance: dg.DagsterInstance) -> None:
    ids = [make(instance, Status.SUCCESS) for _ in range(4)]

    delete(instance, now=later(8), most=2)

    assert left(instance) == set(ids[2:])


def test_drains_go_after_a_week_and_everything_else_after_three_months(settings: Settings) -> None:
    rules = {rule.job_name: rule.longest.days for rule in retention_rules(settings)}

    assert rules[INGEST_JOB] == rules["janitor"] == 7
    assert rules[None] == 90
    assert "create_partitions" not in rules


def test_job_clears_redis_up_and_deletes_old_runs(
    settings_for_runs: Settings, redis_space: RedisSpace, instance: dg.DagsterInstance
) -> None:
    defs = location_of(settings_for_runs, dagster_drains_retain_days=0)
    old = make(instance, Status.SUCCESS)

    result = defs.resolve_job_def("janitor").execute_in_process(instance=instance)

    assert old not in left(instance)
    shown = outputs(result, RUNS_OP)
    assert (shown["dry run"], shown["deleted"], shown["due"]) == (False, 1, 1)
    assert shown["by job"].records[0].data["job"] == INGEST_JOB
    redis_shown = outputs(result, "clear_redis_leftovers")
    assert redis_shown["groups made"] == "0"
    groups = redis_space.cli("xinfo", "groups", f"{redis_space.prefix}:{{0}}:events")
    assert GROUP in groups


def test_dry_run_only_counts(settings_for_runs: Settings, instance: dg.DagsterInstance) -> None:
    defs = location_of(settings_for_runs, dagster_drains_retain_days=0)
    old = make(instance, Status.SUCCESS)

    result = defs.resolve_job_def("janitor").execute_in_process(
        instance=instance, run_config={"dry_run": True}
    )

    assert old in left(instance)
    shown = outputs(result, RUNS_OP)
    assert (shown["dry run"], shown["deleted"], shown["due"]) == (True, 0, 1)
    # One flag for all: a dry run that clears Redis up would be none.
    for op in (REDIS_OP, TICKS_OP, LEFTOVERS_OP):
        assert outputs(result, op)["dry run"] is True
    assert "groups made" not in outputs(result, REDIS_OP)


def test_silent_redis_does_not_keep_old_runs(
    settings_for_runs: Settings, instance: dg.DagsterInstance
) -> None:
    defs = location_of(
        settings_for_runs, dagster_drains_retain_days=0, redis_janitor_url="redis://127.0.0.1:1/0"
    )
    old = make(instance, Status.SUCCESS)

    result = defs.resolve_job_def("janitor").execute_in_process(
        instance=instance, raise_on_error=False
    )

    assert not result.success
    assert old not in left(instance)
    failure = result.failure_data_for_node("clear_redis_leftovers")
    assert failure is not None
    assert QueueUnavailable.__name__ in str(failure)
