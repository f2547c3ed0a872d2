"""The files of an export: sizes, order, entries, copies, and what a failure leaves behind."""

import io
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit_platform.archive import file_set
from audit_platform.archive.columns import ARROW_SCHEMA
from audit_platform.archive.file_set import ExportPlan, FileSet
from audit_platform.archive.local_store import LocalStore
from audit_platform.archive.manifest import FileEntry, directory_of
from audit_platform.archive.routes import FileKey
from audit_platform.archive.store import read_bytes, write_bytes
from audit_platform.errors import ArchiveFull
from tests.unit.archive.batches import LO, batch_of, row
from tests.unit.archive.failing_store import FailingStore

DAY = LO.date()
SHARED = FileKey(day=DAY, retention_class="standard", tenant=None)
DIRECTORY = directory_of(DAY)


@pytest.fixture
def first(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "second")


def plan_of(**override: Any) -> ExportPlan:
    fields: dict[str, Any] = {
        "name": "event_20250828",
        "lo": LO,
        "hi": LO + timedelta(days=1),
        "generation": 1,
        "rows_per_group": 100,
        "file_bytes": 1 << 30,
    }
    return ExportPlan(**(fields | override))


def rows_of(count: int, *, start: int = 0, **override: Any) -> pa.RecordBatch:
    return batch_of([row(start + number, **override) for number in range(count)])


def table_of(store: LocalStore, entry: FileEntry) -> pa.Table:
    return pq.read_table(io.BytesIO(read_bytes(store, entry.path)))


def files_below(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*") if path.is_file())


def test_rows_come_back_in_their_order_with_their_schema(first: LocalStore) -> None:
    batches = [rows_of(70, start=70 * number) for number in range(5)]

    with FileSet(first, None, plan_of()) as files:
        for batch in batches:
            files.add(batch, SHARED)
        (entry,) = files.finish()

    found = table_of(first, entry)
    assert found.schema.equals(ARROW_SCHEMA)
    assert found.combine_chunks().equals(pa.Table.from_batches(batches).combine_chunks())


def test_entry_tells_what_was_written(first: LocalStore) -> None:
    with FileSet(first, None, plan_of()) as files:
        files.add(rows_of(250), SHARED)
        (entry,) = files.finish()

    batch = rows_of(250)
    assert entry.path == f"{DIRECTORY}/standard.all.g1.0000.parquet"
    assert (entry.rows, entry.retention_class, entry.tenant) == (250, "standard", None)
    assert entry.bytes == first.size(entry.path)
    assert entry.sha256 == first.sha256(entry.path)
    assert (entry.min_timestamp, entry.max_timestamp) == (LO, LO + timedelta(seconds=249))
    ids = batch.column("id").storage.to_pylist()
    assert (entry.min_id, entry.max_id) == (UUID(bytes=min(ids)), UUID(bytes=max(ids)))
    assert entry.filters is not None
    assert entry.filters.tenants.might_contain("acme")
    assert not entry.filters.tenants.might_contain("globex")
    assert entry.filters.entities.might_contain("acme", "user", "96")
    assert not entry.filters.entities.might_contain("acme", "user", "97")
    assert entry.filters.users.might_contain("acme", "12")
    assert not entry.filters.users.might_contain("acme", "13")


def test_row_groups_are_full_but_the_last(first: LocalStore) -> None:
    with FileSet(first, None, plan_of(rows_per_group=100)) as files:
        for number in range(5):
            files.add(rows_of(53, start=53 * number), SHARED)
        (entry,) = files.finish()

    meta = pq.ParquetFile(io.BytesIO(read_bytes(first, entry.path))).metadata
    sizes = [meta.row_group(number).num_rows for number in range(meta.num_row_groups)]
    assert sizes == [100, 100, 65]
    assert meta.row_group(0).column(3).compression == "ZSTD"
    assert meta.metadata[b"audit_platform.partition"] == b"event_20250828"


def test_next_file_begins_when_one_is_large_enough(first: LocalStore) -> None:
    with FileSet(first, None, plan_of(file_bytes=1)) as files:
        files.add(rows_of(250), SHARED)
        entries = files.finish()

    assert [entry.path.split(".")[-2] for entry in entries] == ["0000", "0001", "0002"]
    assert [entry.rows for entry in entries] == [100, 100, 50]
    assert entries[0].max_timestamp < entries[1].min_timestamp


def test_waiting_rows_are_bounded_however_many_files_are_open(first: LocalStore) -> None:
    wide = "x" * 60_000
    keys = [
        FileKey(day=DAY, retention_class=f"class_{number}", tenant=None) for number in range(40)
    ]

    with FileSet(first, None, plan_of(rows_per_group=1_000_000)) as files:
        for number in range(120):
            batch = rows_of(32, start=32 * number, metadata=f'{{"x":"{wide}{number}"}}')
            files.add(batch, keys[number % len(keys)])
            waiting = sum(output.pending_bytes for output in files._outputs.values())
            assert waiting <= file_set.PENDING_BYTES
        entries = files.finish()

    assert sum(entry.rows for entry in entries) == 120 * 32


def test_file_of_a_tenant_is_closed_when_the_next_tenant_comes(first: LocalStore) -> None:
    own = FileKey(day=DAY, retention_class="standard", tenant="acme")

    with FileSet(first, None, plan_of()) as files:
        files.add(rows_of(3), own)
        files.add(rows_of(3), SHARED)
        files.close_finished(day=DAY, tenant="acme")
        before = files_below(Path(first.url.removeprefix("file://")))
        files.close_finished(day=DAY, tenant="globex")
        after = [path for path in first.list("cold") if "all" not in path]
        entries = files.finish()

    assert not [name for name in before if name.endswith(".parquet")]
    assert len(after) == 1
    assert {entry.tenant for entry in entries} == {"acme", None}


def test_files_of_a_date_are_closed_when_the_next_date_comes(first: LocalStore) -> None:
    plan = plan_of(hi=LO + timedelta(days=7))

    with FileSet(first, None, plan) as files:
        files.add(rows_of(3), SHARED)
        files.close_finished(day=date(2025, 8, 29), tenant="acme")
        listed = list(first.list("cold"))
        files.finish()

    assert len(listed) == 1


def test_second_copy_is_equal(first: LocalStore, second: LocalStore) -> None:
    with FileSet(first, second, plan_of(file_bytes=1)) as files:
        files.add(rows_of(250), SHARED)
        entries = files.finish()

    assert list(first.list("cold")) == list(second.list("cold"))
    assert [second.sha256(entry.path) for entry in entries] == [e.sha256 for e in entries]


@pytest.mark.parametrize("room_bytes", [0, 3, 5_000, 20_000])
@pytest.mark.parametrize("is_copy", [False, True])
def test_full_archive_leaves_no_file_in_either_copy(
    tmp_path: Path, *, room_bytes: int, is_copy: bool
) -> None:
    good = LocalStore(tmp_path / "good")
    full = FailingStore(tmp_path / "full", room_bytes=room_bytes)
    stores = (good, full) if is_copy else (full, good)

    def export() -> None:
        with FileSet(*stores, plan_of(file_bytes=1)) as files:
            files.add(rows_of(950), SHARED)
            files.finish()

    with pytest.raises(ArchiveFull):
        export()

    assert not files_below(tmp_path)


def test_full_archive_at_the_footer_leaves_no_file(tmp_path: Path) -> None:
    """The last bytes of a file are its footer: every length up to the whole is tried."""
    good = LocalStore(tmp_path / "good")
    with FileSet(good, None, plan_of()) as files:
        files.add(rows_of(10), SHARED)
        (entry,) = files.finish()

    def export(room_bytes: int) -> None:
        full = FailingStore(tmp_path / "full", room_bytes=room_bytes)
        with FileSet(full, None, plan_of()) as files:
            files.add(rows_of(10), SHARED)
            files.finish()

    for room_bytes in range(0, entry.bytes, 701):
        with pytest.raises(ArchiveFull):
            export(room_bytes)

    assert not files_below(tmp_path / "full")


def test_files_of_a_killed_export_are_replaced_or_removed(
    first: LocalStore, second: LocalStore, tmp_path: Path
) -> None:
    left = {
        f"{DIRECTORY}/manifest.g1.json": b"{}",
        f"{DIRECTORY}/standard.all.g1.0007.parquet": b"left",
        f"{DIRECTORY}/gone.all.g1.0000.parquet": b"left",
    }
    others = {
        f"{DIRECTORY}/standard.all.g2.0000.parquet": b"next generation",
        f"{DIRECTORY}/h13.standard.all.g1.0000.parquet": b"an hour",
    }
    for store in (first, second):
        for path, data in (left | others).items():
            write_bytes(store, path, data)
    (tmp_path / "first" / DIRECTORY / "standard.all.g1.0000.parquet.ab.tmp").write_bytes(b"half")

    with FileSet(first, second, plan_of()) as files:
        files.add(rows_of(3), SHARED)
        (entry,) = files.finish()

    assert sorted(first.list("cold")) == sorted([entry.path, *others])
    assert sorted(second.list("cold")) == sorted([entry.path, *others])
    assert len(files_below(tmp_path / "first")) == 3


def test_file_without_rows_is_not_written(first: LocalStore) -> None:
    with FileSet(first, None, plan_of()) as files:
        files.add(rows_of(0), SHARED)
        entries = files.finish()

    assert not entries
    assert not list(first.list("cold"))


def test_polars_reads_the_same_values(first: LocalStore) -> None:
    rows = [
        row(0, description="", metadata='{"n":1e400}', sampled_rate=0.1),
        row(1, description=None, metadata='{"n":9007199254740993}', severity=5),
        row(2, bulk_action_id=UUID(int=9).bytes, bulk_item_no=2**62, entity_id="\\N\t\n"),
    ]
    with FileSet(first, None, plan_of()) as files:
        files.add(batch_of(rows), SHARED)
        (entry,) = files.finish()

    place = first.local_path(entry.path)
    assert place is not None
    found = pl.read_parquet(place, hive_partitioning=False)

    assert found.schema["id"] == pl.Binary
    assert found.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert found["id"].to_list() == [one["id"] for one in rows]
    assert found["description"].to_list() == ["", None, "row 2"]
    assert found["metadata"].to_list() == [one["metadata"] for one in rows]
    assert found["bulk_item_no"].to_list() == [None, None, 2**62]
    assert found["timestamp"].to_list() == [one["timestamp"] for one in rows]


def test_leftover_output_is_closed_after_a_foreign_error(first: LocalStore) -> None:
    error = RuntimeError("elsewhere")

    def export() -> None:
        with FileSet(first, None, plan_of()) as files:
            files.add(rows_of(150), SHARED)
            raise error

    with pytest.raises(RuntimeError, match="elsewhere"):
        export()

    assert not files_below(Path(first.url.removeprefix("file://")))
