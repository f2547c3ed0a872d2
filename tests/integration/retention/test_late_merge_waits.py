"""What stands in the way of a merge: the rows stay late, are seen, and the next run goes on."""

from dataclasses import replace
from pathlib import Path

import pytest

from audit_platform.db.pool import Connection
from audit_platform.retention.partition_states import State, Step
from audit_platform.retention.partition_table import one_at_a_time, replace_files
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.integration.events.shard import Shard
from tests.integration.retention.lives import begin_life, count_hot, live, reading, row_of
from tests.integration.retention.merging import Merging, unheard_log

pytestmark = pytest.mark.integration

ROWS = 120
LATE = 7


@pytest.fixture
def merging(database: Database, maint: Connection, settings: Settings, tmp_path: Path) -> Merging:
    life = begin_life(database, tmp_path, rows=ROWS)
    return Merging(conn=maint, database=database, settings=settings, life=life)


def _late_count(shard: Shard) -> int:
    return len(shard.late())


@pytest.mark.parametrize("until", [Step.SEAL, Step.EXPORT])
def test_rows_of_a_day_on_its_way_to_the_archive_wait_for_it(
    merging: Merging, shard: Shard, until: Step
) -> None:
    live(merging.conn, merging.life, now=merging.life.sealing, until=until)
    merging.store(merging.late_events(LATE))

    (early,) = merging.merge()
    live(merging.conn, merging.life, now=merging.life.sealing)
    (later,) = merging.merge()

    assert early.skipped is not None
    assert "verified" in early.skipped
    assert (later.opened_from, later.added) == (State.VERIFIED, LATE)
    assert _late_count(shard) == 0


def test_without_the_log_nothing_is_opened(merging: Merging, shard: Shard) -> None:
    merging.bring_to(State.VERIFIED)
    before = row_of(merging.conn, merging.life)
    merging.store(merging.late_events(LATE))

    with unheard_log() as log:
        (report,) = merging.merge_with(log)

    assert report.problem is not None
    after = row_of(merging.conn, merging.life)
    assert (after.state, after.generation) == (State.VERIFIED, 1)
    assert after.last_error is not None
    assert after.root == before.root
    assert _late_count(shard) == LATE


def test_a_merge_killed_after_the_opening_goes_on(merging: Merging, shard: Shard) -> None:
    merging.bring_to(State.VERIFIED)
    merging.store(merging.late_events(LATE))
    merging.reopen(now=merging.life.sealing)

    (report,) = merging.merge()

    assert (report.opened_from, report.added) == (None, LATE)
    assert row_of(merging.conn, merging.life).generation == 2
    assert _late_count(shard) == 0


def test_a_day_whose_table_was_changed_is_not_opened(
    admin: Connection, merging: Merging, shard: Shard
) -> None:
    merging.bring_to(State.VERIFIED)
    merging.store(merging.late_events(LATE))
    name = merging.life.name
    with admin.transaction():
        admin.execute(f"alter table audit.{name} disable trigger user".encode())
        admin.execute(f"delete from audit.{name} where entity_id = '7'".encode())
        admin.execute(f"alter table audit.{name} enable trigger user".encode())

    (report,) = merging.merge()

    assert report.problem is not None
    assert "sealed" in report.problem
    row = row_of(merging.conn, merging.life)
    assert (row.state, row.generation) == (State.VERIFIED, 1)
    assert row.last_error == f"late rows: {report.problem}"
    assert _late_count(shard) == LATE


def test_a_day_that_another_process_works_on_is_left_to_it(
    admin: Connection, merging: Merging, shard: Shard
) -> None:
    merging.bring_to(State.VERIFIED)
    merging.store(merging.late_events(LATE))

    with one_at_a_time(admin, merging.life.name):
        (report,) = merging.merge()

    assert report.skipped is not None
    assert _late_count(shard) == LATE


def test_a_reader_of_the_day_keeps_no_merge_waiting(merging: Merging, shard: Shard) -> None:
    merging.bring_to(State.VERIFIED)
    merging.store(merging.late_events(LATE))

    with reading(merging.database) as reader:
        assert count_hot(reader, merging.life) == ROWS
        (report,) = merging.merge(patience_s=0.5)
        assert count_hot(reader, merging.life) == ROWS

    assert (report.skipped, report.added) == (None, LATE)
    assert _late_count(shard) == 0


def test_maintenance_that_holds_the_day_makes_the_merge_wait_for_the_next_night(
    admin: Connection, merging: Merging, shard: Shard
) -> None:
    merging.bring_to(State.VERIFIED)
    merging.store(merging.late_events(LATE))

    with admin.transaction():
        admin.execute(f"lock table audit.{merging.life.name} in share mode".encode())
        (report,) = merging.merge(patience_s=0.5)
    assert report.skipped is not None
    assert _late_count(shard) == LATE
    (later,) = merging.merge()

    assert (later.added, _late_count(shard)) == (LATE, 0)


def test_a_day_whose_files_expired_keeps_its_rows_late(merging: Merging, shard: Shard) -> None:
    """The day cannot be put together again; searches find the late rows where they are."""
    merging.bring_to(State.DROPPED)
    row = row_of(merging.conn, merging.life)
    expired = [replace(entry, expiring_at=merging.life.dropping) for entry in row.files]
    assert replace_files(merging.conn, row.name, generation=1, before=row.files, files=expired)
    merging.store(merging.late_events(LATE))

    (report,) = merging.merge()

    assert report.problem is None
    assert "expired" in (report.skipped or "")
    assert row_of(merging.conn, merging.life).state is State.DROPPED
    assert _late_count(shard) == LATE
