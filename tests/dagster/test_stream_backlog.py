"""The sensor on a real instance, Redis and PostgreSQL, over several ticks."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import dagster as dg
import pytest
from dagster._core.events import DagsterEventType

from audit_platform.db.pool import Connection
from audit_platform.jobs.ingest import DRAIN_OP, MAX_RUNTIME_TAG, SHARD_TAG
from audit_platform.sensors.decision import LAUNCHED_BOUND_S, PENDING_BOUND_S, STARTED_BOUND_S
from audit_platform.settings import Settings
from tests.conftest import RedisSpace
from tests.dagster.location import (
    ago,
    drain_config,
    location_of,
    make_run,
    report,
    requested,
    take_lease,
    tick,
)

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

Status = dg.DagsterRunStatus
DEADLINE_S = 20.0


def test_idle_stream_skips_with_a_sentence(
    location: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    found = tick(location, "stream_backlog", instance)

    assert not found.run_requests
    assert found.skip_message == "shard 0: no entries"


def test_waiting_entry_requests_one_run_with_its_tags(
    location: dg.Definitions, instance: dg.DagsterInstance, append: Callable[[int], None]
) -> None:
    append(0)

    (request,) = requested(tick(location, "stream_backlog", instance))

    assert drain_config(request) == {"shard": 0}
    assert request.tags[SHARD_TAG] == "0"
    assert request.tags[MAX_RUNTIME_TAG] == "720"
    assert request.run_key is None, "a key would block the shard after one failed run"


def test_request_is_valid_config_of_the_job(
    location: dg.Definitions, instance: dg.DagsterInstance, append: Callable[[int], None]
) -> None:
    append(0)
    (request,) = requested(tick(location, "stream_backlog", instance))

    assert dg.validate_run_config(location.resolve_job_def("ingest"), request.run_config)


def test_entry_that_arrives_during_the_wait_is_launched_at_once(
    settings_for_runs: Settings,
    redis_space: RedisSpace,
    instance: dg.DagsterInstance,
    append: Callable[[int], None],
) -> None:
    defs = location_of(settings_for_runs, sensor_block_ms=9_500)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(tick, defs, "stream_backlog", instance)
        deadline = time.monotonic() + DEADLINE_S
        while "cmd=xread " not in redis_space.cli("client", "list"):
            assert time.monotonic() < deadline
        began = time.monotonic()
        append(0)
        found = waiting.result(DEADLINE_S)

    assert len(found.run_requests or ()) == 1
    assert time.monotonic() - began < 5.0


def test_end_of_a_drain_is_seen_within_the_tick(
    settings_for_runs: Settings,
    instance: dg.DagsterInstance,
    append: Callable[[int], None],
    writer: Connection,
) -> None:
    """The next tick came up to 5 s later, and every tick is a row in Dagster's storage."""
    defs = location_of(settings_for_runs, sensor_block_ms=19_500)
    append(0)
    owner = make_run(instance, Status.STARTED, since=ago(300))
    take_lease(writer, owner)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(tick, defs, "stream_backlog", instance)
        threading.Event().wait(1.5)
        assert not waiting.done()
        report(instance, owner, DagsterEventType.PIPELINE_SUCCESS)
        found = waiting.result(DEADLINE_S)

    (request,) = requested(found)
    # It ended a moment ago while entries waited: no reason yet to call that a trickle, but none
    # against staying either.
    assert drain_config(request) == {"shard": 0, "dead_run_id": owner, "idle_s": 10.0}


def test_run_soon_after_the_last_one_is_asked_to_stay_longer(
    location: dg.Definitions, instance: dg.DagsterInstance, append: Callable[[int], None]
) -> None:
    append(0)
    before = make_run(instance, Status.STARTED, since=ago(60))
    report(instance, before, DagsterEventType.PIPELINE_SUCCESS)

    (request,) = requested(tick(location, "stream_backlog", instance))

    assert drain_config(request) == {"shard": 0, "idle_s": 10.0}
    assert dg.validate_run_config(location.resolve_job_def("ingest"), request.run_config)


def test_several_ticks_launch_one_run_and_the_next_when_it_has_ended(
    location: dg.Definitions, instance: dg.DagsterInstance, append: Callable[[int], None]
) -> None:
    append(0)
    assert tick(location, "stream_backlog", instance).run_requests

    queued = make_run(instance, Status.QUEUED, since=ago(1))
    second = tick(location, "stream_backlog", instance)
    report(instance, queued, DagsterEventType.PIPELINE_START)
    third = tick(location, "stream_backlog", instance)
    report(instance, queued, DagsterEventType.PIPELINE_SUCCESS)
    fourth = tick(location, "stream_backlog", instance)

    assert not second.run_requests
    assert f"drain {queued[:8]} pending for" in (second.skip_message or "")
    assert not third.run_requests
    assert f"drain {queued[:8]} started for" in (third.skip_message or "")
    assert len(fourth.run_requests or ()) == 1


def test_run_launched_by_hand_counts_for_the_shard_of_its_config(
    location: dg.Definitions, instance: dg.DagsterInstance, append: Callable[[int], None]
) -> None:
    append(0)
    make_run(instance, Status.QUEUED, since=ago(1), shard=None)

    assert not tick(location, "stream_backlog", instance).run_requests


def test_run_of_another_shard_does_not_matter(
    location: dg.Definitions, instance: dg.DagsterInstance, append: Callable[[int], None]
) -> None:
    append(0)
    make_run(instance, Status.QUEUED, since=ago(1), shard=1)
    by_hand = {"ops": {DRAIN_OP: {"config": {"shard": 2}}}}
    make_run(instance, Status.QUEUED, since=ago(1), shard=None, run_config=by_hand)

    assert tick(location, "stream_backlog", instance).run_requests


@pytest.mark.parametrize(
    ("status", "bound_s"),
    [
        (Status.STARTED, STARTED_BOUND_S),
        (Status.STARTING, LAUNCHED_BOUND_S),
        (Status.QUEUED, PENDING_BOUND_S),
        (Status.NOT_STARTED, PENDING_BOUND_S),
    ],
)
def test_lost_run_does_not_wedge_its_shard(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    append: Callable[[int], None],
    status: dg.DagsterRunStatus,
    bound_s: float,
) -> None:
    append(0)
    make_run(instance, status, since=ago(bound_s + 1))

    assert tick(location, "stream_backlog", instance).run_requests


def test_run_that_waited_long_in_the_queue_and_starts_now_is_not_lost(
    location: dg.Definitions, instance: dg.DagsterInstance, append: Callable[[int], None]
) -> None:
    append(0)
    run_id = make_run(instance, Status.QUEUED, since=ago(PENDING_BOUND_S + 60))
    report(instance, run_id, DagsterEventType.PIPELINE_STARTING)

    assert not tick(location, "stream_backlog", instance).run_requests


def test_each_waiting_shard_gets_its_own_run(
    settings_for_runs: Settings, instance: dg.DagsterInstance, append: Callable[[int], None]
) -> None:
    defs = location_of(settings_for_runs, shards=3)
    append(0)
    append(2)

    requests = tick(defs, "stream_backlog", instance).run_requests or ()

    assert [drain_config(request)["shard"] for request in requests] == [0, 2]


def test_failing_runs_slow_relaunching_down(
    location: dg.Definitions, instance: dg.DagsterInstance, append: Callable[[int], None]
) -> None:
    append(0)
    fail_runs(instance, 5, since=ago(0))

    found = tick(location, "stream_backlog", instance)

    assert not found.run_requests
    assert "the last 5 drains failed" in (found.skip_message or "")


def test_runs_that_worked_and_were_killed_delay_nothing(
    location: dg.Definitions, instance: dg.DagsterInstance, append: Callable[[int], None]
) -> None:
    """The oldest entry is younger than they: what was there before, they have stored."""
    fail_runs(instance, 5, since=ago(2))
    append(0)

    assert requested(tick(location, "stream_backlog", instance))


def fail_runs(instance: dg.DagsterInstance, count: int, *, since: datetime) -> None:
    for _ in range(count):
        run_id = make_run(instance, Status.STARTED, since=since)
        report(instance, run_id, DagsterEventType.PIPELINE_FAILURE)


def test_silent_redis_is_a_sentence_and_no_failed_tick(
    settings_for_runs: Settings, instance: dg.DagsterInstance
) -> None:
    defs = location_of(settings_for_runs, redis_sensor_url="redis://127.0.0.1:1/0")

    found = tick(defs, "stream_backlog", instance)

    assert "Redis does not answer" in (found.skip_message or "")


def test_silent_postgres_is_a_sentence_and_no_failed_tick(
    settings_for_runs: Settings, instance: dg.DagsterInstance
) -> None:
    defs = location_of(settings_for_runs, writer_url="postgresql://u:p@127.0.0.1:1/x")

    found = tick(defs, "stream_backlog", instance)

    assert "PostgreSQL does not answer" in (found.skip_message or "")
