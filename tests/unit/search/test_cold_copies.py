"""Archived files that are not what they should be, with a second copy and without."""

from pathlib import Path

import pytest

from audit_platform.archive.store import ArchiveStore, open_store
from audit_platform.errors import ArchiveDamaged, ArchiveMissing
from audit_platform.search.cold import Archive
from audit_platform.search.query import EventQuery
from tests.archiving import write_partition
from tests.unit.search.archived_day import SPAN, day_rows, newest_first, search_day


@pytest.fixture
def store(tmp_path: Path) -> ArchiveStore:
    return open_store((tmp_path / "first").as_uri())


@pytest.fixture
def copy_store(tmp_path: Path) -> ArchiveStore:
    return open_store((tmp_path / "second").as_uri())


def _spoil(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "page":
        data[len(data) // 3] ^= 1
        path.write_bytes(data)
    elif how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["missing", "truncated", "page", "empty"])
def test_second_copy_answers_for_a_bad_first_one(
    store: ArchiveStore, copy_store: ArchiveStore, tmp_path: Path, how: str
) -> None:
    rows = day_rows()
    partition = write_partition(store, rows, SPAN, copy_store=copy_store)
    _spoil(tmp_path / "first" / partition.files[0].path, how)

    found, _ = search_day(Archive([store.url, copy_store.url]), partition, EventQuery())

    assert found == newest_first(rows)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("missing", ArchiveMissing),
        ("truncated", ArchiveDamaged),
        ("page", ArchiveDamaged),
        ("empty", ArchiveDamaged),
    ],
)
def test_bad_file_without_a_good_copy_is_an_error_that_names_it(
    store: ArchiveStore, copy_store: ArchiveStore, tmp_path: Path, how: str, error: type[Exception]
) -> None:
    partition = write_partition(store, day_rows(), SPAN, copy_store=copy_store)
    for place in ("first", "second"):
        _spoil(tmp_path / place / partition.files[0].path, how)

    with pytest.raises(error, match=r"standard\.all\.g1\.0000\.parquet"):
        search_day(Archive([store.url, copy_store.url]), partition, EventQuery())


def test_another_file_under_the_name_is_found_out(store: ArchiveStore) -> None:
    partition = write_partition(store, day_rows(120), SPAN)
    write_partition(store, day_rows(110), SPAN)

    with pytest.raises(ArchiveDamaged, match="110 rows"):
        search_day(Archive([store.url]), partition, EventQuery())
