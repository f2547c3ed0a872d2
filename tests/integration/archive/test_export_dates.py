"""Partitions of a week and of an hour: directories are dates all the same."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from audit_platform.archive.store import ArchiveStore
from audit_platform.db.pool import Connection
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import bounds_for
from tests.integration.archive.exporting import all_rows, export, table_of
from tests.integration.archive.rows import many_rows, put_rows, uuid_of
from tests.integration.retention.sealing import seal_day

pytestmark = pytest.mark.integration


def test_week_is_archived_by_date(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore
) -> None:
    week = bounds_for(datetime(2025, 5, 7, tzinfo=UTC), "week")
    ensure_partitions(maint, [week])
    put_rows(admin, many_rows(700, bounds=week), table=week.name)
    seal_day(maint, bounds=week)

    report = export(maint, store, bounds=week)

    days = [week.lo.date() + timedelta(days=number) for number in range(7)]
    assert [entry.path for entry in report.files] == [
        f"cold/date={day}/standard.all.g1.0000.parquet" for day in days
    ]
    assert report.manifest_path == f"cold/date={week.lo.date()}/manifest.g1.json"
    for day, entry in zip(days, report.files, strict=True):
        moments = table_of(store, entry.path).column("timestamp").to_pylist()
        assert {moment.date() for moment in moments} == {day}
        assert len(moments) == 100
    stored = [str(row["id"]) for row in many_rows(700, bounds=week)]
    archived = [str(uuid_of(value)) for value in all_rows(store, report).column("id").to_pylist()]
    assert sorted(archived) == sorted(stored)


def test_hours_of_a_date_share_its_directory(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore
) -> None:
    start = datetime(2025, 5, 20, 22, tzinfo=UTC)
    hours = [bounds_for(start + timedelta(hours=number), "hour") for number in range(2)]
    ensure_partitions(maint, hours)
    for hour in hours:
        put_rows(admin, many_rows(20, bounds=hour), table=hour.name)
        seal_day(maint, bounds=hour)

    for hour in [*hours, hours[0]]:
        export(maint, store, bounds=hour)

    directory = f"cold/date={date(2025, 5, 20)}"
    assert list(store.list("cold")) == [
        f"{directory}/h22.manifest.g1.json",
        f"{directory}/h22.standard.all.g1.0000.parquet",
        f"{directory}/h23.manifest.g1.json",
        f"{directory}/h23.standard.all.g1.0000.parquet",
    ]
