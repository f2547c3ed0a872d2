"""Reads tables, CSV and Parquet, as one JSON object per row.

Here: how a cell becomes a JSON value. Not here: other formats (`imports/files.py`).
Guarantee: a CSV cell keeps its text; a Parquet value keeps what microseconds and JSON can hold,
and a value that JSON cannot hold is reported with its column.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import polars as pl

from audit_platform.errors import InvalidEvent, UnreadableFile

_ROWS_PER_CHUNK: Final = 5_000
_DELIMITERS: Final = ",;\t|"
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode

Place = tuple[int | None, bytes, InvalidEvent | None]


def read_csv(stream: IO[bytes], *, max_line_bytes: int) -> Iterator[Place]:
    """Yield rows of a CSV file with a header; empty cells are left out.

    Args:
        stream: UTF-8, with or without byte order mark; comma, semicolon, tab or bar.
        max_line_bytes: A longer line ends the reading.

    Raises:
        UnreadableFile: No usable header, or a line that does not end.
    """
    lines = _Lines(stream, max_line_bytes)
    first = next(lines, "").removeprefix("\ufeff")
    if not first.strip():
        return
    delimiter = max(_DELIMITERS, key=first.count)
    header = _check_header(next(csv.reader([first], delimiter=delimiter)))
    # The limit is per process and only ever raised to our own.
    csv.field_size_limit(max(csv.field_size_limit(), max_line_bytes))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        line_no = lines.count + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            yield line_no, b"", _row_problem(f"is no valid CSV ({exc})", "quote the cell correctly")
            continue
        if cells:
            yield _csv_row(line_no, header, cells)


def read_parquet(path: Path) -> Iterator[Place]:
    """Yield rows of a Parquet file; nulls are left out.

    Raises:
        UnreadableFile: The file is no Parquet, or is damaged.
    """
    try:
        batches = pl.scan_parquet(path).collect_batches(
            chunk_size=_ROWS_PER_CHUNK, maintain_order=True, lazy=True
        )
        for batch in batches:
            for row in batch.iter_rows(named=True):
                yield _parquet_row(row)
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise UnreadableFile("is no readable Parquet file; check it, or name its --format") from exc


class _Lines:
    """Lines of a binary stream as text, counted, and refused when they do not end.

    Bytes that are no UTF-8 become lone surrogates, so that only their row is refused.
    """

    def __init__(self, stream: IO[bytes], max_line_bytes: int) -> None:
        self._stream = stream
        self._max_line_bytes = max_line_bytes
        self.count = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._stream.readline(self._max_line_bytes + 1)
        if not line:
            raise StopIteration
        self.count += 1
        if len(line) > self._max_line_bytes:
            raise UnreadableFile(f"line {self.count:,} does not end within 1 MiB; it is no CSV")
        return line.decode("utf-8", "surrogateescape")


def _check_header(cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if "" in names:
        raise UnreadableFile(f"column {names.index('') + 1} of the header has no name; name it")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UnreadableFile(f"the header names {twice[:60]!r} twice; rename one of the columns")
    return names


def _csv_row(line_no: int, header: Sequence[str], cells: Sequence[str]) -> Place:
    if len(cells) != len(header):
        problem = f"has {len(cells)} cells, the header has {len(header)}"
        raw = _text_of(cells)
        return line_no, raw, _row_problem(problem, "quote cells that hold the delimiter")
    row = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
    try:
        return line_no, _encode(row), None
    except UnicodeEncodeError:
        name = next(name for name, cell in row.items() if not _is_utf8(cell))
        problem = InvalidEvent(
            field=name, problem="is not UTF-8", remedy="convert the file to UTF-8"
        )
        return line_no, _text_of(cells), problem


def _parquet_row(row: dict[str, Any]) -> Place:
    try:
        plain = {name: _plain(name, value) for name, value in row.items() if value is not None}
        return None, _encode(plain), None
    except InvalidEvent as exc:
        return None, str(row)[:1_000].encode("utf-8", "replace"), exc


def _plain(name: str, value: object) -> object:  # noqa: PLR0911 - one table of types
    """A value that JSON can hold."""
    match value:
        case bool() | int() | str() | Decimal() | None:
            return value
        case float() if isfinite(value):
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return str(value)
        case dict():
            return {str(key): _plain(f"{name}.{key}", child) for key, child in value.items()}
        case list() | tuple() | pl.Series():
            return [_plain(f"{name}[{index}]", child) for index, child in enumerate(value)]
        case bytes():
            return _decoded(name, value)
        case _:
            problem = f"holds {str(value)[:20]} ({type(value).__name__}), which JSON cannot hold"
            raise InvalidEvent(field=name, problem=problem, remedy="write null or text")


def _decoded(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidEvent(
            field=name, problem="holds bytes that are no UTF-8", remedy="write them as text"
        ) from None


def _row_problem(problem: str, remedy: str) -> InvalidEvent:
    return InvalidEvent(field="record", problem=problem, remedy=remedy)


def _text_of(cells: Sequence[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue().encode("utf-8", "replace")[:1_000]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
