"""Verification from files alone: rows, manifests, what is no error, the other process."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from audit_platform.archive.verify import Recorded, main, verify
from audit_platform.archive.verify_apart import verify_apart
from audit_platform.archive.verify_report import Kind, VerifyReport
from audit_platform.errors import ArchiveUnavailable
from audit_platform.integrity.leaf import LEAF_COLUMNS
from tests.unit.archive.damage import kinds, rewrite, rows_in
from tests.unit.archive.made_archive import (
    HI,
    LO,
    MadeArchive,
    make_archive,
    make_rows,
)

ROWS = 600


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> MadeArchive:
    """A day that no test changes."""
    return make_archive(tmp_path_factory.mktemp("archive"), make_rows(ROWS))


@pytest.fixture
def archive(tmp_path: Path) -> MadeArchive:
    return make_archive(tmp_path / "archive", make_rows(ROWS))


def test_what_was_written_is_intact(intact: MadeArchive) -> None:
    manifest = intact.manifest

    report = verify(
        intact.data,
        intact.store,
        recorded=Recorded(manifest_sha256=hashlib.sha256(intact.data).digest(), root=manifest.root),
    )

    assert report.mismatches == ()
    assert (report.rows, report.files, report.expired) == (ROWS, 2, 0)
    assert report.root == manifest.root.hex()
    assert report.leaf_digest == manifest.leaf_digest.hex()
    assert report.bytes == sum(entry.bytes for entry in manifest.files)


def test_partition_without_rows_is_intact(tmp_path: Path) -> None:
    empty = make_archive(tmp_path, ())

    report = verify(empty.data, empty.store)

    assert report.is_intact
    assert report.root == empty.manifest.root.hex()


_OTHER: dict[str, Callable[[Any], Any]] = {
    "timestamp": lambda moment: moment + timedelta(microseconds=1),
    "id": lambda value: UUID(int=value.int ^ 1),
    "bulk_action_id": lambda _: UUID(int=99),
    "tenant_id": lambda _: "globex",
    "sampled_rate": lambda _: 0.5,
    "schema_version": lambda number: number + 1,
    "severity": lambda _: 9,
    "bulk_item_no": lambda _: -1,
    "entity_label": lambda text: "" if text is None else None,
}


@pytest.mark.parametrize("column", LEAF_COLUMNS)
def test_any_other_value_of_an_event_is_found(archive: MadeArchive, column: str) -> None:
    rows = rows_in(archive)
    change = _OTHER.get(column, lambda text: f"{text or ''} ")
    place = next(n for n, row in enumerate(rows) if row["tenant_id"] == "acme")
    rows[place] = {**rows[place], column: change(rows[place][column])}
    manifest = rewrite(archive, rows)

    report = verify(manifest.to_json(), archive.store)

    assert {Kind.GROUP, Kind.DIGEST, Kind.ROOT} <= kinds(report)


def test_doubled_row_is_found_and_named(archive: MadeArchive) -> None:
    rows = rows_in(archive)
    manifest = rewrite(archive, [*rows, rows[7]])

    report = verify(manifest.to_json(), archive.store)

    assert {Kind.IDS, Kind.ROWS} <= kinds(report)
    assert f"event {rows[7]['id']}" in {one.where for one in report.mismatches}


def test_same_id_in_two_tenants_is_no_mismatch(tmp_path: Path) -> None:
    """An id is unique within its tenant only."""
    rows = make_rows(10)
    twin = {**rows[0], "tenant_id": "initech"}

    archive = make_archive(tmp_path, (*rows, twin))

    assert verify(archive.data, archive.store).is_intact


def test_row_moved_to_another_file_of_the_class_is_no_mismatch(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, make_rows(300), rows_per_file=100)

    assert len(archive.manifest.files) == 4
    assert verify(archive.data, archive.store).is_intact


def test_other_order_of_rows_is_no_mismatch(archive: MadeArchive) -> None:
    rows = rows_in(archive)
    random.Random(3).shuffle(rows)

    assert verify(rewrite(archive, rows).to_json(), archive.store).is_intact


def test_manifest_that_is_not_the_recorded_one_is_found(intact: MadeArchive) -> None:
    recorded = Recorded(manifest_sha256=hashlib.sha256(b"another").digest())

    assert kinds(verify(intact.data, intact.store, recorded=recorded)) == {Kind.MANIFEST}


def test_wholly_forged_day_is_found_by_the_recorded_root(tmp_path: Path) -> None:
    """Rows, files and manifest agree with each other; only the seal knows better."""
    sealed = make_archive(tmp_path / "sealed", make_rows(50))
    replaced = make_archive(tmp_path / "forged", make_rows(50, seed=2))

    recorded = Recorded(root=sealed.manifest.root)

    assert verify(replaced.data, replaced.store).is_intact
    assert kinds(verify(replaced.data, replaced.store, recorded=recorded)) == {Kind.ROOT}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format_version": 2}', b"\xff\xfe"])
def test_what_is_no_manifest_is_a_finding(intact: MadeArchive, data: bytes) -> None:
    report = verify(data, intact.store)

    assert kinds(report) == {Kind.MANIFEST}


def test_manifest_that_contradicts_itself_is_found(intact: MadeArchive) -> None:
    manifest = replace(intact.manifest, n=ROWS + 1)

    assert kinds(verify(manifest.to_json(), intact.store)) == {Kind.ROWS}


def test_rest_of_a_day_verifies_after_a_file_expired(archive: MadeArchive) -> None:
    gone = archive.manifest.files[0].path
    archive.file(0).unlink()

    report = verify(archive.data, archive.store, recorded=Recorded(expired=frozenset({gone})))

    assert report.is_intact
    assert (report.expired, report.files, report.root) == (1, 1, "")
    assert "1 expired" in report.verdict


def test_change_in_the_rest_of_a_day_is_found(archive: MadeArchive) -> None:
    gone = archive.manifest.files[0].path
    rows = rows_in(archive, 1)
    rows[5] = {**rows[5], "user_id": "somebody else"}
    manifest = rewrite(archive, rows, 1)

    report = verify(manifest.to_json(), archive.store, recorded=Recorded(expired=frozenset({gone})))

    assert kinds(report) == {Kind.GROUP}
    assert report.mismatch_count == 1


def test_directory_in_place_of_a_file_cannot_be_told(archive: MadeArchive) -> None:
    """A store that does not answer is no verdict: the copy may be sound."""
    archive.file().unlink()
    archive.file().mkdir()

    with pytest.raises(ArchiveUnavailable):
        verify(archive.data, archive.store)


def test_report_survives_the_way_between_processes(archive: MadeArchive) -> None:
    archive.file().unlink()

    report = verify(archive.data, archive.store)

    assert VerifyReport.from_json(report.to_json()) == report
    with pytest.raises(ValueError, match="no report"):
        VerifyReport.from_json("[]")


def test_another_process_finds_the_same(archive: MadeArchive) -> None:
    place = archive.manifest.path
    sha256, root = hashlib.sha256(archive.data).digest(), archive.manifest.root

    sound = verify_apart(archive.store.url, place, manifest_sha256=sha256, root=root)
    archive.file().write_bytes(b"PAR1")
    damaged = verify_apart(archive.store.url, place, manifest_sha256=sha256, root=root)
    rest = verify_apart(archive.store.url, place, expired=(archive.manifest.files[0].path,))

    assert (sound.is_intact, sound.rows) == (True, ROWS)
    assert kinds(damaged) == {Kind.SIZE}
    assert rest.is_intact


def test_another_process_that_cannot_tell_is_an_error(archive: MadeArchive) -> None:
    with pytest.raises(ArchiveUnavailable, match="ended with 2"):
        verify_apart("ftp://elsewhere", archive.manifest.path)


def test_program_ends_with_its_verdict(
    archive: MadeArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [archive.store.url, archive.manifest.path]

    codes = [main(arguments), main([archive.store.url, "cold/nowhere.json"])]
    archive.file().unlink()
    codes.append(main([*arguments, "--root", "00" * 32]))

    reports = [VerifyReport.from_json(line) for line in capsys.readouterr().out.splitlines()]
    assert codes == [0, 1, 1]
    assert [kinds(one) for one in reports] == [
        set(),
        {Kind.MISSING},
        {Kind.MISSING, Kind.ROOT},
    ]


def test_verification_loads_no_database_driver() -> None:
    """It must run where no database is: on the machine of an auditor."""
    program = (
        "import sys; import audit_platform.archive.verify; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "{'psycopg', 'adbc_driver_postgresql', 'sqlalchemy', 'redis', 'dagster'}])"
    )

    said = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout

    assert said.strip() == "[]"


def test_bounds_of_the_made_day_are_used_to_their_edges(tmp_path: Path) -> None:
    rows = make_rows(2)
    last = HI - timedelta(microseconds=1)

    assert rows[0]["timestamp"] == LO
    archive = make_archive(tmp_path, rows)
    moved = [{**row, "timestamp": last} if row is rows[0] else row for row in rows]

    report = verify(rewrite(archive, [moved[0]]).to_json(), archive.store)

    # Inside the partition, so that only the entry, the id and the leaf contradict.
    assert not any("outside the partition" in one.detail for one in report.mismatches)
