"""Restore drills: any archived day, compared, recorded, and nothing left behind."""

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from audit_platform.archive.store import open_store
from audit_platform.db.pool import Connection, connected
from audit_platform.errors import ArchiveUnavailable, PartitionBusy
from audit_platform.retention.drill import DrillReport, drill_partition, run_drill
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import one_at_a_time, replace_files
from tests.conftest import Database
from tests.integration.retention.archived import (
    alter_behind_the_seal,
    archived_life,
    fresh,
    live_until,
    tables_like,
)
from tests.integration.retention.lives import LONG_AGO, Life, begin_life

pytestmark = pytest.mark.integration

ROWS = 306


def drill(conn: Connection, life: Life) -> DrillReport:
    report = drill_partition(conn, life.name, open_store(life.archive.as_uri()), now=life.dropping)
    assert report is not None
    return report


def recorded(database: Database) -> list[tuple[object, ...]]:
    with psycopg.connect(database.admin_url) as conn:
        return conn.execute(
            "select partition_name, generation, rows, mismatches, seconds >= 0, detail"
            " from audit.restore_drill order by drill_id"
        ).fetchall()


@pytest.mark.parametrize("state", [State.VERIFIED, State.DETACHED, State.DROPPED])
def test_sound_day_passes_in_every_state(
    database: Database, maint: Connection, tmp_path: Path, state: State
) -> None:
    life = archived_life(database, maint, tmp_path, state)

    report = drill(maint, life)

    assert (report.rows, report.mismatches) == (ROWS, 0), report.detail
    assert report.seconds_per_million is not None
    assert ("no original table" in report.detail) is (state is State.DROPPED)
    assert recorded(database) == [(life.name, 1, ROWS, 0, True, report.detail)]
    assert tables_like(database, "drill%") == []
    assert fresh(maint, life).state is state


def test_drill_chooses_among_archived_days_alone(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    days = [LONG_AGO + timedelta(days=n) for n in range(3)]
    lives = [
        archived_life(database, maint, tmp_path / "0", State.VERIFIED, rows=3, day=days[0]),
    ]
    for number, state in ((1, State.DROPPED),):
        life = begin_life(database, tmp_path / "0", rows=3, day=days[number])
        live_until(maint, life, state)
        lives.append(life)
    begin_life(database, tmp_path / "0", rows=3, day=days[2])
    store = open_store(lives[0].archive.as_uri())

    reports = [
        run_drill(maint, store, rng=random.Random(number), now=lives[0].dropping)
        for number in range(8)
    ]

    assert {one.partition for one in reports if one} == {one.name for one in lives}
    assert all(one is not None and one.mismatches == 0 for one in reports)


def test_nothing_archived_is_no_drill(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = begin_life(database, tmp_path, rows=3)
    store = open_store(life.archive.as_uri())

    assert run_drill(maint, store, rng=random.Random(1), now=life.dropping) is None
    assert recorded(database) == []


def test_damaged_file_is_a_finding_on_record(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.DROPPED)
    file = next(life.archive.rglob("*.parquet"))
    data = bytearray(file.read_bytes())
    data[100] ^= 4
    file.write_bytes(data)

    report = drill(maint, life)

    assert report.mismatches >= 1
    assert "SHA-256 differs" in report.detail
    assert recorded(database) == [(life.name, 1, 0, report.mismatches, True, report.detail)]
    assert tables_like(database, "drill%") == []


def test_missing_manifest_is_a_finding(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.DROPPED)
    next(life.archive.rglob("manifest*.json")).unlink()

    assert drill(maint, life).mismatches == 1


@pytest.mark.parametrize(
    "change",
    [
        "received_at = received_at + interval '1 microsecond'",
        "producer_seq = 77",
        "metadata = (metadata::text || ' ')::json",
        "entity_label = ''",
    ],
)
def test_original_row_that_differs_from_the_archive_is_counted_and_named(
    database: Database, maint: Connection, tmp_path: Path, change: str
) -> None:
    life = archived_life(database, maint, tmp_path, State.DETACHED)
    with psycopg.connect(database.admin_url) as conn:
        row = conn.execute(
            f"select id from audit.{life.name} where entity_label is null limit 1".encode()
        ).fetchone()
    assert row is not None
    alter_behind_the_seal(database, f"update audit.{life.name} set {change} where id = '{row[0]}'")

    report = drill(maint, life)

    assert report.mismatches == 1
    assert str(row[0]) in report.detail


def test_rows_lost_or_added_on_either_side_are_counted(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.DETACHED)
    alter_behind_the_seal(
        database,
        f"delete from audit.{life.name} where id in (select id from audit.{life.name} limit 3)",
    )
    alter_behind_the_seal(
        database,
        f"update audit.{life.name} set tenant_id = 'initech' where id in"
        f" (select id from audit.{life.name} limit 1)",
    )

    report = drill(maint, life)

    assert report.mismatches == 5
    assert report.detail.startswith(f"1 rows only in audit.{life.name}, 4 only in the archive")


def test_column_of_another_type_is_counted(
    database: Database, maint: Connection, admin: Connection, tmp_path: Path
) -> None:
    """The rows compare equal, but the table would not be attached."""
    life = archived_life(database, maint, tmp_path, State.DETACHED)
    admin.execute(f"alter table audit.{life.name} disable trigger user".encode())
    admin.execute(f"alter table audit.{life.name} alter column severity type int".encode())

    report = drill(maint, life)

    assert report.mismatches == 1
    assert "severity" in report.detail


def test_expired_files_are_no_mismatch(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.DROPPED, own_files=["acme"])
    row = fresh(maint, life)
    files = [
        replace(one, expiring_at=life.dropping) if one.tenant == "acme" else one
        for one in row.files
    ]
    assert replace_files(maint, row.name, generation=row.generation, before=row.files, files=files)

    report = drill(maint, life)

    assert report.mismatches == 0, report.detail
    assert 0 < report.rows < ROWS


def test_store_that_does_not_answer_is_an_error_and_no_record(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.DROPPED)
    file = next(life.archive.rglob("*.parquet"))
    file.unlink()
    file.mkdir()

    with pytest.raises(ArchiveUnavailable):
        drill(maint, life)

    assert recorded(database) == []


def test_day_that_another_process_works_on_is_left_alone(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.DROPPED)

    with (
        connected(database.maint_url, application="another") as other,
        one_at_a_time(other, life.name),
        pytest.raises(PartitionBusy),
    ):
        drill(maint, life)


def test_day_that_is_not_archived_is_no_drill(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = begin_life(database, tmp_path, rows=3)

    assert (
        drill_partition(maint, life.name, open_store(life.archive.as_uri()), now=life.dropping)
        is None
    )
