"""Damaged, exchanged and foreign files: each is found, also with a manifest forged to fit."""

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from audit_platform.archive.columns import ARROW_SCHEMA
from audit_platform.archive.verify import verify
from audit_platform.archive.verify_report import Kind
from tests.effort import examples
from tests.unit.archive.damage import contents, flipped, forged, kinds, rewrite, rows_in
from tests.unit.archive.made_archive import (
    MadeArchive,
    make_archive,
    make_rows,
)

ROWS = 600
FLIPS = examples(60)
_SWEEP_S = max(120, FLIPS // 2)


@pytest.fixture
def archive(tmp_path: Path) -> MadeArchive:
    return make_archive(tmp_path / "archive", make_rows(ROWS))


@pytest.mark.timeout(_SWEEP_S)
def test_every_flipped_byte_is_found(archive: MadeArchive) -> None:
    """Set AUDIT_TEST_EXAMPLES=1000 for the sweep of the acceptance test."""
    rng = random.Random(20251123)
    found = 0
    for _ in range(FLIPS):
        number = rng.randrange(len(archive.manifest.files))
        with flipped(archive.file(number), rng):
            found += kinds(verify(archive.data, archive.store)) == {Kind.HASH}

    assert found == FLIPS
    assert verify(archive.data, archive.store).is_intact, "the flips were not taken back"


@pytest.mark.timeout(_SWEEP_S)
def test_flip_with_a_forged_hash_is_found_or_changes_no_row(archive: MadeArchive) -> None:
    """The control: without the hash of the file, its pages and leaves have to find it."""
    rng = random.Random(20251124)
    before = contents(archive, archive.manifest)
    found = 0
    for _ in range(FLIPS):
        number = rng.randrange(len(archive.manifest.files))
        with flipped(archive.file(number), rng):
            manifest = forged(archive, number)
            if verify(manifest.to_json(), archive.store).is_intact:
                assert contents(archive, manifest) == before
            else:
                found += 1

    assert found > FLIPS // 2


@pytest.mark.parametrize("kept", [0, 3, 4, 1_000, -9_000, -1_000, -8, -1])
def test_truncated_file_is_found(archive: MadeArchive, kept: int) -> None:
    data = archive.file().read_bytes()
    archive.file().write_bytes(data[:kept])

    assert kinds(verify(archive.data, archive.store)) == {Kind.SIZE}
    assert kinds(verify(forged(archive).to_json(), archive.store)) == {Kind.UNREADABLE}


def test_longer_file_is_found(archive: MadeArchive) -> None:
    with archive.file().open("ab") as file:
        file.write(b"\0")

    assert kinds(verify(archive.data, archive.store)) == {Kind.SIZE}


def test_missing_row_group_is_found(archive: MadeArchive) -> None:
    number = 1
    whole = pq.ParquetFile(archive.file(number))
    groups = [whole.read_row_group(one) for one in range(whole.num_row_groups)]
    assert len(groups) > 1
    with pq.ParquetWriter(archive.file(number), ARROW_SCHEMA, store_schema=False) as writer:
        for group in groups[:-1]:
            writer.write_table(group.cast(ARROW_SCHEMA))

    assert kinds(verify(archive.data, archive.store)) <= {Kind.SIZE, Kind.HASH}
    report = verify(forged(archive, number).to_json(), archive.store)
    assert {Kind.ROWS, Kind.GROUP, Kind.DIGEST, Kind.ROOT} <= kinds(report)


def test_missing_file_is_found(archive: MadeArchive) -> None:
    archive.file().unlink()

    report = verify(archive.data, archive.store)

    assert kinds(report) == {Kind.MISSING}
    assert report.mismatches[0].where == archive.manifest.files[0].path
    assert (report.files, report.root) == (1, "")


def test_swapped_files_are_found(archive: MadeArchive) -> None:
    first, second = archive.file(0).read_bytes(), archive.file(1).read_bytes()
    archive.file(0).write_bytes(second)
    archive.file(1).write_bytes(first)

    assert kinds(verify(archive.data, archive.store)) <= {Kind.SIZE, Kind.HASH}
    assert verify(archive.data, archive.store).mismatch_count == 2


def test_swapped_files_with_swapped_entries_are_found(archive: MadeArchive) -> None:
    """All rows are there, but those of one class are held and deleted as those of another."""
    first, second = archive.manifest.files
    manifest = replace(
        archive.manifest,
        files=(
            replace(first, retention_class=second.retention_class),
            replace(second, retention_class=first.retention_class),
        ),
    )

    assert kinds(verify(manifest.to_json(), archive.store)) == {Kind.GROUP, Kind.ROOT}


def test_file_of_another_day_under_the_right_name_is_found(archive: MadeArchive) -> None:
    moved = [{**row, "timestamp": row["timestamp"] - timedelta(days=1)} for row in rows_in(archive)]
    manifest = rewrite(archive, moved)

    report = verify(manifest.to_json(), archive.store)

    assert {Kind.BOUNDS, Kind.IDS, Kind.GROUP, Kind.DIGEST, Kind.ROOT} <= kinds(report)
    assert report.mismatch_count > len(report.mismatches) or len(moved) < 100
    assert str(moved[0]["id"]) in " ".join(one.where for one in report.mismatches)


def test_file_of_another_tenant_is_found(archive: MadeArchive) -> None:
    manifest = archive.with_files(lambda entry: replace(entry, tenant="acme"))

    report = verify(manifest.to_json(), archive.store)

    assert Kind.TENANT in kinds(report)


@pytest.mark.parametrize("change", ["drop", "add", "retype"])
def test_file_of_another_schema_is_found_and_the_column_named(
    archive: MadeArchive, change: str
) -> None:
    table = pq.read_table(archive.file())
    if change == "drop":
        table = table.drop_columns(["severity"])
    elif change == "add":
        table = table.append_column("region", [[None] * table.num_rows])
    else:
        position = table.schema.get_field_index("severity")
        table = table.set_column(position, "severity", table["severity"].cast("int32"))
    pq.write_table(table, archive.file(), store_schema=False)

    report = verify(forged(archive).to_json(), archive.store)

    assert kinds(report) == {Kind.SCHEMA}
    assert ("region" if change == "add" else "severity") in report.mismatches[0].detail


def test_manifest_of_another_schema_is_not_judged_by_this_one(archive: MadeArchive) -> None:
    manifest = replace(archive.manifest, schema_fingerprint="0" * 64)

    report = verify(manifest.to_json(), archive.store)

    assert kinds(report) == {Kind.SCHEMA}
    assert report.files == 0


def test_column_name_that_is_no_text_is_found(archive: MadeArchive) -> None:
    """The decoder raised UnicodeDecodeError past the verification, which then had no verdict."""
    data = archive.file().read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    place = data.index(b"severity", footer)
    archive.file().write_bytes(data[:place] + b"\xec" + data[place + 1 :])

    report = verify(forged(archive).to_json(), archive.store)

    assert kinds(report) == {Kind.UNREADABLE}
