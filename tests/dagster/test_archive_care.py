"""Late rows, cold deletion and restore drills as jobs: what they do and what Dagster shows."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.retention.partition_states import State
from audit_platform.schedules import drill_weekly
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.dagster.location import location_of
from tests.dagster.partition_runs import Nights, nights_of, record, shown, verdicts
from tests.factories import event
from tests.integration.events.store import frame_of, open_writer
from tests.integration.retention.lives import Life, begin_life, live, visible_ids

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

ROWS = 120
YEAR = timedelta(days=366)
EVERY = "None"
"""An asset without partitions shows its materialization under this key."""


@pytest.fixture
def nights(settings: Settings, instance: dg.DagsterInstance, tmp_path: Path) -> Nights:
    return nights_of(settings, instance, tmp_path)


@pytest.fixture
def maint(database: Database) -> Iterator[Connection]:
    with connected(database.maint_url, application="test") as conn:
        yield conn


@pytest.fixture
def life(database: Database, tmp_path: Path) -> Life:
    return begin_life(database, tmp_path, rows=ROWS)


def arrive_late(database: Database, moment: datetime) -> str:
    """Store an event for a sealed partition, as the ingest job does."""
    made = event(timestamp=moment, tenant_id="acme")
    writer = open_writer(database.writer_url)
    counts = writer.save(frame_of([made]))
    writer.connection.close()
    assert counts.n_late == 1, counts
    return str(made["id"])


def test_late_row_is_merged_and_its_partition_sealed_again_in_one_night(
    nights: Nights, life: Life, maint: Connection, database: Database
) -> None:
    live(maint, life, now=life.sealing)
    late_id = arrive_late(database, life.bounds.lo + timedelta(hours=5))
    night = life.sealing + timedelta(days=1)

    merging = nights.run("merge_late_rows", night)
    archiving = nights.run("archive_partitions", night)

    assert merging.success
    page = shown(merging, "late_merge")[EVERY]
    assert (page["rows added"], page["opened again"]) == (1, 1)
    assert archiving.success
    row = record(maint, life.name)
    assert (row.state, row.generation, row.n) == (State.VERIFIED, 2, ROWS + 1)
    assert verdicts(archiving)["ledger_equals_rows"].passed
    assert visible_ids(database, life) == sorted([*life.ids, late_id])
    assert shown(archiving, "archived_partition")[life.name]["generation"] == 2


def test_former_files_go_after_their_time_once_they_are_proved(
    nights: Nights, life: Life, maint: Connection, database: Database
) -> None:
    live(maint, life, now=life.sealing)
    arrive_late(database, life.bounds.lo + timedelta(hours=5))
    night = life.sealing + timedelta(days=1)
    for job in ("merge_late_rows", "archive_partitions"):
        assert nights.run(job, night).success

    second = nights.run("merge_late_rows", night + timedelta(hours=23))
    third = nights.run("merge_late_rows", night + timedelta(hours=25))

    assert shown(second, "late_merge")[EVERY]["former generations proved"] == 1
    assert shown(second, "late_merge")[EVERY]["former files deleted"] == 0
    assert shown(third, "late_merge")[EVERY]["former files deleted"] == 2
    names = sorted(path.name for path in life.archive.rglob("*.*") if path.is_file())
    assert all(".g2." in name for name in names)


def test_night_without_late_rows_says_so(nights: Nights, life: Life) -> None:
    result = nights.run("merge_late_rows", life.sealing)

    assert result.success
    assert shown(result, "late_merge")[EVERY]["partitions"] == 0


def test_file_whose_time_is_over_is_marked_then_deleted(
    nights: Nights, life: Life, maint: Connection
) -> None:
    for moment in life.moments:
        live(maint, life, now=moment)
    over = life.bounds.hi + YEAR

    early = nights.run("expire_archive", life.bounds.hi + timedelta(days=300))
    first = nights.run("expire_archive", over)
    second = nights.run("expire_archive", over + timedelta(days=1))

    assert shown(early, "archive_expiry")[EVERY]["files"] == 0
    assert shown(first, "archive_expiry")[EVERY]["marked"] == 1
    assert shown(second, "archive_expiry")[EVERY]["deleted"] == 1
    assert shown(second, "archive_expiry")[EVERY]["rows deleted"] == ROWS
    assert not list(life.archive.rglob("*.parquet"))
    assert not list(life.copy.rglob("*.parquet"))


def test_drill_restores_and_compares_an_archived_partition(
    nights: Nights, life: Life, maint: Connection
) -> None:
    live(maint, life, now=life.sealing)

    result = nights.run("drill_restore", life.sealing + timedelta(days=1))

    assert result.success
    page = shown(result, "restore_drill")[EVERY]
    assert (page["partition"], page["rows"], page["mismatches"]) == (life.name, ROWS, 0)
    assert page["seconds per million rows"] > 0
    assert verdicts(result)["no_mismatch"].passed
    drills = maint.execute("set role audit_owner").execute(
        "select partition_name, rows, mismatches from audit.restore_drill"
    )
    assert drills.fetchall() == [(life.name, ROWS, 0)]


def test_drill_that_finds_a_damaged_file_fails_its_check(
    nights: Nights, life: Life, maint: Connection
) -> None:
    live(maint, life, now=life.sealing)
    (path,) = life.archive.rglob("*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    result = nights.run("drill_restore", life.sealing + timedelta(days=1))

    found = verdicts(result)["no_mismatch"]
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert life.name in (found.description or "")


def test_drill_with_nothing_archived_passes(nights: Nights, life: Life) -> None:
    result = nights.run("drill_restore", life.sealing)

    assert result.success
    assert verdicts(result)["no_mismatch"].description == "nothing is archived yet"


@pytest.mark.parametrize("is_enabled", [True, False])
def test_drill_is_asked_for_unless_it_is_switched_off(
    settings: Settings, instance: dg.DagsterInstance, is_enabled: bool
) -> None:
    location = location_of(settings, restore_drill_enabled=is_enabled)
    resources = location.get_repository_def().get_top_level_resources()
    with dg.build_schedule_context(
        instance=instance, resources={"settings": resources["settings"]}
    ) as context:
        found = drill_weekly.evaluate_tick(context)

    assert len(found.run_requests or ()) == int(is_enabled)
    assert ("is off" in (found.skip_message or "")) is not is_enabled
