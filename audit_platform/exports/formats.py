"""Events as CSV, NDJSON and Parquet, written to an open file as they come.

Here: the bytes of each form. Not here: what a cell holds (`exports/cells.py`), which events and how
many files (`exports/search_export.py`).
Guarantee: memory does not grow with the number of events; NDJSON and Parquet hold JSON columns byte
by byte as stored; CSV holds no cell that a spreadsheet would run. CSV is therefore lossy: a cell
may have a leading `'` that its value has not, and null looks like an empty text.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from audit_platform.archive.columns import ARROW_SCHEMA
from audit_platform.archive.store import ArchiveSink
from audit_platform.events.event import JSON_FIELDS
from audit_platform.events.json_path import encode_object, encode_value
from audit_platform.exports.cells import COLUMNS, cell_text, spreadsheet_safe
from audit_platform.exports.order import ExportFormat
from audit_platform.exports.progress import memory_of

GROUP_ROWS: Final = 50_000
GROUP_BYTES: Final = 64 << 20
"""A row group is written when either is reached: what a Parquet export holds in memory."""
ZSTD_LEVEL: Final = 3
_UUIDS: Final = frozenset({"id", "bulk_action_id", "batch_id"})


class EventWriter(Protocol):
    """Takes events, any number of times."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write some events; some may wait in memory until the writer is closed.

        Raises:
            ArchiveFull: No room.
            ArchiveUnavailable: The disk or the network failed.
        """
        ...


@contextmanager
def writing(form: ExportFormat, sink: ArchiveSink) -> Iterator[EventWriter]:
    """Write one file to a sink; it is complete when the block ends."""
    match form:
        case ExportFormat.CSV:
            yield CsvWriter(sink)
        case ExportFormat.NDJSON:
            yield NdjsonWriter(sink)
        case ExportFormat.PARQUET:
            with _parquet(sink) as writer:
                yield writer


class CsvWriter:
    """A header, then a line per event, every cell in quotes (RFC 4180)."""

    def __init__(self, sink: ArchiveSink) -> None:
        """Write the header."""
        self._sink = sink
        self._put([COLUMNS])

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write some events."""
        self._put([[spreadsheet_safe(cell_text(row[name])) for name in COLUMNS] for row in rows])

    def _put(self, lines: Sequence[Sequence[str]]) -> None:
        out = io.StringIO()
        csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(lines)
        self._sink.write(out.getvalue().encode())


class NdjsonWriter:
    """One JSON object per line; nulls are left out."""

    def __init__(self, sink: ArchiveSink) -> None:
        """Begin."""
        self._sink = sink

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write some events."""
        self._sink.write(b"".join(json_line(row) for row in rows))


class ParquetEvents:
    """Columns of `archive/columns.py`, newest first, in row groups of bounded size."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        """Begin."""
        self._writer = writer
        self._rows: list[Mapping[str, Any]] = []
        self._memory_bytes = 0

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep some events, and write a row group when there are enough."""
        for row in rows:
            self._rows.append(row)
            self._memory_bytes += memory_of(row)
            if len(self._rows) >= GROUP_ROWS or self._memory_bytes >= GROUP_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what is kept as one row group."""
        if not self._rows:
            return
        arrays = [
            pa.array([_value(field.name, row[field.name]) for row in self._rows], field.type)
            for field in ARROW_SCHEMA
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=ARROW_SCHEMA))
        self._rows, self._memory_bytes = [], 0


def json_line(row: Mapping[str, Any]) -> bytes:
    """Write one event as a line of JSON."""
    fields = {name: _json_value(name, row[name]) for name in COLUMNS if row[name] is not None}
    return encode_object(fields) + b"\n"


def _json_value(name: str, value: object) -> bytes:
    if name in JSON_FIELDS:
        return str(value).encode()
    return encode_value(value if isinstance(value, bool | int | float) else cell_text(value))


def _value(name: str, value: object) -> object:
    # The archive may give ids as text.
    return UUID(value) if name in _UUIDS and isinstance(value, str) else value


@contextmanager
def _parquet(sink: ArchiveSink) -> Iterator[ParquetEvents]:
    writer = pq.ParquetWriter(
        # The sink stays open: its store makes the file complete.
        pa.PythonFile(sink, mode="w"),
        ARROW_SCHEMA,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        use_dictionary=True,
        store_schema=True,
    )
    try:
        events = ParquetEvents(writer)
        yield events
        events.flush()
    except BaseException:
        # Closing writes the end of the file; after a full disk that would fail a second time.
        sink.discard()
        raise
    finally:
        writer.close()
