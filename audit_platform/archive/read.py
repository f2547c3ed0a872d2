"""Archive files as rows: a file is read only when its bytes are those that were written.

Here: the checks before a file is opened (size, hash, schema, number of rows), batches of bounded
size, and batches as the frames that leaves and COPY are made of. Not here: whether the rows are
those that were sealed (`archive/verify.py`), where files lie (`archive/store.py`), the columns
(`archive/columns.py`).
Guarantees: the bytes that were hashed are the bytes that are read: one open file serves both, so
that a file put in its place meanwhile is not seen. No damaged file reaches the Parquet decoder
unless its manifest was forged with it. Memory is bounded by `BATCH_BYTES` of encoded rows, not by
the row group.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Final
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from audit_platform.archive.columns import ARROW_SCHEMA
from audit_platform.archive.manifest import FileEntry
from audit_platform.archive.store import ArchiveStore
from audit_platform.errors import ArchiveDamaged

BATCH_ROWS: Final = 8_192
BATCH_BYTES: Final = 16 << 20
"""Encoded bytes of one batch at most; an event may have 64 KiB, 8,192 of them half a gigabyte."""
_LEAST_ROWS: Final = 64
_HASH_BYTES: Final = 1 << 20
# Pages are read through a buffer of this size instead of whole column chunks.
_BUFFER_BYTES: Final = 1 << 20
_UUID_COLUMNS: Final = ("id", "bulk_action_id", "batch_id")
_REPEATED_UUIDS: Final = frozenset({"bulk_action_id", "batch_id"})
_FEW: Final = 8
_UUID_PARTS: Final = ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))


def read_rows(
    store: ArchiveStore, entries: Iterable[FileEntry], columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read files one after the other, each checked first.

    Args:
        store: Where they lie.
        entries: Files, in the order in which their rows are wanted; expired ones are the
            caller's to leave out.
        columns: Columns to read; None for all.

    Returns:
        Batches in the order of the files and of their rows.

    Raises:
        ArchiveMissing: A file is not there.
        ArchiveDamaged: Its bytes are not those of its entry, or it cannot be decoded.
        ArchiveUnavailable: The store does not answer.
    """
    for entry in entries:
        with opened(store, entry) as file:
            yield from batches_of(file, entry, columns)


@contextmanager
def opened(store: ArchiveStore, entry: FileEntry) -> Iterator[pq.ParquetFile]:
    """Open one file after its bytes, its schema and its number of rows were found right.

    Raises:
        As `read_rows`; `fields["problem"]` of ArchiveDamaged is `size`, `hash`, `schema`, `rows` or
        `unreadable`.
    """
    with store.open(entry.path) as source:
        _check_bytes(source, entry)
        with _decoding(entry):
            file = pq.ParquetFile(
                source,
                pre_buffer=False,
                buffer_size=_BUFFER_BYTES,
                page_checksum_verification=True,
            )
        with file:
            with _decoding(entry):
                _check_form(file, entry)
            yield file


def batches_of(
    file: pq.ParquetFile,
    entry: FileEntry,
    columns: Sequence[str] | None = None,
    *,
    groups: Sequence[int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read an open file in batches of bounded size.

    Args:
        file: As `opened` gives it.
        entry: Of the file, for messages.
        columns: Columns to read; None for all.
        groups: Numbers of row groups to read; None for all.

    Raises:
        ArchiveDamaged: The file cannot be decoded, or a text is no UTF-8.
    """
    for number in range(file.num_row_groups) if groups is None else groups:
        with _decoding(entry):
            batches = file.iter_batches(
                batch_size=_batch_rows(file.metadata.row_group(number)),
                row_groups=[number],
                columns=None if columns is None else list(columns),
                # Callers compute beside it; a pool of threads would read ahead without bound.
                use_threads=False,
            )
        while True:
            with _decoding(entry):
                batch = next(batches, None)
                if batch is None:
                    break
                # Parquet readers take any bytes for text; what follows trusts that it is text.
                batch.validate(full=True)
            yield batch


def frame_of(batch: pa.RecordBatch) -> pl.DataFrame:
    """Turn a batch into a frame as the ingest path has it: ids as text with dashes.

    Returns:
        The columns of the batch, in its order; times in UTC microseconds, JSON as its text.
    """
    frame = pl.DataFrame(pl.from_arrow(batch))
    return frame.with_columns(
        _repeated_uuids(batch, name) if name in _REPEATED_UUIDS else _uuid_text(name)
        for name in _UUID_COLUMNS
        if name in frame.columns
    )


def _check_bytes(source: BinaryIO, entry: FileEntry) -> None:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_HASH_BYTES):
        digest.update(chunk)
        size += len(chunk)
        if size > entry.bytes:
            break
    if size != entry.bytes:
        found = f"more than {entry.bytes:,}" if size > entry.bytes else f"{size:,}"
        raise _damaged(entry, "size", f"has {found} bytes, not {entry.bytes:,}")
    if digest.hexdigest() != entry.sha256:
        raise _damaged(entry, "hash", "holds other bytes than were written: its SHA-256 differs")
    source.seek(0)


def _check_form(file: pq.ParquetFile, entry: FileEntry) -> None:
    if not file.schema_arrow.equals(ARROW_SCHEMA, check_metadata=False):
        names = _differing(file.schema_arrow)
        raise _damaged(entry, "schema", f"has other columns than this release: {names}")
    if file.metadata.num_rows != entry.rows:
        found = f"{file.metadata.num_rows:,}"
        raise _damaged(entry, "rows", f"holds {found} rows, its entry says {entry.rows:,}")


def _differing(schema: pa.Schema) -> str:
    names = dict.fromkeys([*ARROW_SCHEMA.names, *schema.names])
    other = [
        name
        for name in names
        if schema.get_field_index(name) < 0
        or ARROW_SCHEMA.get_field_index(name) < 0
        or not schema.field(name).equals(ARROW_SCHEMA.field(name))
    ]
    return ", ".join(other) if other else "their order"


def _batch_rows(group: pq.RowGroupMetaData) -> int:
    if not group.num_rows:
        return BATCH_ROWS
    row_bytes = max(1, group.total_byte_size // group.num_rows)
    return max(_LEAST_ROWS, min(BATCH_ROWS, BATCH_BYTES // row_bytes))


@contextmanager
def _decoding(entry: FileEntry) -> Iterator[None]:
    """Tell what the decoder finds in our terms; errors of the store pass as they are.

    A flipped byte in the name of a column is a UnicodeDecodeError, a ValueError (found by 1,000
    flips under forged hashes).
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise _damaged(entry, "unreadable", "cannot be decoded as Parquet") from exc


def _damaged(entry: FileEntry, problem: str, what: str) -> ArchiveDamaged:
    message = f"{entry.path} {what}: replace it by the second copy, then verify again"
    return ArchiveDamaged(message, path=entry.path, problem=problem)


def _repeated_uuids(batch: pa.RecordBatch, name: str) -> pl.Expr | pl.Series:
    """Spell each distinct value once, where they are few: a tenth of the time."""
    column = batch.column(name)
    if column.null_count == len(column):
        return pl.lit(None, pl.String).alias(name)
    ids = column.storage if isinstance(column, pa.ExtensionArray) else column
    encoded = ids.dictionary_encode()
    if len(encoded.dictionary) * _FEW > len(column):
        return _uuid_text(name)
    texts = pa.array([str(UUID(bytes=one)) for one in encoded.dictionary.to_pylist()], pa.string())
    return pl.Series(name, pl.from_arrow(texts.take(encoded.indices)))


def _uuid_text(name: str) -> pl.Expr:
    digits = pl.col(name).bin.encode("hex")
    parts = [digits.str.slice(start, length) for start, length in _UUID_PARTS]
    return pl.concat_str(parts, separator="-").alias(name)
