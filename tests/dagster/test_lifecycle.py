"""The nightly jobs on a real database and a real archive: what they do and what Dagster shows."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import dagster as dg
import pytest

from audit_platform.assets.partition_pages import STEPS_OF_ASSET
from audit_platform.db.pool import Connection, connected
from audit_platform.events.identity import mint
from audit_platform.retention.holds import HoldScope, place, release
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import bounds_for
from audit_platform.retention.partition_states import State, Step
from audit_platform.retention.partition_table import one_at_a_time
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.dagster.partition_runs import (
    Nights,
    failure_of,
    nights_of,
    record,
    shown,
    sums,
    verdicts,
)
from tests.integration.retention.lives import (
    LONG_AGO,
    Life,
    begin_life,
    cold_ids,
    has_table,
    live,
    open_store,
)
from tests.integration.retention.sealing import put

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

ROWS = 300
DAY = timedelta(days=1)
HOLD_ID = UUID(mint(1_700_000_000_000_000, 1))


@pytest.fixture
def nights(settings: Settings, instance: dg.DagsterInstance, tmp_path: Path) -> Nights:
    return nights_of(settings, instance, tmp_path)


@pytest.fixture
def maint(database: Database) -> Iterator[Connection]:
    with connected(database.maint_url, application="test") as conn:
        yield conn


@pytest.fixture
def admin(database: Database) -> Iterator[Connection]:
    with connected(database.admin_url, application="test") as conn:
        yield conn


@pytest.fixture
def life(database: Database, tmp_path: Path) -> Life:
    return begin_life(database, tmp_path, rows=ROWS)


@pytest.fixture
def next_day(database: Database, tmp_path: Path) -> Life:
    return begin_life(database, tmp_path, rows=20, day=LONG_AGO + DAY)


def hold(maint: Connection, life: Life, *, keep_hot: bool) -> None:
    place(
        maint,
        hold_id=HOLD_ID,
        case_id="2026-17",
        scope=HoldScope(tenant_id="acme", lo=life.bounds.lo, hi=life.bounds.hi, keep_hot=keep_hot),
        reason="litigation",
        placed_by="jurist",
        now=LONG_AGO,
    )


def archive(nights: Nights, life: Life) -> None:
    assert nights.run("archive_partitions", life.sealing).success


def test_nights_take_a_partition_through_its_whole_life(
    nights: Nights, life: Life, maint: Connection, database: Database
) -> None:
    sealing = nights.run("archive_partitions", life.sealing)
    assert sealing.success
    assert record(maint, life.name).state is State.VERIFIED
    detaching = nights.run("detach_partitions", life.detaching)
    assert detaching.success
    assert record(maint, life.name).state is State.DETACHED
    dropping = nights.run("drop_partitions", life.dropping)
    assert dropping.success

    row = record(maint, life.name)
    assert row.state is State.DROPPED
    assert not has_table(database, life)
    assert all(nights.materialized(asset) == {life.name} for asset in STEPS_OF_ASSET)
    store = open_store(life.archive.as_uri())
    assert sorted(cold_ids(store, [entry.path for entry in row.files])) == list(life.ids)
    assert {name: one.passed for name, one in verdicts(sealing).items()} == {
        "ledger_equals_rows": True,
        "archive_re_read": True,
    }
    assert {name: one.passed for name, one in verdicts(detaching).items()} == {
        "archive_unchanged": True,
        "not_held_hot": True,
    }
    assert {name: one.passed for name, one in verdicts(dropping).items()} == {"not_held": True}


def test_page_of_a_partition_shows_its_record(
    nights: Nights, life: Life, maint: Connection
) -> None:
    result = nights.run("archive_partitions", life.sealing)

    row = record(maint, life.name)
    assert row.root is not None
    page = shown(result, "archived_partition")[life.name]
    assert page["rows"] == ROWS
    assert page["bytes"] == sum(entry.bytes for entry in row.files) > 0
    assert page["root"] == row.root.hex()
    assert page["files"] == len(row.files) == 1
    assert page["state"] == "verified"
    assert page["generation"] == 1
    assert page["seconds"] > 0
    assert page["archive files"][0]["sha256"] == row.files[0].sha256
    assert sums(result)["by partition"][0]["steps"] == "seal, index, export, verify"


def test_nothing_is_done_before_its_time(nights: Nights, life: Life, maint: Connection) -> None:
    early = nights.run("archive_partitions", life.bounds.hi + timedelta(hours=47))
    assert early.success
    assert record(maint, life.name).state is State.OPEN
    archive(nights, life)

    assert nights.run("detach_partitions", life.bounds.hi + 29 * DAY).success
    assert record(maint, life.name).state is State.VERIFIED
    assert nights.run("detach_partitions", life.detaching).success
    assert nights.run("drop_partitions", life.detaching + 6 * DAY).success

    assert record(maint, life.name).state is State.DETACHED


def test_each_job_leaves_the_steps_of_the_others_alone(
    nights: Nights, life: Life, maint: Connection
) -> None:
    for job in ("detach_partitions", "drop_partitions"):
        result = nights.run(job, life.dropping)
        assert result.success
        assert sums(result)["partitions"] == 0

    assert record(maint, life.name).state is State.OPEN


def test_repeat_of_a_night_does_nothing_more(nights: Nights, life: Life, maint: Connection) -> None:
    archive(nights, life)
    before = record(maint, life.name)

    again = nights.run("archive_partitions", life.sealing + DAY)

    assert again.success
    assert sums(again)["partitions"] == 0
    assert not shown(again, "sealed_partition")
    assert record(maint, life.name) == before


def test_missed_nights_are_made_up_oldest_first(
    nights: Nights, life: Life, database: Database, tmp_path: Path
) -> None:
    others = [
        begin_life(database, tmp_path, rows=5, day=LONG_AGO + days * DAY) for days in (3, 1, 2)
    ]

    result = nights.run("archive_partitions", life.sealing + 30 * DAY)

    names = [one["partition"] for one in sums(result)["by partition"]]
    assert names == sorted([life.name, *(other.name for other in others)])
    assert nights.materialized("verified_archive") == set(names)


def test_partition_that_fails_stops_no_other_and_is_named(
    nights: Nights, life: Life, next_day: Life, maint: Connection, admin: Connection
) -> None:
    put(admin, life.bounds.lo + timedelta(hours=1))

    result = nights.run("archive_partitions", next_day.sealing)

    assert not result.success
    assert life.name in failure_of(result).description
    assert next_day.name not in failure_of(result).description
    assert sums(result)["failed"] == 1
    found = verdicts(result)["ledger_equals_rows"]
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert "1 batches have no ledger row" in (found.description or "")
    assert found.metadata["not passed"].value == life.name
    assert record(maint, next_day.name).state is State.VERIFIED
    stuck = record(maint, life.name)
    assert stuck.state is State.SEALED
    assert "no ledger row" in (stuck.last_error or "")


def test_partition_that_was_put_right_goes_on_the_next_night(
    nights: Nights, life: Life, maint: Connection, admin: Connection
) -> None:
    put(admin, life.bounds.lo + timedelta(hours=1))
    assert not nights.run("archive_partitions", life.sealing).success
    admin.execute(
        """insert into audit.ingest_batch (batch_id, shard, n_read, n_new, n_dup, n_late, n_bad)
           select e.batch_id, 0, count(*), count(*), 0, 0, 0 from audit.event as e
           where not exists (select from audit.ingest_batch as b where b.batch_id = e.batch_id)
           group by e.batch_id"""
    )

    result = nights.run("archive_partitions", life.sealing + DAY)

    assert result.success
    assert verdicts(result)["ledger_equals_rows"].passed
    row = record(maint, life.name)
    assert (row.state, row.n, row.last_error) == (State.VERIFIED, ROWS + 1, None)


@pytest.mark.parametrize("place_of", ["archive", "copy"])
def test_file_that_changed_in_either_copy_is_not_detached(
    nights: Nights, life: Life, maint: Connection, place_of: str
) -> None:
    archive(nights, life)
    (path,) = (getattr(life, place_of)).rglob("*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    result = nights.run("detach_partitions", life.detaching)

    assert not result.success
    found = verdicts(result)["archive_unchanged"]
    assert not found.passed
    assert life.name in (found.description or "")
    assert record(maint, life.name).state is State.VERIFIED


def test_archive_that_cannot_be_read_back_fails_its_check(
    nights: Nights, life: Life, maint: Connection
) -> None:
    live(maint, life, now=life.sealing, until=Step.EXPORT)
    (path,) = life.archive.rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-100])

    result = nights.run("archive_partitions", life.sealing)

    assert not result.success
    assert not verdicts(result)["archive_re_read"].passed
    assert record(maint, life.name).state is State.EXPORTED


def test_hold_on_hot_rows_makes_the_detach_wait_without_a_failure(
    nights: Nights, life: Life, maint: Connection
) -> None:
    archive(nights, life)
    hold(maint, life, keep_hot=True)

    waiting = nights.run("detach_partitions", life.detaching)

    assert waiting.success
    assert sums(waiting)["waiting"] == 1
    found = verdicts(waiting)["not_held_hot"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "2026-17" in (found.description or "")
    assert record(maint, life.name).state is State.VERIFIED
    release(maint, [HOLD_ID], released_by="jurist", now=life.detaching)
    assert nights.run("detach_partitions", life.detaching + DAY).success
    assert record(maint, life.name).state is State.DETACHED


def test_any_hold_makes_the_drop_wait(nights: Nights, life: Life, maint: Connection) -> None:
    archive(nights, life)
    hold(maint, life, keep_hot=False)
    assert nights.run("detach_partitions", life.detaching).success

    waiting = nights.run("drop_partitions", life.dropping)

    assert waiting.success
    assert not verdicts(waiting)["not_held"].passed
    row = record(maint, life.name)
    assert (row.state, row.last_error) == (State.DETACHED, None)


def test_second_copy_of_a_job_leaves_the_partition_to_the_first(
    nights: Nights, life: Life, maint: Connection, database: Database
) -> None:
    with (
        connected(database.maint_url, application="other") as other,
        one_at_a_time(other, life.name),
    ):
        result = nights.run("archive_partitions", life.sealing)

    assert result.success
    assert (sums(result)["waiting"], sums(result)["failed"]) == (1, 0)
    row = record(maint, life.name)
    assert (row.state, row.last_error) == (State.OPEN, None)


@pytest.mark.parametrize("job", ["detach_partitions", "drop_partitions"])
def test_nothing_is_taken_away_while_too_few_partitions_are_ahead(
    nights: Nights, life: Life, maint: Connection, admin: Connection, job: str
) -> None:
    archive(nights, life)
    names = admin.execute(
        "select name from audit.partition where lo > now() + interval '36 hours'"
    ).fetchall()
    for (name,) in names:
        admin.execute(f"drop table audit.{name}".encode())
        admin.execute("delete from audit.partition where name = %s", [name])

    result = nights.run(job, life.detaching)

    assert not result.success
    assert "alarm below 3" in failure_of(result).description
    assert record(maint, life.name).state is State.VERIFIED


def test_steps_that_dagster_was_not_told_of_are_shown_by_the_next_run(
    nights: Nights, life: Life, maint: Connection
) -> None:
    """A run that is killed between a step and its materialization leaves them behind."""
    live(maint, life, now=life.sealing)
    assert nights.materialized("verified_archive") == set()

    result = nights.run("archive_partitions", life.sealing + DAY)

    assert result.success
    assert shown(result, "verified_archive")[life.name]["rows"] == ROWS
    assert nights.materialized("sealed_partition") == {life.name}
    assert nights.materialized("detached_partition") == set()


def test_partitions_of_any_range_have_their_key(
    nights: Nights, maint: Connection, instance: dg.DagsterInstance
) -> None:
    moment = datetime(2025, 3, 5, 7, tzinfo=UTC)
    ranges = [
        bounds_for(moment + timedelta(days=31 * number), interval)
        for number, interval in enumerate(("hour", "day", "week", "month"))
    ]
    ensure_partitions(maint, ranges)

    result = nights.run("archive_partitions", datetime(2025, 8, 1, tzinfo=UTC))

    assert result.success
    names = {"event_2025030507", "event_20250405", "event_2025w19", "event_202506"}
    assert set(instance.get_dynamic_partitions("audit_partition")) == names
    assert nights.materialized("verified_archive") == names
    assert {record(maint, name).n for name in names} == {0}


def test_only_named_partitions_are_walked_when_some_are_named(
    nights: Nights, life: Life, next_day: Life, maint: Connection
) -> None:
    night = next_day.sealing

    assert nights.run("archive_partitions", night, partitions=[next_day.name]).success

    assert record(maint, life.name).state is State.OPEN
    assert record(maint, next_day.name).state is State.VERIFIED


@pytest.mark.parametrize("now", ["2026-12-01", "2026-12-01T02:00:00", "tomorrow"])
def test_moment_without_an_offset_is_refused(nights: Nights, now: str) -> None:
    result = nights.run("archive_partitions", now)

    assert not result.success
    assert "write it like 2026-12-01T02:00:00+00:00" in failure_of(result).description
