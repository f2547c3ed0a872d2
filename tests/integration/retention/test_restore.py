"""Archived days brought back beside the archive, on a real server."""

from dataclasses import replace
from pathlib import Path

import pytest

from audit_platform.archive.store import open_store
from audit_platform.db.pool import Connection
from audit_platform.errors import (
    ArchiveMismatch,
    StepRefused,
)
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import replace_files
from audit_platform.retention.removed_table import REMARK, remove_restored
from audit_platform.retention.restore import restore_day
from audit_platform.retention.restored_table import RestoreReport, make_table
from tests.conftest import Database
from tests.integration.retention.archived import (
    archived_life,
    differences,
    fresh,
    one_value,
    tables_like,
)
from tests.integration.retention.lives import Life, live, visible_ids

pytestmark = pytest.mark.integration

UNUSUAL = 6


@pytest.fixture
def dropped(database: Database, maint: Connection, tmp_path: Path) -> Life:
    """A day that only the archive has."""
    return archived_life(database, maint, tmp_path, State.DROPPED)


def beside(conn: Connection, life: Life, *, copy: bool = False) -> RestoreReport:
    store = open_store((life.copy if copy else life.archive).as_uri())
    return restore_day(conn, fresh(conn, life), store, attach=False, now=life.dropping)


def parquet_of(life: Life) -> Path:
    return next(life.archive.rglob("*.parquet"))


def test_dropped_day_comes_back_with_every_column_as_it_was(
    database: Database, maint: Connection, dropped: Life
) -> None:
    report = beside(maint, dropped)

    found = differences(database, report.table)
    assert found.mismatches == 0, found
    assert found.right_rows == report.rows == 300 + UNUSUAL
    assert (report.is_root_equal, report.is_attached, report.expired_files) == (True, False, 0)
    assert report.table == f"restored_{dropped.name}"


def test_restored_table_is_noted_and_no_search_reads_it(
    database: Database, maint: Connection, dropped: Life
) -> None:
    before = visible_ids(database, dropped)

    report = beside(maint, dropped)

    row = fresh(maint, dropped)
    assert (row.state, row.restored_as) == (State.DROPPED, report.table)
    assert row.restored_at == dropped.dropping
    assert visible_ids(database, dropped) == before
    assert one_value(
        database, "select obj_description(%s::regclass)", f"audit.{report.table}"
    ).startswith(REMARK)


def test_second_restore_proves_the_table_that_is_there(maint: Connection, dropped: Life) -> None:
    first = beside(maint, dropped)
    parquet_of(dropped).unlink()

    second = beside(maint, dropped)

    assert (second.table, second.rows, second.seconds) == (first.table, first.rows, 0.0)


def test_restored_table_that_was_changed_is_not_passed_off_as_the_day(
    maint: Connection, dropped: Life
) -> None:
    report = beside(maint, dropped)
    with as_owner(maint):
        maint.execute(f"update audit.{report.table} set action = 'another'".encode())

    with pytest.raises(ArchiveMismatch, match="columns of 306 rows do not give their leaves"):
        beside(maint, dropped)


def test_removing_drops_the_table_and_its_note(
    database: Database, maint: Connection, dropped: Life
) -> None:
    beside(maint, dropped)

    removed = [
        remove_restored(maint, fresh(maint, dropped), now=dropped.dropping) for _ in range(2)
    ]

    assert removed == [(f"restored_{dropped.name}",), ()]
    assert tables_like(database, "restored%") == []
    assert fresh(maint, dropped).restored_as is None


@pytest.mark.parametrize("state", [State.VERIFIED, State.DETACHED])
def test_day_that_is_still_in_postgresql_is_restored_beside_it(
    database: Database, maint: Connection, tmp_path: Path, state: State
) -> None:
    life = archived_life(database, maint, tmp_path, state)

    report = beside(maint, life)

    assert differences(database, report.table).mismatches == 0
    assert fresh(maint, life).state is state


def test_table_beside_the_archive_is_still_noted_after_a_detach(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.VERIFIED)
    report = beside(maint, life)

    live(maint, life, now=life.detaching)

    row = fresh(maint, life)
    assert (row.state, row.restored_as) == (State.DETACHED, report.table)
    assert row.restored_at == life.dropping
    assert tables_like(database, "restored%") == [report.table]


def test_day_without_rows_is_restored(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.DROPPED, rows=0)

    report = beside(maint, life)

    assert (report.rows, report.is_root_equal) == (0, True)


def test_rest_of_a_day_is_restored_when_a_file_expired(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.DROPPED, own_files=["acme"])
    row = fresh(maint, life)
    assert len(row.files) == 2
    files = [
        replace(one, expired_at=life.dropping) if one.tenant == "acme" else one for one in row.files
    ]
    assert replace_files(maint, row.name, generation=row.generation, before=row.files, files=files)
    for copy in (life.archive, life.copy):
        for one in row.files:
            if one.tenant == "acme":
                (copy / one.path).unlink()

    report = beside(maint, life)

    found = differences(database, report.table)
    assert (report.expired_files, report.is_root_equal) == (1, False)
    assert (found.only_right, found.differing) == (0, 0)
    assert found.only_left == 300 + UNUSUAL - report.rows > 0
    with pytest.raises(StepRefused, match="would lack rows"):
        restore_day(
            maint,
            fresh(maint, life),
            open_store(life.archive.as_uri()),
            attach=True,
            now=life.dropping,
        )


def test_table_left_by_a_killed_restore_is_replaced(
    database: Database, maint: Connection, dropped: Life
) -> None:
    make_table(maint, f"restored_{dropped.name}")

    report = beside(maint, dropped)

    assert differences(database, report.table).mismatches == 0


def test_rows_are_frozen_from_the_start(
    database: Database, maint: Connection, dropped: Life
) -> None:
    report = beside(maint, dropped)

    frozen = one_value(
        database,
        "select relallvisible = relpages and relpages > 0 from pg_class where oid = %s::regclass",
        f"audit.{report.table}",
    )
    assert frozen is True
