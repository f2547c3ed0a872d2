"""Import files as other programs write them: NDJSON, CSV, Parquet, JSON, CloudTrail, gzip."""

import csv
import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.errors import UnreadableFile
from audit_platform.imports.file_format import FileFormat
from audit_platform.imports.files import detect_format, find_files, read_records

pytestmark = pytest.mark.contract


# One folder for the properties: Hypothesis runs many examples per fixture.
SCRATCH = TemporaryDirectory()


def _is_storable(value: object) -> bool:
    return not any(
        "\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False)
    )


def _read(path: Path) -> list[Any]:
    records = list(read_records(path, detect_format(path)))
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    return [json.loads(one.raw) if one.problem is None else one.problem.field for one in records]


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.ndjson", b'{"a":1}\n', FileFormat.NDJSON),
        ("a", b'\xef\xbb\xbf\n {"a":1}\n', FileFormat.NDJSON),
        ("a.json", b' {"Records" : [] }', FileFormat.CLOUDTRAIL),
        ("a.json.gz", b'{"Records":[]}', FileFormat.CLOUDTRAIL),
        ("a.json", b'[{"a":1}]', FileFormat.JSON),
        ("a.csv", b"a,b\n1,2\n", FileFormat.CSV),
        ("a.csv.gz", b"[a],b\n1,2\n", FileFormat.CSV),
        ("a.bin", b"PAR1....", FileFormat.PARQUET),
        ("a.ndjson", b"", FileFormat.NDJSON),
    ],
)
def test_format_is_told_from_content_and_name(
    tmp_path: Path, name: str, content: bytes, found: FileFormat
) -> None:
    assert detect_format(_write(tmp_path / name, content)) is found


def test_unknown_format_asks_for_its_name(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"a\.bin: .*--format \(ndjson, csv"):
        detect_format(_write(tmp_path / "a.bin", b"\x00\x01"))


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz"])
def test_ndjson_gives_a_record_per_line(tmp_path: Path, name: str) -> None:
    content = b'\xef\xbb\xbf{"a":1}\r\n\n{"a":"\xc3\xa9"}\n' + b" " * 10 + b'{"a":[]}'
    path = _write(tmp_path / name, content)

    records = list(read_records(path, FileFormat.NDJSON))

    assert [record.line for record in records] == [1, 3, 4]
    assert _read(path) == [{"a": 1}, {"a": "é"}, {"a": []}]


def test_line_beyond_a_mebibyte_is_refused_and_the_next_one_read(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.ndjson", b'{"a":"' + b"x" * 3_000_000 + b'"}\n{"b":2}\n')

    assert _read(path) == ["record", {"b": 2}]


def test_gzip_bomb_costs_no_memory_and_stops_nothing(tmp_path: Path) -> None:
    """100 MB of one letter in 100 kB: read in pieces, refused as one record."""
    path = _write(tmp_path / "bomb.ndjson.gz", b"x" * 100_000_000 + b'\n{"b":2}\n')

    assert _read(path) == ["record", {"b": 2}]


def test_csv_of_the_standard_library_comes_back(tmp_path: Path) -> None:
    rows = [{"a": 'x,"y"\n;', "b": "\tü\u202e"}, {"a": "=1", "b": "\\N"}]
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["a", "b"])
        writer.writeheader()
        writer.writerows(rows)

    assert _read(path) == rows


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=6))
def test_any_csv_cell_comes_back(rows: list[list[str]]) -> None:
    path = Path(SCRATCH.name) / "any.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerow(["a", "b"])
        writer.writerows(rows)

    found = [
        record.problem or json.loads(record.raw) for record in read_records(path, FileFormat.CSV)
    ]

    assert found == [{n: c for n, c in zip("ab", row, strict=True) if c} for row in rows]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiter_is_found_in_the_header(tmp_path: Path, delimiter: str) -> None:
    content = delimiter.join(("a", "b")) + "\n" + delimiter.join(("1", "2")) + "\n"

    assert _read(_write(tmp_path / "a.csv", content.encode())) == [{"a": "1", "b": "2"}]


def test_bad_csv_rows_are_refused_one_by_one(tmp_path: Path) -> None:
    content = b'a,b\n1,2\n3\n4,5,6\n7,\xff\n8,"x"y\n9,10\n'
    path = _write(tmp_path / "a.csv", content)

    assert _read(path) == [
        {"a": "1", "b": "2"},
        "record",
        "record",
        "b",
        "record",
        {"a": "9", "b": "10"},
    ]
    assert [record.line for record in read_records(path, FileFormat.CSV)] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("header", "message"), [(b"a,a\n", "twice"), (b"a,\n", "column 2")])
def test_csv_header_must_name_each_column_once(tmp_path: Path, header: bytes, message: str) -> None:
    with pytest.raises(UnreadableFile, match=message):
        _read(_write(tmp_path / "a.csv", header + b"1,2\n"))


def test_parquet_values_keep_what_json_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame(
        {
            "n": [2**63 - 1, None],
            "d": [Decimal("1.10"), Decimal("2.00")],
            "f": [0.1, None],
            "t": [datetime(2025, 1, 1, 12, tzinfo=UTC)] * 2,
            "s": [{"x": [1, 2], "y": "é"}, None],
            "b": [b"bytes", None],
        }
    ).write_parquet(path)

    raws = [record.raw for record in read_records(path, FileFormat.PARQUET)]

    assert b'"n":9223372036854775807,"d":1.10,"f":0.1' in raws[0]
    assert json.loads(raws[0])["s"] == {"x": [1, 2], "y": "é"}
    assert json.loads(raws[0])["t"] == "2025-01-01T12:00:00+00:00"
    assert json.loads(raws[1]).keys() == {"d", "t"}


def test_parquet_value_that_json_cannot_hold_is_refused_with_its_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"x": [1.5, float("nan"), float("inf"), 2.5]}).write_parquet(path)

    assert _read(path) == [{"x": 1.5}, "x", "x", {"x": 2.5}]


@pytest.mark.parametrize("content", [b"PAR1 but no more", b"not parquet"])
def test_broken_parquet_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = _write(tmp_path / "a.parquet", content)

    with pytest.raises(UnreadableFile, match=r"a\.parquet: after record 0: is no readable Parquet"):
        list(read_records(path, FileFormat.PARQUET))


def test_cloudtrail_document_gives_its_records_with_their_lines(tmp_path: Path) -> None:
    content = b'{"Records": [\n {"a": "}]\\"[",\n  "b": {"c": []}},\n\n {"d": 1}\n]}'
    path = _write(tmp_path / "a.json.gz", content)

    records = list(read_records(path, FileFormat.CLOUDTRAIL))

    assert [record.line for record in records] == [2, 5]
    assert _read(path) == [{"a": '}]"[', "b": {"c": []}}, {"d": 1}]


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), values), max_size=8), st.booleans())
def test_any_json_array_is_split_into_its_elements(rows: list[Any], ascii_only: bool) -> None:
    path = Path(SCRATCH.name) / "any.json"
    rows = [row for row in rows if _is_storable(row)]
    padding = " " * 65_530
    text = "[" + padding + json.dumps(rows, ensure_ascii=ascii_only, indent=1)[1:]
    path.write_text(text, encoding="utf-8")

    assert [json.loads(record.raw) for record in read_records(path, FileFormat.JSON)] == rows


def test_element_too_large_is_refused_and_the_next_one_read(tmp_path: Path) -> None:
    content = b'[{"a":[' + b'"0123456789",' * 300_000 + b'1]},\n{"b":2}]'

    assert _read(_write(tmp_path / "a.json", content)) == ["record", {"b": 2}]


@pytest.mark.parametrize("content", [b'{"Records":[{"a":1},', b'{"Records":[{"a":"x'])
def test_cut_off_document_is_a_file_error_that_says_where(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableFile, match=r"after record \d: the file ends before"):
        _read(_write(tmp_path / "a.json", content))


def test_cut_off_gzip_is_a_file_error(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(gzip.compress(b'{"a":1}\n' * 1_000)[:-12])

    with pytest.raises(UnreadableFile, match="damaged after record"):
        list(read_records(path, FileFormat.NDJSON))


def test_folder_gives_its_files_in_order_and_names_what_it_passes_over(tmp_path: Path) -> None:
    for name in ("b.json", "LICENSE", "sub/a.csv.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    files, passed = find_files([tmp_path, tmp_path / "b.json", tmp_path / "LICENSE"])

    assert [file.name for file in files] == ["b.json", "a.csv.gz", "LICENSE"]
    assert [file.name for file in passed] == ["LICENSE"]


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="nowhere does not exist"):
        find_files([tmp_path / "nowhere"])
