"""The steps of an export: files, checksums, manifest; interrupted anywhere, it goes on."""

import csv
import hashlib
import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from audit_platform.archive.local_store import LocalStore
from audit_platform.errors import DatabaseUnavailable, InvalidQuery, UnreadableFile
from audit_platform.exports.order import ExportFormat, ExportOrder
from audit_platform.exports.search_export import FinishedExport, PageSource, run_export
from audit_platform.search.query import EventQuery
from tests.unit.exports.rows import NOW, Heard, pages_of, row

ROWS = [row(number) for number in range(2_500)]
ORDER = ExportOrder(
    name="march",
    format=ExportFormat.NDJSON,
    query=EventQuery(tenant_id="acme"),
    rows_per_file=1_000,
)


def run(
    directory: Path,
    *,
    order: ExportOrder = ORDER,
    pages: PageSource | None = None,
    later: timedelta = timedelta(0),
    heard: Heard | None = None,
) -> FinishedExport:
    return run_export(
        order,
        pages=pages or pages_of(ROWS),
        store=LocalStore(directory),
        now=NOW + later,
        report=heard or Heard(),
    )


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((directory / "march").iterdir())}


def numbers(directory: Path) -> list[int]:
    found = files(directory)
    lines = b"".join(found[name] for name in sorted(found) if name.startswith("events."))
    return [json.loads(line)["metadata"]["n"] for line in lines.splitlines()]


def failing_at(call: int) -> PageSource:
    """A search that fails once, at one of its calls."""
    calls = iter(range(1_000_000))

    def before(_: EventQuery) -> None:
        if next(calls) == call:
            raise DatabaseUnavailable

    return pages_of(ROWS, before=before)


def test_export_holds_each_event_once_in_the_order_of_the_search(tmp_path: Path) -> None:
    done = run(tmp_path)

    assert numbers(tmp_path) == list(range(2_500))
    assert [file.rows for file in done.files] == [1_000, 1_000, 500]
    assert (done.rows, done.has_more) == (2_500, False)
    assert sorted(files(tmp_path)) == [
        "SHA256SUMS",
        "events.0000.ndjson",
        "events.0001.ndjson",
        "events.0002.ndjson",
        "manifest.json",
    ]


def test_manifest_says_what_the_files_hold(tmp_path: Path) -> None:
    done = run(tmp_path)

    content = files(tmp_path)["manifest.json"]
    manifest = json.loads(content)
    assert done.manifest_sha256 == hashlib.sha256(content).hexdigest()
    assert manifest["query"] == {"tenant_id": "acme", "until": "2026-11-22T12:00:00.000000Z"}
    assert (manifest["rows"], manifest["moment"]) == (2_500, "2026-11-22T12:00:00.000000Z")
    for file in manifest["files"]:
        stored = (tmp_path / file["path"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(stored).hexdigest()
        assert file["size_bytes"] == len(stored)
        assert file["rows"] == stored.count(b"\n")
    assert manifest["files"][0]["newest"] == "2026-11-22T11:59:58.999993Z"
    assert manifest["files"][2]["oldest"] == "2026-11-22T11:18:19.999993Z"


def test_checksums_pass_the_tool_that_everybody_has(tmp_path: Path) -> None:
    run(tmp_path)

    checked = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "march", capture_output=True, check=False
    )

    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(b": OK") == 3


@pytest.mark.parametrize("form", list(ExportFormat))
@pytest.mark.parametrize("call", range(4))
def test_interrupted_export_ends_as_if_nothing_had_happened(
    tmp_path: Path, form: ExportFormat, call: int
) -> None:
    order = replace(ORDER, format=form)
    run(tmp_path / "whole", order=order)

    with pytest.raises(DatabaseUnavailable):
        run(tmp_path / "cut", order=order, pages=failing_at(call))
    # Hours later: once a file is complete, the moments are those of the first attempt.
    later = timedelta(hours=5 if call >= 2 else 0)
    run(tmp_path / "cut", order=order, later=later)

    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_interrupted_export_reads_no_complete_file_again(tmp_path: Path) -> None:
    asked: list[EventQuery] = []
    with pytest.raises(DatabaseUnavailable):
        run(tmp_path, pages=failing_at(3))

    run(tmp_path, pages=pages_of(ROWS, before=asked.append))

    assert asked[0].after is not None
    assert asked[0].after.event_id == str(ROWS[1_999]["id"])
    assert numbers(tmp_path) == list(range(2_500))


def test_interrupted_file_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        run(tmp_path, pages=failing_at(2))

    assert "manifest.json" not in files(tmp_path)
    assert [name for name in files(tmp_path) if name.startswith("events.")] == [
        "events.0000.ndjson"
    ]


def test_leftover_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    (tmp_path / "march").mkdir()
    (tmp_path / "march" / "events.0000.ndjson.abc.tmp").write_bytes(b"half")

    run(tmp_path)

    assert not [name for name in files(tmp_path) if name.endswith(".tmp")]


def test_finished_export_is_not_made_again(tmp_path: Path) -> None:
    first = run(tmp_path)

    def refuse(query: EventQuery) -> None:
        raise AssertionError(query)

    again = run(tmp_path, pages=pages_of(ROWS, before=refuse), later=timedelta(days=1))

    assert again == first


@pytest.mark.parametrize("is_finished", [True, False])
def test_name_of_another_export_is_refused_and_nothing_changes(
    tmp_path: Path, is_finished: bool
) -> None:
    if is_finished:
        run(tmp_path)
    else:
        with pytest.raises(DatabaseUnavailable):
            run(tmp_path, pages=failing_at(3))
    before = files(tmp_path)

    with pytest.raises(InvalidQuery, match="another name"):
        run(tmp_path, order=replace(ORDER, query=EventQuery(tenant_id="globex")))

    assert files(tmp_path) == before


@pytest.mark.parametrize("damage", [b"", None, b"changed"])
def test_changed_file_of_an_interrupted_export_is_noticed(
    tmp_path: Path, damage: bytes | None
) -> None:
    with pytest.raises(DatabaseUnavailable):
        run(tmp_path, pages=failing_at(3))
    path = tmp_path / "march" / "events.0000.ndjson"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)

    with pytest.raises(InvalidQuery, match="not what this export wrote"):
        run(tmp_path)


@pytest.mark.parametrize("name", ["progress.json", "manifest.json"])
def test_damaged_record_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "march").mkdir()
    (tmp_path / "march" / name).write_bytes(b"{")

    with pytest.raises(UnreadableFile):
        run(tmp_path)


def test_search_without_events_is_exported_too(tmp_path: Path) -> None:
    done = run(tmp_path, order=replace(ORDER, format=ExportFormat.CSV), pages=pages_of([]))

    assert (done.rows, len(done.files)) == (0, 1)
    assert done.files[0].newest is None
    assert files(tmp_path)["events.0000.csv"].count(b"\r\n") == 1


@pytest.mark.parametrize(
    ("most", "sizes", "has_more"),
    [
        (1, [1], True),
        (1_000, [1_000], True),
        (2_100, [1_000, 1_000, 100], True),
        (2_500, [1_000, 1_000, 500], False),
        (9_999, [1_000, 1_000, 500], False),
    ],
)
def test_export_ends_after_the_rows_that_are_wanted(
    tmp_path: Path, most: int, sizes: list[int], has_more: bool
) -> None:
    done = run(tmp_path, order=replace(ORDER, most_rows=most))

    assert [file.rows for file in done.files] == sizes
    assert done.has_more is has_more
    assert numbers(tmp_path) == list(range(sum(sizes)))


def test_every_csv_file_has_a_header(tmp_path: Path) -> None:
    run(tmp_path, order=replace(ORDER, format=ExportFormat.CSV))

    found = files(tmp_path)
    for number, count in enumerate((1_000, 1_000, 500)):
        text = found[f"events.{number:04d}.csv"].decode()
        lines = list(csv.reader(io.StringIO(text, newline="")))
        assert len(lines) == count + 1
        assert lines[0][0] == "id"


def test_progress_grows_and_tells_how_far_the_period_is_done(tmp_path: Path) -> None:
    heard = Heard()
    since = NOW - timedelta(seconds=5_000)
    run(tmp_path, order=replace(ORDER, query=EventQuery(since=since)), heard=heard)

    rows = [report.rows for report in heard.reports]
    assert rows == sorted(rows)
    assert rows[-1] == 2_500
    assert heard.reports[-1].files == 3
    assert heard.reports[-1].share == pytest.approx(0.5, abs=0.01)
    assert [report.bytes_ for report in heard.reports] == sorted(
        report.bytes_ for report in heard.reports
    )


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    run(tmp_path)

    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "march").iterdir()}
    assert modes == {0o600}
    assert (tmp_path / "march").stat().st_mode & 0o777 == 0o700


def test_reports_come_with_each_page_and_files_grow(tmp_path: Path) -> None:
    sizes: list[Any] = []
    heard: Callable[[Any], None] = sizes.append

    run_export(
        replace(ORDER, rows_per_file=250_000),
        pages=pages_of(ROWS),
        store=LocalStore(tmp_path),
        now=NOW,
        report=heard,
    )

    assert len(sizes) == 2
    assert sizes[0].rows == 500
