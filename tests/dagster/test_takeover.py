"""The sensor and the lease: who holds a shard, and when another run may have it."""

import threading
import time
from collections.abc import Callable

import dagster as dg
import pytest

from audit_platform.db.pool import Connection
from tests.conftest import Database
from tests.dagster.location import ago, drain_config, make_run, requested, take_lease, tick
from tests.silence import fall_silent

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

Status = dg.DagsterRunStatus
DEADLINE_S = 20.0


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
