"""Both copies of an archived partition against its record."""

from collections.abc import Callable
from pathlib import Path

import pytest

from audit_platform.archive.store import open_store
from audit_platform.db.pool import Connection
from audit_platform.errors import ArchiveDamaged
from audit_platform.retention.archive_copies import (
    CopyComparison,
    compare_copies,
    repair_copies,
)
from tests.conftest import Database
from tests.integration.retention.lives import Life, begin_life, live, row_of

pytestmark = pytest.mark.integration

ROWS = 50


@pytest.fixture
def life(database: Database, tmp_path: Path, maint: Connection) -> Life:
    made = begin_life(database, tmp_path, rows=ROWS)
    live(maint, made, now=made.sealing)
    return made


def compare(maint: Connection, life: Life) -> CopyComparison:
    return compare_copies(
        row_of(maint, life), open_store(life.archive.as_uri()), open_store(life.copy.as_uri())
    )


def repair(maint: Connection, life: Life) -> tuple[str, ...]:
    return repair_copies(
        maint, life.name, open_store(life.archive.as_uri()), open_store(life.copy.as_uri())
    )


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x10
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def remove(path: Path) -> None:
    path.unlink()


def test_both_copies_are_read_with_their_manifests(maint: Connection, life: Life) -> None:
    found = compare(maint, life)

    assert found.findings == ()
    assert (found.copies, found.files) == (2, 2)
    assert found.verdict == f"2 files of {life.name} are as written, in 2 copies"


def test_one_copy_is_enough_where_there_is_one(maint: Connection, life: Life) -> None:
    found = compare_copies(row_of(maint, life), open_store(life.archive.as_uri()), None)

    assert found.verdict.endswith("in 1 copy")


@pytest.mark.parametrize("damage", [flip, truncate, remove])
@pytest.mark.parametrize("suffix", ["parquet", "json"])
@pytest.mark.parametrize("place", ["archive", "copy"])
def test_any_damage_of_any_file_in_either_copy_is_named(
    maint: Connection, life: Life, *, place: str, suffix: str, damage: Callable[[Path], None]
) -> None:
    root: Path = getattr(life, place)
    (path,) = root.rglob(f"*.{suffix}")
    damage(path)

    found = compare(maint, life)

    (finding,) = found.findings
    assert path.name in finding
    assert ("archive" if place == "archive" else "second copy") in finding
    assert finding in found.verdict


@pytest.mark.parametrize("damage", [flip, truncate, remove])
@pytest.mark.parametrize("suffix", ["parquet", "json"])
@pytest.mark.parametrize("place", ["archive", "copy"])
def test_a_damaged_copy_is_mended_with_the_other(
    maint: Connection, life: Life, *, place: str, suffix: str, damage: Callable[[Path], None]
) -> None:
    root: Path = getattr(life, place)
    (path,) = root.rglob(f"*.{suffix}")
    whole = path.read_bytes()
    damage(path)

    mended = repair(maint, life)

    assert len(mended) == 1
    assert path.name in mended[0]
    assert path.read_bytes() == whole
    assert compare(maint, life).findings == ()
    assert repair(maint, life) == ()


def test_both_copies_may_each_be_damaged_elsewhere(maint: Connection, life: Life) -> None:
    (data,), (manifest,) = life.archive.rglob("*.parquet"), life.copy.rglob("*.json")
    remove(data)
    flip(manifest)

    assert len(repair(maint, life)) == 2

    assert compare(maint, life).findings == ()


def test_file_that_is_good_in_no_copy_is_left_to_a_backup(maint: Connection, life: Life) -> None:
    (first,), (second,) = life.archive.rglob("*.parquet"), life.copy.rglob("*.parquet")
    flip(first)
    remove(second)
    left = first.read_bytes()

    with pytest.raises(ArchiveDamaged, match="good in no copy"):
        repair(maint, life)

    assert first.read_bytes() == left, "evidence stays"
    assert not second.exists()


def test_verdict_names_the_command_that_mends(maint: Connection, life: Life) -> None:
    (path,) = life.copy.rglob("*.parquet")
    remove(path)

    assert f"restore --repair --partition {life.name}" in compare(maint, life).verdict
