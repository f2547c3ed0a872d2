"""What is remarkable is said with what to do; a healthy database has no findings."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audit_platform.retention.size_findings import findings, readable_size
from audit_platform.retention.sizes import DatabaseSize, IndexSize, StorageReport, TableSize

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GIB = 1 << 30
TABLE = TableSize(
    name="event_20261101",
    lo=NOW - timedelta(days=21),
    hi=NOW - timedelta(days=20),
    state="sealed",
    is_attached=True,
    heap_bytes=GIB,
    toast_bytes=0,
    index_bytes=GIB // 2,
    total_bytes=GIB + GIB // 2,
    live_rows=2_000_000,
    dead_rows=0,
    inserted=2_000_000,
    updated=0,
    deleted=0,
    table_scans=3,
    index_scans=900,
    vacuumed_at=NOW,
    analyzed_at=NOW,
    frozen_age=1_000,
    bloat_bytes=GIB // 100,
)
INDEX = IndexSize(
    name="event_20261101_user",
    table="event_20261101",
    family="event_user",
    method="btree",
    bytes_=GIB // 10,
    is_unique=False,
    is_valid=True,
    scans=900,
    entries_read=9_000,
    rows_fetched=9_000,
    used_at=NOW,
    bloat_bytes=0,
)
DATABASE = DatabaseSize(
    name="audit",
    server_version="18.4",
    bytes_=2 * GIB,
    counted_since=NOW - timedelta(days=60),
    wal_bytes=4 * GIB,
    wal_since=NOW - timedelta(days=60),
    wal_files=64,
    wal_directory_bytes=GIB,
    max_wal_bytes=2 * GIB,
    slot_bytes=None,
)
HEALTHY = StorageReport(at=NOW, database=DATABASE, tables=[TABLE], indexes=[INDEX])


def with_table(**changes: Any) -> StorageReport:
    return replace(HEALTHY, tables=[replace(TABLE, **changes)])


def with_index(**changes: Any) -> StorageReport:
    return replace(HEALTHY, indexes=[replace(INDEX, **changes)])


def with_database(**changes: Any) -> StorageReport:
    return replace(HEALTHY, database=replace(DATABASE, **changes))


def test_healthy_database_has_no_findings() -> None:
    assert findings(HEALTHY) == []


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (with_table(frozen_age=1_500_000_000), "VACUUM (FREEZE)"),
        (with_index(is_valid=False), "drop and build it again"),
        (with_table(dead_rows=600_000), "600,000 dead rows, 23% of all"),
        (with_table(bloat_bytes=GIB // 2), "about 512.0 MiB of 1.0 GiB are empty"),
        (with_index(bloat_bytes=GIB // 20), "REINDEX INDEX CONCURRENTLY"),
        (with_table(analyzed_at=None, bloat_bytes=None), "never analyzed"),
        (with_index(scans=0, used_at=None), "not used once since 2026-09-23"),
        (with_database(slot_bytes=3 * GIB), "replication slot keeps 3.0 GiB"),
        (with_database(wal_directory_bytes=5 * GIB), "archive_command"),
    ],
)
def test_finding_names_the_thing_and_the_act(report: StorageReport, words: str) -> None:
    (found,) = findings(report)

    assert words in found


@pytest.mark.parametrize(
    "report",
    [
        with_table(heap_bytes=1_000, dead_rows=1_999_999, bloat_bytes=900, analyzed_at=None),
        with_index(scans=0, is_unique=True),
        with_index(scans=0, bytes_=8_192),
        replace(
            with_index(scans=0),
            database=replace(DATABASE, counted_since=NOW - timedelta(days=3)),
        ),
        replace(with_index(scans=0), database=replace(DATABASE, counted_since=None)),
        with_database(wal_directory_bytes=None),
    ],
)
def test_small_young_or_needed_things_are_left_alone(report: StorageReport) -> None:
    assert findings(report) == []


def test_indexes_of_all_partitions_are_summed_up_by_family() -> None:
    other = replace(INDEX, name="event_20261102_user", scans=1, used_at=NOW - timedelta(days=1))
    report = replace(HEALTHY, indexes=[INDEX, other])

    (family,) = report.families()

    assert (family.name, family.indexes, family.scans) == ("event_user", 2, 901)
    assert (family.bytes_, family.used_at) == (2 * INDEX.bytes_, NOW)


def test_unused_family_is_named_once_however_many_partitions_there_are() -> None:
    unused = [replace(INDEX, name=f"event_{day}_user", scans=0, used_at=None) for day in range(9)]

    (found,) = findings(replace(HEALTHY, indexes=unused))

    assert found.startswith("event_user: 921.6 MiB of indexes")


def test_partitions_are_told_from_other_tables_and_stand_in_order_of_time() -> None:
    ledger = replace(TABLE, name="ingest_batch", lo=None, hi=None, state=None)
    older = replace(TABLE, name="event_20261031", lo=NOW - timedelta(days=22))
    report = replace(HEALTHY, tables=[TABLE, ledger, older])

    assert [one.name for one in report.partitions] == ["event_20261031", "event_20261101"]
    assert report.others == [ledger]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 50, "3072.0 TiB"),
    ],
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert readable_size(count) == text
