"""What deleted runs leave in Dagster's storage on PostgreSQL: found, counted, deleted."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.test_utils import create_run_for_test

from audit_platform.db.dagster_leftovers import (
    LEFTOVERS,
    ROWS_AT_ONCE,
    DeletedLeftovers,
    delete_leftovers,
)
from audit_platform.db.pool import connected
from audit_platform.jobs.finished_runs import RunRetention, delete_finished
from audit_platform.jobs.janitor import LEFTOVERS_OP
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.dagster.location import location_of

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

ROOT = Path(__file__).resolve().parents[2]
EVENTS, CHECKS = LEFTOVERS


def later(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


@pytest.fixture
def on_postgres(
    dagster_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """An instance of the profile `local`, which keeps everything in PostgreSQL."""
    home = tmp_path / "dagster"
    home.mkdir()
    profile = ROOT / "audit_platform" / "local" / "dagster.yaml"
    (home / "dagster.yaml").write_text(profile.read_text())
    url = dagster_database.dagster_url.replace("postgresql://", "postgresql+psycopg2://")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@dg.asset
def thing() -> int:
    return 1


@dg.asset_check(asset=thing)
def thing_is_well() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def checked_run(instance: dg.DagsterInstance) -> str:
    """A finished run with a result of a check; returns its id."""
    result = dg.materialize([thing, thing_is_well], instance=instance)
    assert result.success
    return result.run_id


def count(database: Database, table: str) -> int:
    with psycopg.connect(database.dagster_url) as connection:
        row = connection.execute(f"select count(*) from {table}".encode()).fetchone()
    assert row is not None
    return row[0]


def delete(
    database: Database, kind: Any, *, before: datetime, most: int = 1_000_000
) -> DeletedLeftovers:
    with connected(database.dagster_url, application="test") as conn:
        return delete_leftovers(conn, kind, before=before, most=most, is_time_up=lambda: False)


def test_events_without_their_run_go_and_those_of_a_run_stay(
    database: Database, on_postgres: dg.DagsterInstance
) -> None:
    orphan, kept = checked_run(on_postgres), checked_run(on_postgres)
    kept_events = len(on_postgres.all_logs(kept))
    # As a process that is killed between the two halves of delete_run leaves it.
    on_postgres.run_storage.delete_run(orphan)

    done = delete(database, EVENTS, before=later(1))

    assert done.due == done.deleted > 0
    assert not on_postgres.all_logs(orphan)
    assert len(on_postgres.all_logs(kept)) == kept_events
    assert count(database, "event_logs") == kept_events


def test_newest_result_of_a_check_stays_and_those_of_runs_that_exist(
    database: Database, on_postgres: dg.DagsterInstance
) -> None:
    runs = [checked_run(on_postgres) for _ in range(5)]
    assert count(database, "asset_check_executions") == 5
    for run_id in (runs[0], runs[1], runs[3], runs[4]):
        on_postgres.delete_run(run_id)

    done = delete(database, CHECKS, before=later(1))

    assert (done.due, done.deleted) == (3, 3)
    with psycopg.connect(database.dagster_url) as connection:
        left = connection.execute("select run_id from asset_check_executions").fetchall()
    assert {row[0] for row in left} == {runs[2], runs[4]}
    key = dg.AssetCheckKey(thing.key, "thing_is_well")
    (newest,) = on_postgres.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert newest.run_id == runs[4]


def test_broken_deletion_leaves_a_run_that_is_found_again_and_no_events_without_one(
    database: Database, on_postgres: dg.DagsterInstance
) -> None:
    """Dagster deletes the row of a run first: whatever came between left its events for ever."""
    run_id = checked_run(on_postgres)
    rule = RunRetention(job_name=None, longest=timedelta(0))
    with psycopg.connect(database.dagster_url, autocommit=True) as connection:
        connection.execute(_REFUSE)

        with pytest.raises(Exception, match="runs stay"):
            delete_finished(on_postgres, rule, now=later(1), most=9, is_time_up=lambda: False)

        assert on_postgres.get_run_by_id(run_id) is not None
        assert not on_postgres.all_logs(run_id)
        connection.execute("drop trigger refuse on runs")
    done = delete_finished(on_postgres, rule, now=later(1), most=9, is_time_up=lambda: False)
    assert (done.due, done.deleted) == (1, 1)
    assert on_postgres.get_run_by_id(run_id) is None


_REFUSE = """
create function refuse() returns trigger language plpgsql as
  $$ begin raise exception 'runs stay'; end $$;
create trigger refuse before delete on runs for each row execute function refuse();
"""


def test_young_leftovers_stay(database: Database, on_postgres: dg.DagsterInstance) -> None:
    on_postgres.run_storage.delete_run(checked_run(on_postgres))
    events = count(database, "event_logs")

    done = delete(database, EVENTS, before=later(-1))

    assert (done.due, done.deleted) == (0, 0)
    assert count(database, "event_logs") == events


def test_deletion_is_bounded_and_zero_only_counts(
    database: Database, on_postgres: dg.DagsterInstance
) -> None:
    create_run_for_test(on_postgres, job_name="thing")
    total = ROWS_AT_ONCE + 500
    with psycopg.connect(database.dagster_url) as connection:
        connection.execute(
            "insert into event_logs (run_id, event, timestamp)"
            " select 'gone-' || g % 7, '{}', now() at time zone 'UTC'"
            f" from generate_series(1, {total}) as g".encode()
        )

    assert delete(database, EVENTS, before=later(1), most=0).due == total
    assert count(database, "event_logs") == total
    assert delete(database, EVENTS, before=later(1), most=ROWS_AT_ONCE + 1).deleted == (
        ROWS_AT_ONCE + 1
    )
    assert delete(database, EVENTS, before=later(1)).deleted == 499
    assert count(database, "event_logs") == 0


def test_database_without_dagsters_tables_is_left_alone(dagster_database: Database) -> None:
    """Dagster's storage may be another one, or not made yet."""
    assert delete(dagster_database, EVENTS, before=later(1)).due == 0


def test_job_shows_what_it_deleted_and_a_dry_run_deletes_nothing(
    database: Database, settings_for_runs: Settings, on_postgres: dg.DagsterInstance
) -> None:
    job = location_of(settings_for_runs, dagster_drains_retain_days=0).resolve_job_def("janitor")
    on_postgres.run_storage.delete_run(checked_run(on_postgres))

    dry = job.execute_in_process(instance=on_postgres, run_config={"dry_run": True})
    wet = job.execute_in_process(instance=on_postgres)

    shown = [outputs(result) for result in (dry, wet)]
    assert shown[0]["due"] == shown[1]["due"] > 0
    assert (shown[0]["deleted"], shown[1]["deleted"]) == (0, shown[1]["due"])
    kinds = [record.data["kind"] for record in shown[1]["by kind"].records]
    assert kinds == ["events of deleted runs", "check results of deleted runs"]
    assert delete(database, EVENTS, before=later(1)).due == 0


def outputs(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.filter_events(
        lambda one: one.event_type_value == "STEP_OUTPUT" and one.step_key == LEFTOVERS_OP
    )
    return {name: one.value for name, one in event.step_output_data.metadata.items()}
