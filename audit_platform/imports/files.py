"""Reads import files: NDJSON, CSV, Parquet, JSON arrays and CloudTrail, plain or gzip.

Here: what a file is, and its records as JSON bytes with their place. Not here: what a record means
(`imports/mapping.py`), where it goes (`imports/file_import.py`).
Guarantee: memory is bounded whatever the file holds, a gzip bomb included; a bad record is
reported with its place and the others are read. Only damage to the whole file ends the reading.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from audit_platform.errors import InvalidEvent, UnreadableFile
from audit_platform.imports.file_format import FileFormat, format_of_name
from audit_platform.imports.json_array import split_array
from audit_platform.imports.tables import read_csv, read_parquet

# An event takes 64 KiB at most; white space may blow a record up, but not to this.
MAX_RECORD_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 1 << 16
_HASH_BYTES: Final = 1 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_PARQUET_MAGIC: Final = b"PAR1"
_BOM: Final = b"\xef\xbb\xbf"
_RECORDS: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"Records"\s*:\s*\[')
_ARRAY: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a file.

    Attributes:
        number: From 1, bad records included.
        line: Line on which it starts; None in Parquet.
        offset: Bytes of the file read so far, compressed ones if it is; 0 in Parquet.
        raw: JSON object; as much of the text as could be read when `problem` is set.
        problem: Why it cannot be used, None if it can.
    """

    number: int
    line: int | None
    offset: int
    raw: bytes
    problem: InvalidEvent | None = None


def find_files(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """List the files below some paths, folders recursed, in order of name.

    Returns:
        Files to import: every file named, and in folders those with a known suffix; and the
        files of folders that were passed over.

    Raises:
        UnreadableFile: A path does not exist.
    """
    chosen: list[Path] = []
    passed: list[Path] = []
    for path in paths:
        if path.is_dir():
            for inner in sorted(item for item in path.rglob("*") if item.is_file()):
                (chosen if format_of_name(inner) else passed).append(inner)
        elif path.exists():
            chosen.append(path)
        else:
            raise UnreadableFile(f"{path} does not exist; check the path")
    return list(dict.fromkeys(chosen)), passed


def detect_format(path: Path) -> FileFormat:
    """Tell the format from the content, and from the name where the content could be several.

    Raises:
        UnreadableFile: Neither tells, or the file cannot be opened.
    """
    with _opened(path) as (stream, _):
        head = _read_head(stream, path)
    by_name = format_of_name(path)
    if head.startswith(_PARQUET_MAGIC):
        return FileFormat.PARQUET
    if by_name is FileFormat.CSV:
        return by_name
    if _RECORDS.match(head):
        return FileFormat.CLOUDTRAIL
    if _ARRAY.match(head):
        return FileFormat.JSON
    if head.removeprefix(_BOM).lstrip()[:1] == b"{":
        return FileFormat.NDJSON
    if by_name is None:
        raise UnreadableFile(
            f"{path.name}: format not recognised; name it with --format ({', '.join(FileFormat)})"
        )
    return by_name


def digest_file(path: Path) -> bytes:
    """SHA-256 of the file as it lies on disk.

    Raises:
        UnreadableFile: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_HASH_BYTES):
                digest.update(chunk)
    except OSError as exc:
        raise UnreadableFile(f"{path.name}: {exc.strerror}; check the file") from exc
    return digest.digest()


def read_records(path: Path, file_format: FileFormat) -> Iterator[Record]:
    """Yield every record in file order.

    Raises:
        UnreadableFile: The file as a whole cannot be read in this format, at once or further on.
    """
    number = 0
    try:
        with _opened(path) as (stream, position):
            places = _places(path, stream, file_format)
            for number, (line, raw, problem) in enumerate(places, start=1):
                yield Record(number=number, line=line, offset=position(), raw=raw, problem=problem)
    except (OSError, EOFError, zlib.error) as exc:
        raise UnreadableFile(
            f"{path.name}: is damaged after record {number:,} ({exc}); get it again"
        ) from exc
    except UnreadableFile as exc:
        raise UnreadableFile(f"{path.name}: after record {number:,}: {exc.message}") from exc


Place = tuple[int | None, bytes, InvalidEvent | None]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """Open a file, through gzip when its first bytes say so; also tells how much was read.

    Raises:
        UnreadableFile: It cannot be opened.
    """
    try:
        plain = path.open("rb")
    except OSError as exc:
        raise UnreadableFile(f"{path.name}: {exc.strerror}; check the file") from exc
    with plain:
        is_gzip = plain.read(2) == _GZIP_MAGIC
        plain.seek(0)
        if not is_gzip:
            yield plain, plain.tell
            return
        with gzip.GzipFile(fileobj=plain) as unzipped:
            yield cast("IO[bytes]", unzipped), plain.tell


def _places(path: Path, stream: IO[bytes], file_format: FileFormat) -> Iterator[Place]:
    match file_format:
        case FileFormat.PARQUET:
            yield from read_parquet(path)
        case FileFormat.NDJSON:
            yield from _read_lines(stream)
        case FileFormat.CSV:
            yield from read_csv(stream, max_line_bytes=MAX_RECORD_BYTES)
        case FileFormat.JSON | FileFormat.CLOUDTRAIL:
            opening = _ARRAY if file_format is FileFormat.JSON else _RECORDS
            for line, raw in split_array(stream.read, opening, max_bytes=MAX_RECORD_BYTES):
                yield line, raw or b"", None if raw is not None else _too_large()


def _read_lines(stream: IO[bytes]) -> Iterator[Place]:
    line_no = 0
    while line := stream.readline(MAX_RECORD_BYTES + 1):
        line_no += 1
        is_whole = line.endswith(b"\n") or len(line) <= MAX_RECORD_BYTES
        rest = line
        while not is_whole and rest and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_RECORD_BYTES)
        record = line.removeprefix(_BOM).strip() if line_no == 1 else line.strip()
        if not is_whole:
            yield line_no, record[:1_000], _too_large()
        elif record:
            yield line_no, record, None


def _too_large() -> InvalidEvent:
    return InvalidEvent(
        field="record",
        problem=f"is larger than {MAX_RECORD_BYTES:,} bytes",
        remedy="an event takes 65,536 bytes at most; shorten it",
    )


def _read_head(stream: IO[bytes], path: Path) -> bytes:
    try:
        return stream.read(_HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as exc:
        raise UnreadableFile(f"{path.name}: is damaged ({exc}); get it again") from exc
