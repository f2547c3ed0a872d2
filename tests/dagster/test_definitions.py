"""What the code location holds, and that it loads lightly and without warnings."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from audit_platform.assets.columns import (
    DEAD_LETTER_COLUMNS,
    EVENT_COLUMNS,
    LATE_COLUMNS,
    PARTITION_COLUMNS,
)
from audit_platform.db.pool import Connection, connected
from audit_platform.definitions import build_defs, defs
from audit_platform.jobs.coordinator import IngestFirstCoordinator
from tests.conftest import Database

pytestmark = pytest.mark.dagster

ROOT = Path(__file__).resolve().parents[2]

LOAD = """
import sys
import audit_platform.definitions as location
location.defs.get_repository_def()
names = {"dagster_dbt", "dbt", "pandas", "pyarrow", "adbc_driver_postgresql", "obstore"}
names |= {"adbc_driver_manager"}
heavy = sorted(names & set(sys.modules))
assert not heavy, heavy
"""


@pytest.fixture
def admin(database: Database) -> Iterator[Connection]:
    with connected(database.admin_url, application="test") as conn:
        yield conn


def test_everything_that_dagster_shows_is_known() -> None:
    repository = defs.get_repository_def()
    shown = {
        "assets": sorted(
            key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()
        ),
        "checks": sorted(key.to_user_string() for key in repository.asset_graph.asset_check_keys),
        "jobs": sorted(job.name for job in repository.get_all_jobs()),
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
        "schedules": sorted(
            f"{schedule.name} {schedule.cron_schedule}" for schedule in repository.schedule_defs
        ),
        "resources": sorted(repository.get_top_level_resources()),
    }

    assert shown == {
        "assets": [
            "archive_expiry",
            "archived_partition",
            "audit_dead_letter",
            "audit_event",
            "audit_event_late",
            "audit_stream",
            "detached_partition",
            "dropped_partition",
            "late_merge",
            "restore_drill",
            "sealed_partition",
            "search_export",
            "storage_sizes",
            "table_partitions",
            "verified_archive",
        ],
        "checks": [
            "archived_partition:archive_re_read",
            "audit_event:ledger_conservation",
            "audit_event:sequence_gaps",
            "detached_partition:not_held",
            "restore_drill:no_mismatch",
            "sealed_partition:ledger_equals_rows",
            "sealed_partition:on_time",
            "table_partitions:partition_runway",
            "table_partitions:partitions_owner_only",
            "verified_archive:archive_unchanged",
            "verified_archive:not_held_hot",
        ],
        "jobs": [
            "__ASSET_JOB",
            "advance_partition",
            "archive_partitions",
            "check_completeness",
            "check_ledger",
            "check_partitions",
            "create_partitions",
            "detach_partitions",
            "drill_restore",
            "drop_partitions",
            "expire_archive",
            "ingest",
            "janitor",
            "merge_late_rows",
            "observe_storage",
            "search_export",
        ],
        "sensors": ["reaper", "stream_backlog"],
        "schedules": [
            "archive_nightly 10 2 * * *",
            "completeness_daily 45 0 * * *",
            "detach_daily 10 4 * * *",
            "drill_weekly 10 7 * * 2",
            "drop_daily 10 5 * * *",
            "expiry_daily 10 6 * * *",
            "janitor_hourly 5 * * * *",
            "ledger_hourly 35 * * * *",
            "merge_nightly 55 1 * * *",
            "partitions_daily 20 0 * * *",
            "runway_hourly 50 * * * *",
            "storage_every_six_hours 40 1,7,13,19 * * *",
        ],
        "resources": ["database", "settings", "stream"],
    }


def test_location_is_loadable_and_each_build_is_fresh() -> None:
    fresh = build_defs()

    dg.Definitions.validate_loadable(fresh)
    assert fresh is not defs


def test_loading_warns_of_nothing_and_leaves_slow_libraries_alone() -> None:
    """A warning of deprecated or beta parts would stand at every start.

    Every ingest run loads the location while events wait: dbt alone takes 1.7 s.
    """
    loaded = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOAD], cwd=ROOT, capture_output=True, check=False
    )

    assert loaded.returncode == 0, loaded.stderr.decode()


def test_asset_graph_reads_like_the_path_of_an_event() -> None:
    graph = defs.get_repository_def().asset_graph
    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }

    assert parents == {
        "audit_stream": set(),
        "table_partitions": set(),
        "audit_event": {"audit_stream", "table_partitions"},
        "audit_event_late": {"audit_stream"},
        "audit_dead_letter": {"audit_stream"},
        "sealed_partition": {"audit_event"},
        "archived_partition": {"sealed_partition"},
        "verified_archive": {"archived_partition"},
        "detached_partition": {"verified_archive", "table_partitions"},
        "dropped_partition": {"detached_partition"},
        "late_merge": {"audit_event_late"},
        "archive_expiry": {"dropped_partition"},
        "restore_drill": {"verified_archive"},
        "storage_sizes": {"audit_event", "table_partitions"},
        "search_export": {"audit_event", "audit_event_late"},
    }


def test_checks_block_what_takes_something_away() -> None:
    graph = defs.get_repository_def().asset_graph
    blocking = {
        key.to_user_string() for key in graph.asset_check_keys if graph.get_check_spec(key).blocking
    }

    assert blocking == {
        "table_partitions:partition_runway",
        "sealed_partition:ledger_equals_rows",
        "archived_partition:archive_re_read",
        "verified_archive:archive_unchanged",
        "verified_archive:not_held_hot",
        "detached_partition:not_held",
    }


@pytest.mark.parametrize("spec", defs.resolve_all_asset_specs(), ids=lambda spec: str(spec.key))
def test_asset_page_says_what_it_is(spec: dg.AssetSpec) -> None:
    assert len(spec.description or "") > 100
    assert spec.kinds
    assert list(spec.owners) == ["team:audit-platform"]
    assert spec.group_name in {"events", "storage"}
    assert spec.tags["audit/path"] == "event"
    if "redis" not in spec.kinds:
        assert spec.metadata["dagster/column_schema"].columns
        assert spec.metadata["dagster/table_name"].startswith("audit.")


def test_sensors_and_schedules_run_by_default_and_are_described() -> None:
    repository = defs.get_repository_def()

    for sensor in repository.sensor_defs:
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        assert sensor.description
    for schedule in repository.schedule_defs:
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        assert schedule.execution_timezone == "UTC"
        assert schedule.description


def test_every_job_runs_in_one_process_and_is_described() -> None:
    """The multiprocess executor adds 1.7 s to each run (measured)."""
    jobs = [job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")]

    assert all(job.executor_def is dg.in_process_executor for job in jobs)
    assert all(job.description for job in jobs)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("event", EVENT_COLUMNS),
        ("event_late", LATE_COLUMNS),
        ("dead_letter", DEAD_LETTER_COLUMNS),
    ],
)
def test_column_schema_equals_the_catalog(
    admin: Connection, table: str, columns: tuple[dg.TableColumn, ...]
) -> None:
    catalog = read_columns(admin, table)
    shown = {
        column.name: (column.type, column.constraints.nullable, column.description)
        for column in columns
    }

    assert shown.keys() == catalog.keys()
    for name, (type_, is_nullable, comment) in catalog.items():
        assert shown[name][:2] == (type_, is_nullable), name
        # LIKE does not copy comments to the late table; then those of the event table hold.
        assert comment in {None, shown[name][2]}, name


@pytest.mark.integration
def test_columns_of_partitions_equal_the_catalog(admin: Connection) -> None:
    catalog = read_columns(admin, "partition")

    for column in PARTITION_COLUMNS:
        expected = (column.type, column.constraints.nullable, column.description)
        assert catalog[column.name] == expected


def read_columns(admin: Connection, table: str) -> dict[str, tuple[str | None, bool, str | None]]:
    rows = admin.execute(
        """select attname, format_type(atttypid, null), not attnotnull,
             col_description(attrelid, attnum)
           from pg_attribute
           where attrelid = %s::regclass and attnum > 0 and not attisdropped""",
        [f"audit.{table}"],
    ).fetchall()
    short = {"timestamp with time zone": "timestamptz"}
    return {row[0]: (short.get(row[1], row[1]), row[2], row[3]) for row in rows}


def test_workspace_names_the_code_location() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())

    assert workspace == {"load_from": [{"python_module": "audit_platform.definitions"}]}


@pytest.mark.integration
def test_profile_makes_an_instance_on_postgres(
    dagster_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster refuses unknown keys and keys that repeat each other only when it reads the file."""
    profile = ROOT / "audit_platform" / "local" / "dagster.yaml"
    (tmp_path / "dagster.yaml").write_text(profile.read_text())
    url = dagster_database.dagster_url.replace("postgresql://", "postgresql+psycopg2://")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert "Postgres" in type(instance.run_storage).__name__
        limits = instance.get_concurrency_config().run_queue_config
        assert limits is not None
        assert limits.max_concurrent_runs == 8
        lanes = {one["value"]: one["limit"] for one in limits.tag_concurrency_limits}
        assert lanes == {"bulk": 4, "lifecycle": 1}
        assert isinstance(instance.run_coordinator, IngestFirstCoordinator)
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_start_timeout_seconds == 60
        assert not instance.telemetry_enabled
        assert instance.get_runs() == []
