"""The sensor on a real instance, Redis and PostgreSQL, over several ticks."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.events import DagsterEventType

from audit_platform.db.pool import Connection, connected
from audit_platform.events import lease as leases
from audit_platform.events.stream import Appender, BatchEntry
from audit_platform.jobs.ingest import DRAIN_OP, MAX_RUNTIME_TAG, SHARD_TAG
from audit_platform.sensors.decision import LAUNCHED_BOUND_S, PENDING_BOUND_S, STARTED_BOUND_S
from audit_platform.settings import Settings
from tests.conftest import Database, RedisSpace
from tests.dagster.location import location_of, make_run, report, tick
from tests.factories import event, wire
from tests.silence import fall_silent

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

Status = dg.DagsterRunStatus
DEADLINE_S = 20.0


@pytest.fixture
def append(redis_space: RedisSpace) -> Iterator[Callable[[int], None]]:
    """Append one event to a shard, as the client does."""
    appender = Appender(
        redis_space.url("producer"), key_prefix=redis_space.prefix, timeout_ms=1_000
    )

    def to(shard: int) -> None:
        now_ms = int(time.time() * 1_000)
        entry = BatchEntry(shard=shard, ndjson=wire(event()), count=1, received_ms=now_ms)
        appender.append_batch(entry)

    yield to
    appender.close()


@pytest.fixture
def writer(settings: Settings) -> Iterator[Connection]:
    with connected(settings.database_url_of("writer"), application="test") as conn:
        yield conn


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def take_lease(writer: Connection, run_id: str, *, ttl_s: float = 30.0) -> None:
    taken = leases.take(writer, shard=0, run_id=run_id, ttl_s=ttl_s, dead_run_id=None)
    assert taken is not None


def requested(found: SensorExecutionData) -> list[dg.RunRequest]:
    return list(found.run_requests or ())


def drain_config(request: dg.RunRequest) -> dict[str, Any]:
    return request.run_config["ops"][DRAIN_OP]["config"]


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


def test_live_lease_is_named_with_what_waits(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    append: Callable[[int], None],
    writer: Connection,
) -> None:
    append(0)
    owner = make_run(instance, Status.STARTED, since=ago(300))
    take_lease(writer, owner)

    found = tick(location, "stream_backlog", instance)

    assert not found.run_requests
    assert f"shard 0: drain {owner[:8]} active, 1 entry waiting" in (found.skip_message or "")


@pytest.mark.parametrize("status", [Status.FAILURE, Status.CANCELED, Status.SUCCESS])
def test_lease_of_a_finished_run_is_handed_over_at_once(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    append: Callable[[int], None],
    writer: Connection,
    status: dg.DagsterRunStatus,
) -> None:
    append(0)
    killed = make_run(instance, status, since=ago(5))
    take_lease(writer, killed)

    (request,) = requested(tick(location, "stream_backlog", instance))

    assert drain_config(request) == {"shard": 0, "dead_run_id": killed}


def test_lease_of_a_run_unknown_to_dagster_ends_by_time(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    append: Callable[[int], None],
    writer: Connection,
) -> None:
    append(0)
    take_lease(writer, "a drain outside Dagster", ttl_s=0.5)
    assert not tick(location, "stream_backlog", instance).run_requests

    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not tick(location, "stream_backlog", instance).run_requests:
        assert time.monotonic() < deadline
        pause.wait(0.1)


def test_killed_drain_that_dagster_still_shows_as_started_is_replaced(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    append: Callable[[int], None],
    writer: Connection,
    database: Database,
) -> None:
    """Killed together with its code server: nobody tells Dagster, and the lease has time left."""
    append(0)
    killed = make_run(instance, Status.STARTED, since=ago(10))
    take_lease(writer, killed)
    assert not tick(location, "stream_backlog", instance).run_requests

    fall_silent(database)

    assert len(requested(tick(location, "stream_backlog", instance))) == 1


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
    for _ in range(5):
        run_id = make_run(instance, Status.STARTED, since=ago(2))
        report(instance, run_id, DagsterEventType.PIPELINE_FAILURE)

    found = tick(location, "stream_backlog", instance)

    assert not found.run_requests
    assert "the last 5 drains failed" in (found.skip_message or "")


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
