"""What stops a partition in its nightly run: proofs, holds, other processes; and what it stops."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import dagster as dg
import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.events.identity import mint
from audit_platform.retention.holds import HoldScope, place, release
from audit_platform.retention.partition_states import State, Step
from audit_platform.retention.partition_table import one_at_a_time
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.dagster.partition_runs import (
    Nights,
    failure_of,
    nights_of,
    record,
    sums,
    verdicts,
)
from tests.integration.retention.lives import (
    LONG_AGO,
    Life,
    begin_life,
    live,
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
    lost = admin.execute("delete from audit.ingest_batch returning batch_id, n_new").fetchall()
    assert not nights.run("archive_partitions", life.sealing).success
    for batch_id, rows in lost:
        admin.execute(
            """insert into audit.ingest_batch
                 (batch_id, shard, n_read, n_new, n_dup, n_late, n_bad)
               values (%s, 0, %s, %s, 0, 0, 0)""",
            [batch_id, rows, rows],
        )

    result = nights.run("archive_partitions", life.sealing + DAY)

    assert result.success
    assert verdicts(result)["ledger_equals_rows"].passed
    row = record(maint, life.name)
    assert (row.state, row.n, row.last_error) == (State.VERIFIED, ROWS, None)


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


@pytest.mark.parametrize("now", ["2026-12-01", "2026-12-01T02:00:00", "tomorrow"])
def test_moment_without_an_offset_is_refused(nights: Nights, now: str) -> None:
    result = nights.run("archive_partitions", now)

    assert not result.success
    assert "write it like 2026-12-01T02:00:00+00:00" in failure_of(result).description
