"""The reaper on a real instance: lost runs are reported, living ones never."""

import json

import dagster as dg
import pytest

from audit_platform.db.pool import Connection
from audit_platform.events import lease as leases
from audit_platform.sensors.decision import STARTED_BOUND_S
from audit_platform.sensors.lost_runs import REAP_CONFIRM_S, REAP_PENDING_S
from audit_platform.sensors.reaper import MESSAGE
from audit_platform.settings import Settings
from tests.dagster.location import ago, location_of, make_run, tick

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

Status = dg.DagsterRunStatus


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def suspected(run_id: str, *, for_s: float) -> str:
    return json.dumps({run_id: ago(for_s).timestamp()})


def test_nothing_unfinished_is_said_without_asking_the_database(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    defs = location_of(settings, writer_url="postgresql://u:p@127.0.0.1:1/x")

    found = tick(defs, "reaper", instance)

    assert found.skip_message == "no unfinished drain runs"


def test_lost_run_is_suspected_first_and_reported_when_it_stays_lost(
    location: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    lost = make_run(instance, Status.STARTED, since=ago(STARTED_BOUND_S + 1))

    first = tick(location, "reaper", instance)
    assert status_of(instance, lost) is Status.STARTED
    assert lost in json.loads(first.cursor or "")
    assert f"suspected: {lost[:8]}" in (first.skip_message or "")

    second = tick(location, "reaper", instance, cursor=suspected(lost, for_s=REAP_CONFIRM_S + 1))
    assert status_of(instance, lost) is Status.FAILURE
    assert json.loads(second.cursor or "") == {}
    assert f"reported failed: {lost[:8]}" in (second.skip_message or "")
    messages = [
        entry.dagster_event.message for entry in instance.all_logs(lost) if entry.dagster_event
    ]
    assert MESSAGE in messages


def test_owner_of_a_live_lease_is_never_suspected(
    location: dg.Definitions, instance: dg.DagsterInstance, writer: Connection
) -> None:
    alive = make_run(instance, Status.STARTED, since=ago(3_600))
    leases.take(writer, shard=0, run_id=alive, ttl_s=30, dead_run_id=None)

    found = tick(location, "reaper", instance, cursor=suspected(alive, for_s=999))

    assert status_of(instance, alive) is Status.STARTED
    assert json.loads(found.cursor or "") == {}


def test_run_that_lost_its_shard_to_another_is_reported(
    location: dg.Definitions, instance: dg.DagsterInstance, writer: Connection
) -> None:
    lost = make_run(instance, Status.STARTED, since=ago(3_600))
    alive = make_run(instance, Status.STARTED, since=ago(30))
    leases.take(writer, shard=0, run_id=alive, ttl_s=30, dead_run_id=None)

    tick(location, "reaper", instance, cursor=suspected(lost, for_s=999))

    assert status_of(instance, lost) is Status.FAILURE
    assert status_of(instance, alive) is Status.STARTED


def test_run_stuck_in_the_queue_is_reported_after_minutes(
    location: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    stuck = make_run(instance, Status.QUEUED, since=ago(REAP_PENDING_S + 1))
    waiting = make_run(instance, Status.QUEUED, since=ago(REAP_PENDING_S - 60))

    tick(location, "reaper", instance, cursor=suspected(stuck, for_s=999))

    assert status_of(instance, stuck) is Status.FAILURE
    assert status_of(instance, waiting) is Status.QUEUED


def test_silent_postgres_reports_nobody(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Without the leases every run would look lost."""
    defs = location_of(settings, writer_url="postgresql://u:p@127.0.0.1:1/x")
    run_id = make_run(instance, Status.STARTED, since=ago(3_600))

    found = tick(defs, "reaper", instance, cursor=suspected(run_id, for_s=999))

    assert status_of(instance, run_id) is Status.STARTED
    assert "PostgreSQL does not answer" in (found.skip_message or "")
