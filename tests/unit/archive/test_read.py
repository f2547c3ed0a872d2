"""Archive files as rows: only the bytes that were written, in bounded batches, without loss."""

import hashlib
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from audit_platform.archive.columns import COLUMNS
from audit_platform.archive.read import (
    BATCH_ROWS,
    batches_of,
    frame_of,
    opened,
    read_rows,
)
from audit_platform.errors import ArchiveDamaged, ArchiveMissing
from audit_platform.integrity.leaf import leaf_hashes, leaf_of
from tests.unit.archive.made_archive import MadeArchive, make_archive, make_rows


@pytest.fixture
def archive(tmp_path: Path) -> MadeArchive:
    return make_archive(tmp_path, make_rows(500))


def test_rows_come_back_as_they_were(archive: MadeArchive) -> None:
    rows = [
        row
        for batch in read_rows(archive.store, archive.manifest.files)
        for row in batch.to_pylist()
    ]

    written = {row["id"]: row for row in archive.rows}
    assert len(rows) == len(written)
    for row in rows:
        before = written[row["id"]] | {
            "sampled_rate": pytest.approx(written[row["id"]]["sampled_rate"])
        }
        assert row == before


def test_frame_gives_the_leaf_of_each_row(archive: MadeArchive) -> None:
    expected = {str(row["id"]): leaf_of(row) for row in archive.rows}

    for batch in read_rows(archive.store, archive.manifest.files):
        frame = frame_of(batch)
        assert dict(zip(frame["id"], leaf_hashes(frame), strict=True)).items() <= expected.items()
        assert frame["bulk_action_id"].dtype == pl.String


def test_some_columns_can_be_read_alone(archive: MadeArchive) -> None:
    batch = next(read_rows(archive.store, archive.manifest.files, ["tenant_id", "id"]))

    assert set(batch.schema.names) == {"tenant_id", "id"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[:-1], "size"),
        (lambda data: data + b"x", "size"),
        (lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:], "hash"),
    ],
)
def test_other_bytes_are_not_read(archive: MadeArchive, change: object, problem: str) -> None:
    archive.file().write_bytes(change(archive.file().read_bytes()))  # pyright: ignore[reportCallIssue]

    with pytest.raises(ArchiveDamaged) as caught:
        next(read_rows(archive.store, archive.manifest.files))

    assert caught.value.fields["problem"] == problem


def test_missing_file_is_missing(archive: MadeArchive) -> None:
    archive.file().unlink()

    with pytest.raises(ArchiveMissing):
        next(read_rows(archive.store, archive.manifest.files))


def test_file_exchanged_after_its_check_is_not_read(archive: MadeArchive, tmp_path: Path) -> None:
    """Hash and rows come from one open file: what takes its name later is another file."""
    entry = archive.manifest.files[0]
    other = tmp_path / "other"
    other.write_bytes(b"PAR1 of somebody else")

    with opened(archive.store, entry) as file:
        other.replace(archive.file())
        rows = sum(batch.num_rows for batch in batches_of(file, entry))

    assert rows == entry.rows


def test_entry_with_another_number_of_rows_is_refused(archive: MadeArchive) -> None:
    entry = replace(archive.manifest.files[0], rows=3)

    with pytest.raises(ArchiveDamaged) as caught:
        next(read_rows(archive.store, [entry]))

    assert caught.value.fields["problem"] == "rows"


def test_text_that_is_no_text_is_refused(archive: MadeArchive) -> None:
    """A Parquet reader takes any bytes for text; a hash that was forged with them lets them by."""
    entry = archive.manifest.files[0]
    table = pq.read_table(archive.file())
    place = table.schema.get_field_index("description")
    column = pl.Series([b"\xff\xfe"] * table.num_rows).to_arrow().cast("binary").view("string")
    pq.write_table(
        table.set_column(place, "description", column), archive.file(), store_schema=False
    )
    data = archive.file().read_bytes()
    forged = replace(entry, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    with pytest.raises(ArchiveDamaged) as caught:
        list(read_rows(archive.store, [forged]))

    assert caught.value.fields["problem"] in {"schema", "unreadable"}


def test_wide_rows_come_in_smaller_batches(tmp_path: Path) -> None:
    """8,192 events of 64 KiB would be half a gigabyte."""
    narrow = make_archive(tmp_path / "narrow", make_rows(2_000), rows_per_group=2_000)
    wide_rows = [
        row | {"context": f'{{"x":"{hashlib.sha512(b"%d" % n).hexdigest() * 200}"}}'}
        for n, row in enumerate(make_rows(2_000))
    ]
    wide = make_archive(tmp_path / "wide", wide_rows, rows_per_group=2_000)

    sizes = [
        max(batch.num_rows for batch in read_rows(one.store, one.manifest.files))
        for one in (narrow, wide)
    ]

    assert sizes[1] < sizes[0] <= BATCH_ROWS
    assert set(COLUMNS) >= {"context"}
