"""Restores that must not happen: nothing is left of them, and the cause is named."""

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
from audit_platform.retention.removed_table import remove_restored
from audit_platform.retention.restore import restore_day
from audit_platform.retention.restored_table import RestoreReport
from tests.conftest import Database
from tests.integration.retention.archived import (
    archived_life,
    differences,
    fresh,
    live_until,
    one_value,
    tables_like,
)
from tests.integration.retention.lives import Life, begin_life

pytestmark = pytest.mark.integration


@pytest.fixture
def dropped(database: Database, maint: Connection, tmp_path: Path) -> Life:
    """A day that only the archive has."""
    return archived_life(database, maint, tmp_path, State.DROPPED)


def beside(conn: Connection, life: Life, *, copy: bool = False) -> RestoreReport:
    store = open_store((life.copy if copy else life.archive).as_uri())
    return restore_day(conn, fresh(conn, life), store, attach=False, now=life.dropping)


def parquet_of(life: Life) -> Path:
    return next(life.archive.rglob("*.parquet"))


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
