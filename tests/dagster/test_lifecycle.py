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
from audit_platform.retention.holds import HoldScope, place
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import bounds_for
from audit_platform.retention.partition_states import State
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.dagster.partition_runs import (
    Nights,
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
    place(
        maint,
        hold_id=HOLD_ID,
        case_id="2026-20",
        scope=HoldScope(tenant_id="acme", lo=life.bounds.lo, hi=life.bounds.hi),
        reason="litigation",
        placed_by="jurist",
        now=life.bounds.lo,
    )
    result = nights.run("archive_partitions", life.sealing)

    row = record(maint, life.name)
    assert row.root is not None
    page = shown(result, "archived_partition")[life.name]
    assert page["rows"] == ROWS
    assert page["archive bytes"] == sum(entry.bytes for entry in row.files) > 0
    assert page["root"] == row.root.hex()
    assert page["files"] == len(row.files) == 1
    assert page["legal holds"] == "1, of case 2026-20"
    assert page["state"] == "verified"
    assert page["generation"] == 1
    assert page["seconds"] > 0
    assert page["archive files"][0]["sha256 begins"] == row.files[0].sha256[:16]
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
