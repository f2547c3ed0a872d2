"""The driver: which steps a moment brings, what it tells, and what a failed step leaves behind."""

import shutil
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.errors import (
    ArchiveError,
    ArchiveMismatch,
    PartitionBusy,
    PartitionLost,
    StepRefused,
)
from audit_platform.retention.advance import advance
from audit_platform.retention.holds import HoldScope, place
from audit_platform.retention.partition_states import State, Step
from audit_platform.retention.partition_table import one_at_a_time
from tests.conftest import Database
from tests.integration.retention.lives import (
    LONG_AGO,
    Life,
    begin_life,
    has_table,
    leftovers,
    live,
    row_of,
    visible_ids,
)

pytestmark = pytest.mark.integration

ROWS = 300
ARCHIVED = [Step.SEAL, Step.INDEX, Step.EXPORT, Step.VERIFY]


@pytest.fixture
def life(database: Database, tmp_path: Path) -> Life:
    """An open day with rows."""
    return begin_life(database, tmp_path, rows=ROWS)


def test_life_takes_the_steps_that_each_moment_brings(
    database: Database, maint: Connection, life: Life
) -> None:
    taken = {now: [one.step for one in live(maint, life, now=now)] for now in life.moments}

    assert taken == {
        life.sealing: ARCHIVED,
        life.detaching: [Step.DETACH],
        life.dropping: [Step.DROP],
    }
    assert row_of(maint, life).state is State.DROPPED
    assert not has_table(database, life)
    assert visible_ids(database, life) == list(life.ids)


def test_reports_carry_what_each_step_came_to(maint: Connection, life: Life) -> None:
    reports = {one.step: one for moment in life.moments for one in live(maint, life, now=moment)}

    assert all(one.name == life.name for one in reports.values())
    assert all(one.postponed_because is None for one in reports.values())
    for step in (Step.SEAL, Step.EXPORT, Step.VERIFY, Step.DROP):
        assert reports[step].figures["rows"] == ROWS
    assert reports[Step.SEAL].figures["root"] == (row_of(maint, life).root or b"").hex()


def test_nothing_is_done_before_its_time(maint: Connection, life: Life) -> None:
    early = life.bounds.hi + timedelta(hours=47)

    assert live(maint, life, now=early) == []
    assert row_of(maint, life).state is State.OPEN


@pytest.mark.parametrize("until", [Step.SEAL, Step.EXPORT, Step.VERIFY, Step.DETACH])
def test_nothing_goes_on_while_the_clock_is_set_back(
    database: Database, maint: Connection, life: Life, until: Step
) -> None:
    """A clock that was ahead is put right: no step is recorded before the one it follows."""
    ahead = life.detaching + timedelta(days=400)
    live(maint, life, now=ahead, until=until)
    before = row_of(maint, life)

    assert live(maint, life, now=life.detaching) == []
    assert live(maint, life, now=ahead - timedelta(seconds=1)) == []

    assert row_of(maint, life) == before
    live(maint, life, now=ahead)
    assert live(maint, life, now=ahead + timedelta(days=7))[-1].step is Step.DROP
    assert visible_ids(database, life) == list(life.ids)


def test_last_step_wanted_is_the_last_one_taken(maint: Connection, life: Life) -> None:
    first = live(maint, life, now=life.detaching, until=Step.EXPORT)
    again = live(maint, life, now=life.detaching, until=Step.EXPORT)

    assert [one.step for one in first] == ARCHIVED[:3]
    assert again == []
    assert row_of(maint, life).state is State.EXPORTED


def test_a_day_long_due_is_archived_and_detached_in_one_run(maint: Connection, life: Life) -> None:
    reports = live(maint, life, now=life.dropping)

    assert [one.step for one in reports] == [*ARCHIVED, Step.DETACH]
    assert row_of(maint, life).detached_at == life.dropping, "its grace period begins now"


def test_empty_day_lives_like_any_other(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = begin_life(database, tmp_path, rows=0)

    for moment in life.moments:
        live(maint, life, now=moment)

    row = row_of(maint, life)
    assert (row.state, row.n, row.files) == (State.DROPPED, 0, ())
    assert visible_ids(database, life) == []


def test_hold_makes_the_drop_wait_without_an_error(maint: Connection, life: Life) -> None:
    for moment in life.moments[:2]:
        live(maint, life, now=moment)
    place(
        maint,
        hold_id=uuid4(),
        case_id="case-3",
        scope=HoldScope(tenant_id="acme"),
        reason="dispute",
        placed_by="test",
        now=life.detaching,
    )

    (report,) = live(maint, life, now=life.dropping)

    assert report.step is Step.DROP
    assert "case-3" in (report.postponed_because or "")
    row = row_of(maint, life)
    assert (row.state, row.last_error) == (State.DETACHED, None)


def test_wrong_file_under_the_right_name_stops_the_day_until_it_is_replaced(
    database: Database, maint: Connection, life: Life, tmp_path: Path
) -> None:
    other = begin_life(database, tmp_path / "other", rows=ROWS, day=LONG_AGO + timedelta(days=1))
    for one in (life, other):
        live(maint, one, now=one.sealing, until=Step.EXPORT)
    right = data_file(life.archive)
    shutil.copyfile(data_file(other.archive), right)

    with pytest.raises(ArchiveMismatch, match=right.name):
        live(maint, life, now=life.sealing)

    row = row_of(maint, life)
    assert row.state is State.EXPORTED
    assert row.last_error is not None
    assert row.last_error.startswith("verify:")
    assert visible_ids(database, life) == list(life.ids)
    shutil.copyfile(data_file(life.copy), right)
    live(maint, life, now=life.sealing)
    assert (row_of(maint, life).state, row_of(maint, life).last_error) == (State.VERIFIED, None)


def test_damaged_second_copy_stops_the_day_too(maint: Connection, life: Life) -> None:
    live(maint, life, now=life.sealing, until=Step.EXPORT)
    data_file(life.copy).unlink()

    with pytest.raises(ArchiveMismatch, match="second copy"):
        live(maint, life, now=life.sealing)

    assert row_of(maint, life).state is State.EXPORTED


def data_file(place: Path) -> Path:
    (path,) = place.rglob("*.parquet")
    return path


def test_archive_that_cannot_be_written_leaves_the_day_sealed(
    database: Database, maint: Connection, life: Life
) -> None:
    """A file stands where the directory should: what no right helps against, root's neither."""
    life.archive.write_text("in the way")

    with pytest.raises(ArchiveError):
        live(maint, life, now=life.sealing)

    row = row_of(maint, life)
    assert row.state is State.SEALED
    assert row.last_error is not None
    assert row.last_error.startswith("export:")
    assert visible_ids(database, life) == list(life.ids)
    life.archive.unlink()
    live(maint, life, now=life.sealing)
    assert (row_of(maint, life).state, row_of(maint, life).last_error) == (State.VERIFIED, None)
    assert leftovers(life) == []


def test_missing_table_is_named_and_stops_nobody_else(
    database: Database, maint: Connection, admin: Connection, life: Life, tmp_path: Path
) -> None:
    other = begin_life(database, tmp_path / "other", rows=ROWS, day=LONG_AGO + timedelta(days=1))
    admin.execute(f"drop table audit.{life.name}".encode())

    with pytest.raises(PartitionLost, match=life.name):
        live(maint, life, now=life.sealing)

    row = row_of(maint, life)
    assert row.state is State.OPEN
    assert row.last_error is not None
    assert row.last_error.startswith("seal:")
    assert [one.step for one in live(maint, other, now=other.sealing)] == ARCHIVED


def test_unknown_partition_is_refused(maint: Connection, admin: Connection, life: Life) -> None:
    row = row_of(maint, life)
    admin.execute("delete from audit.partition where name = %s", [life.name])

    with pytest.raises(PartitionLost, match=life.name):
        advance(maint, row, life.context(), now=life.sealing, until=None)


def test_busy_partition_is_left_alone_and_nothing_is_noted(
    database: Database, maint: Connection, life: Life
) -> None:
    with (
        connected(database.maint_url, application="other") as other,
        one_at_a_time(other, life.name),
        pytest.raises(PartitionBusy),
    ):
        live(maint, life, now=life.sealing)

    row = row_of(maint, life)
    assert (row.state, row.last_error) == (State.OPEN, None)
    assert [one.step for one in live(maint, life, now=life.sealing)] == ARCHIVED


def test_step_that_changes_nothing_ends_the_run(
    maint: Connection, admin: Connection, life: Life
) -> None:
    """A rule of the server swallows the record: without a limit the run would go round for ever."""
    live(maint, life, now=life.sealing, until=Step.INDEX)
    admin.execute(
        """create rule swallow as on update to audit.partition
           where new.state = 'exported' do instead nothing"""
    )

    with pytest.raises(StepRefused, match="changed nothing"):
        live(maint, life, now=life.sealing)

    admin.execute("drop rule swallow on audit.partition")
    assert row_of(maint, life).state is State.SEALED
    live(maint, life, now=life.sealing)
    assert row_of(maint, life).state is State.VERIFIED
