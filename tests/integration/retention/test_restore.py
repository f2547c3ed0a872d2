"""Archived days brought back beside the archive, on a real server."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from audit_platform.archive.store import open_store
from audit_platform.db.pool import Connection, connected
from audit_platform.errors import (
    ArchiveDamaged,
    ArchiveMismatch,
    ArchiveMissing,
    PartitionBusy,
    PartitionLost,
    PermissionRefused,
    StepRefused,
)
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import one_at_a_time, replace_files
from audit_platform.retention.restore import remove_restored, restore_day
from audit_platform.retention.restored_table import REMARK, RestoreReport, make_table
from tests.conftest import Database
from tests.integration.retention.archived import (
    archived_life,
    differences,
    fresh,
    live_until,
    one_value,
    tables_like,
)
from tests.integration.retention.lives import Life, begin_life, visible_ids

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

    assert removed == [True, False]
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


def test_day_without_rows_is_restored(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.DROPPED, rows=0)

    report = beside(maint, life)

    assert (report.rows, report.is_root_equal) == (0, True)


def test_day_without_an_archive_is_refused(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = begin_life(database, tmp_path, rows=3)

    with pytest.raises(StepRefused, match="in no archive") as caught:
        beside(maint, life)

    assert caught.value.fields["reason"] == "state"


def test_unknown_partition_is_named(maint: Connection, dropped: Life) -> None:
    row = replace(fresh(maint, dropped), name="event_19990101")

    with pytest.raises(PartitionLost, match="event_19990101"):
        restore_day(
            maint,
            row,
            open_store(dropped.archive.as_uri()),
            attach=False,
            now=dropped.dropping,
        )


def test_damaged_file_restores_nothing_and_the_second_copy_all(
    database: Database, maint: Connection, dropped: Life
) -> None:
    data = bytearray(parquet_of(dropped).read_bytes())
    data[len(data) // 2] ^= 1
    parquet_of(dropped).write_bytes(data)

    with pytest.raises(ArchiveDamaged):
        beside(maint, dropped)
    assert tables_like(database, "restored%") == []
    assert fresh(maint, dropped).restored_as is None

    report = beside(maint, dropped, copy=True)
    assert differences(database, report.table).mismatches == 0


def test_missing_file_restores_nothing(
    database: Database, maint: Connection, dropped: Life
) -> None:
    parquet_of(dropped).unlink()

    with pytest.raises(ArchiveMissing):
        beside(maint, dropped)

    assert tables_like(database, "restored%") == []


def test_file_of_another_day_with_a_forged_entry_is_found_by_the_seal(
    database: Database, maint: Connection, tmp_path: Path, dropped: Life
) -> None:
    """Hash, size and name agree; the rows are not those that were sealed."""
    other = begin_life(
        database, tmp_path / "other", rows=306, day=dropped.bounds.lo + timedelta(days=1)
    )
    live_until(maint, other, State.DROPPED)
    (entry,) = fresh(maint, dropped).files
    (foreign,) = fresh(maint, other).files
    parquet_of(dropped).write_bytes(parquet_of(other).read_bytes())
    row = fresh(maint, dropped)
    forged = replace(foreign, path=entry.path)
    assert replace_files(
        maint, row.name, generation=row.generation, before=row.files, files=(forged,)
    )

    with pytest.raises(ArchiveMismatch, match="another digest"):
        beside(maint, dropped)

    assert tables_like(database, "restored%") == []


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


def test_table_of_somebody_else_is_left_alone(
    database: Database, maint: Connection, dropped: Life
) -> None:
    table = f"restored_{dropped.name}"
    with as_owner(maint):
        maint.execute(f"create table audit.{table} as select 1 as mine".encode())

    for act in (
        lambda: beside(maint, dropped),
        lambda: remove_restored(maint, fresh(maint, dropped), now=dropped.dropping),
    ):
        with pytest.raises(StepRefused, match="not made by a restore"):
            act()

    assert one_value(database, f"select mine from audit.{table}") == 1


def test_second_process_is_told_to_wait(
    database: Database, maint: Connection, dropped: Life
) -> None:
    with (
        connected(database.maint_url, application="another") as other,
        one_at_a_time(other, dropped.name),
        pytest.raises(PartitionBusy),
    ):
        beside(maint, dropped)


def test_restored_rows_are_not_open_to_readers_of_all_tenants(
    database: Database, maint: Connection, admin: Connection, dropped: Life
) -> None:
    """A default privilege would hand every tenant's rows to every reader."""
    admin.execute(
        "alter default privileges for role audit_owner in schema audit"
        " grant select on tables to audit_reader"
    )

    with pytest.raises(PermissionRefused, match="audit_reader"):
        beside(maint, dropped)

    assert tables_like(database, "restored%") == []


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
