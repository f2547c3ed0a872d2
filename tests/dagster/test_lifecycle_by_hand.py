"""One partition advanced by hand: the assets, and the checks that stand between them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import pytest

from audit_platform.assets.partition_pages import STEPS_OF_ASSET
from audit_platform.db.pool import Connection, connected
from audit_platform.events.identity import mint
from audit_platform.retention.holds import HoldScope, place
from audit_platform.retention.partition_states import State
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.dagster.partition_runs import (
    Nights,
    failure_of,
    nights_of,
    record,
    shown,
    verdicts,
)
from tests.integration.retention.lives import LONG_AGO, Life, begin_life, live
from tests.integration.retention.sealing import put

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

ROWS = 200


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


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    """Assets that a run materialized."""
    return {asset for asset in STEPS_OF_ASSET if shown(result, asset)}


def skipped(result: dg.ExecuteInProcessResult) -> set[str]:
    """Assets whose step did not run because of what came before."""
    return {
        str(event.step_key)
        for event in result.all_events
        if event.is_step_skipped and event.step_key in STEPS_OF_ASSET
    }


def test_steps_that_are_due_are_taken_and_the_others_skipped(
    nights: Nights, life: Life, maint: Connection
) -> None:
    result = nights.by_hand(life.name, life.sealing)

    assert result.success
    assert made(result) == {"sealed_partition", "archived_partition", "verified_archive"}
    assert skipped(result) == {"dropped_partition"}
    assert record(maint, life.name).state is State.VERIFIED
    passed = {name for name, one in verdicts(result).items() if one.passed}
    assert passed >= {"ledger_equals_rows", "archive_re_read", "archive_unchanged"}


def test_whole_life_by_hand_ends_with_the_drop(
    nights: Nights, life: Life, maint: Connection
) -> None:
    for moment in life.moments:
        assert nights.by_hand(life.name, moment).success

    assert record(maint, life.name).state is State.DROPPED
    assert all(nights.materialized(asset) == {life.name} for asset in STEPS_OF_ASSET)


def test_repeat_shows_the_record_and_changes_nothing(
    nights: Nights, life: Life, maint: Connection
) -> None:
    assert nights.by_hand(life.name, life.sealing).success
    before = record(maint, life.name)

    again = nights.by_hand(life.name, life.sealing + timedelta(hours=1))

    assert again.success
    assert shown(again, "archived_partition")[life.name]["rows"] == ROWS
    assert record(maint, life.name) == before


def test_open_partition_before_its_time_is_left_open(
    nights: Nights, life: Life, maint: Connection
) -> None:
    result = nights.by_hand(life.name, life.bounds.hi)

    assert result.success
    assert made(result) == set()
    assert record(maint, life.name).state is State.OPEN


def test_ledger_blocks_the_archive(
    nights: Nights, life: Life, maint: Connection, admin: Connection
) -> None:
    put(admin, life.bounds.lo + timedelta(hours=1))

    result = nights.by_hand(life.name, life.sealing)

    assert not result.success
    assert not verdicts(result)["ledger_equals_rows"].passed
    assert made(result) == {"sealed_partition"}
    assert record(maint, life.name).state is State.SEALED


def test_damaged_archive_blocks_the_detach(nights: Nights, life: Life, maint: Connection) -> None:
    assert nights.by_hand(life.name, life.sealing).success
    (path,) = life.copy.rglob("*.parquet")
    path.unlink()

    result = nights.by_hand(life.name, life.detaching)

    assert not result.success
    found = verdicts(result)["archive_unchanged"]
    assert not found.passed
    assert "is missing in the second copy" in (found.description or "")
    assert record(maint, life.name).state is State.VERIFIED


def hold(maint: Connection, life: Life, *, keep_hot: bool) -> None:
    place(
        maint,
        hold_id=UUID(mint(1_700_000_000_000_000, 2)),
        case_id="2026-18",
        scope=HoldScope(tenant_id="*", lo=life.bounds.lo, hi=life.bounds.hi, keep_hot=keep_hot),
        reason="litigation",
        placed_by="jurist",
        now=LONG_AGO,
    )


def test_hold_on_hot_rows_blocks_the_detach(nights: Nights, life: Life, maint: Connection) -> None:
    live(maint, life, now=life.sealing)
    hold(maint, life, keep_hot=True)

    result = nights.by_hand(life.name, life.dropping)

    assert not result.success
    assert not verdicts(result)["not_held_hot"].passed
    assert "case 2026-18" in (verdicts(result)["not_held_hot"].description or "")
    assert record(maint, life.name).state is State.VERIFIED


def test_any_hold_blocks_the_drop(nights: Nights, life: Life, maint: Connection) -> None:
    live(maint, life, now=life.detaching)
    hold(maint, life, keep_hot=False)

    result = nights.by_hand(life.name, life.dropping)

    assert not result.success
    assert not verdicts(result)["not_held"].passed
    assert record(maint, life.name).state is State.DETACHED


def test_partition_that_does_not_exist_is_a_failure_that_says_so(nights: Nights) -> None:
    result = nights.by_hand("event_19990101", LONG_AGO)

    assert not result.success
    assert "there is no partition event_19990101" in failure_of(result).description


def run_check(nights: Nights, check: str) -> dg.AssetCheckEvaluation:
    """Run one check without a partition, as from the page of its asset."""
    (definition,) = [
        one
        for one in nights.location.asset_checks or ()
        if check in {key.name for key in one.check_keys}
    ]
    job = dg.define_asset_job("one_check", selection=dg.AssetSelection.checks(definition))
    resources: Any = nights.location.resources
    defs = dg.Definitions(
        assets=nights.location.assets, asset_checks=[definition], jobs=[job], resources=resources
    )
    result = defs.resolve_job_def("one_check").execute_in_process(
        instance=nights.instance, raise_on_error=False
    )
    return verdicts(result)[check]


@pytest.mark.parametrize("check", ["ledger_equals_rows", "archive_re_read", "archive_unchanged"])
def test_check_without_a_partition_judges_the_newest_one(
    nights: Nights, life: Life, maint: Connection, check: str
) -> None:
    nothing = run_check(nights, check).description or ""
    assert nothing.startswith("nothing to check: no partition is ")
    live(maint, life, now=life.sealing)

    found = run_check(nights, check)

    assert found.passed
    assert found.metadata["partition"].value == life.name


def test_step_that_is_late_or_failed_is_an_alarm(
    nights: Nights, life: Life, maint: Connection, admin: Connection
) -> None:
    assert run_check(nights, "on_time").passed
    admin.execute(
        "update audit.partition set opened_at = now() - interval '27 hours' where name = %s",
        [life.name],
    )

    late = run_check(nights, "on_time")
    live(maint, life, now=life.sealing)
    admin.execute(
        "update audit.partition set last_error = 'detach: disk' where name = %s", [life.name]
    )
    failed = run_check(nights, "on_time")

    assert not late.passed
    assert f"{life.name}: seal is due since 2025-06-04 00:00Z" in (late.description or "")
    assert not failed.passed
    assert f"{life.name}: detach: disk" in (failed.description or "")
