"""The columns of an archived event: types, encodings, and what PostgreSQL gives for them.

Here: the schema of the Parquet files, how each column is encoded, batches from PostgreSQL brought
to that schema, keys for the filters of the manifest. Not here: the statement that reads a partition
(`archive/export.py`), writing a file (`archive/parquet_file.py`), reading one (`archive/read.py`).
Guarantee: every value comes back as it was stored:

    timestamptz     timestamp[us, UTC]; never nanoseconds or local time
    uuid            16 bytes with the logical type UUID; Polars reads them as Binary
    json            text, byte by byte: through floats 1e400 and integers beyond 2^53 would change
    enum            text
    text            UTF-8; the empty text is not NULL
    real            32-bit float, the same bits

`leaf_hash` is not archived. 32 bytes that nothing compresses would be a third of a file, and
verification must not trust them: it computes each leaf from the columns, and the digest and the
roots in the manifest prove them. Who needs it takes `integrity/leaf.py`.

Source: type traps, storage design, section 5. Encodings: those that Polars 1.44 decodes, too;
BYTE_STREAM_SPLIT would save 2 of 12 bytes of an id, but Polars refuses it for 16-byte values
(tried 2026-11-23), so ids stay plain.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from audit_platform.errors import ArchiveMismatch


class ColumnType(StrEnum):
    """Types of archived columns, by names of our own: a library may rename its types."""

    UUID = "uuid"
    MOMENT = "timestamp_us_utc"
    TEXT = "text"
    JSON = "json"
    INT64 = "int64"
    INT32 = "int32"
    INT16 = "int16"
    REAL = "real"


class Encoding(StrEnum):
    """How the values of a column lie in a page, before zstd."""

    PLAIN = "PLAIN"
    """Values of their own, such as random ids: a dictionary of them is only in the way."""
    DICTIONARY = "RLE_DICTIONARY"
    """Few values; where they become too many, the library goes on in plain."""
    DELTA = "DELTA_BINARY_PACKED"
    """Numbers that ascend, or nearly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedColumn:
    """One column of the files.

    Attributes:
        is_required: Not null, in the table as in the files.
        has_statistics: Whether row groups carry smallest and largest value: for columns that
            searches filter by.
    """

    name: str
    type: ColumnType
    encoding: Encoding
    is_required: bool = False
    has_statistics: bool = False


def _required(
    name: str, kind: ColumnType, encoding: Encoding, *, has_statistics: bool = False
) -> ArchivedColumn:
    return ArchivedColumn(
        name=name,
        type=kind,
        encoding=encoding,
        is_required=True,
        has_statistics=has_statistics,
    )


def _text(name: str, encoding: Encoding, *, has_statistics: bool = False) -> ArchivedColumn:
    return ArchivedColumn(
        name=name, type=ColumnType.TEXT, encoding=encoding, has_statistics=has_statistics
    )


_T, _E = ColumnType, Encoding
ARCHIVED: Final = (
    _required("id", _T.UUID, _E.PLAIN, has_statistics=True),
    _required("timestamp", _T.MOMENT, _E.DELTA, has_statistics=True),
    _required("tenant_id", _T.TEXT, _E.DICTIONARY, has_statistics=True),
    _required("source", _T.TEXT, _E.DICTIONARY, has_statistics=True),
    _required("action", _T.TEXT, _E.DICTIONARY, has_statistics=True),
    _required("status", _T.TEXT, _E.DICTIONARY, has_statistics=True),
    _text("entity_type", _E.DICTIONARY, has_statistics=True),
    _text("entity_id", _E.DICTIONARY, has_statistics=True),
    _text("entity_label", _E.DICTIONARY),
    _required("actor_type", _T.TEXT, _E.DICTIONARY),
    _text("user_id", _E.DICTIONARY, has_statistics=True),
    _text("user_label", _E.DICTIONARY),
    _text("impersonator_id", _E.DICTIONARY),
    _text("description", _E.DICTIONARY),
    ArchivedColumn(name="changes", type=_T.JSON, encoding=_E.DICTIONARY),
    _required("metadata", _T.JSON, _E.DICTIONARY),
    _required("context", _T.JSON, _E.DICTIONARY),
    _text("correlation_id", _E.PLAIN, has_statistics=True),
    _text("trace_id", _E.PLAIN),
    ArchivedColumn(name="bulk_action_id", type=_T.UUID, encoding=_E.DICTIONARY),
    ArchivedColumn(name="bulk_item_no", type=_T.INT64, encoding=_E.DELTA),
    ArchivedColumn(name="severity", type=_T.INT16, encoding=_E.DICTIONARY, has_statistics=True),
    _required("sampled_rate", _T.REAL, _E.DICTIONARY),
    _required("schema_version", _T.INT16, _E.DICTIONARY),
    ArchivedColumn(name="producer_id", type=_T.INT32, encoding=_E.DICTIONARY),
    ArchivedColumn(name="producer_epoch", type=_T.INT64, encoding=_E.DICTIONARY),
    ArchivedColumn(name="producer_seq", type=_T.INT64, encoding=_E.DELTA),
    _required("batch_id", _T.UUID, _E.DICTIONARY),
    _required("received_at", _T.MOMENT, _E.DELTA),
    _required("ingested_at", _T.MOMENT, _E.DELTA),
)
"""In the order of the view `audit.event_all`; all columns of `audit.event` but `leaf_hash`."""

COLUMNS: Final = tuple(column.name for column in ARCHIVED)
TENANT: Final = "tenant_id"
SORTED_BY: Final = (TENANT, "timestamp", "id")
"""Rows of a file ascend by these, text by its bytes."""

_ARROW_TYPES: Final = {
    ColumnType.UUID: pa.uuid(),
    ColumnType.MOMENT: pa.timestamp("us", tz="UTC"),
    ColumnType.TEXT: pa.string(),
    ColumnType.JSON: pa.string(),
    ColumnType.INT64: pa.int64(),
    ColumnType.INT32: pa.int32(),
    ColumnType.INT16: pa.int16(),
    ColumnType.REAL: pa.float32(),
}
_UUID_BYTES: Final = 16

ARROW_SCHEMA: Final = pa.schema(
    [
        pa.field(column.name, _ARROW_TYPES[column.type], nullable=not column.is_required)
        for column in ARCHIVED
    ]
)
"""Schema of the files and of every batch that is written; equal to `schema_arrow` read back."""

# Made when it is imported, so that no type checker knows its functions.
_COMPUTE: Final[Any] = pyarrow.compute
_KEY_SEPARATOR: Final = "\x00"
_TENANT_KEY: Final = (("tenant_id",),)
_ENTITY_KEYS: Final = (
    ("tenant_id", "entity_type"),
    ("tenant_id", "entity_type", "entity_id"),
)
_USER_KEY: Final = (("tenant_id", "user_id"),)


def schema_fingerprint() -> str:
    """Identify names, types and nullability of the columns.

    Returns:
        SHA-256, lower-case hexadecimal; the same on every machine and for every version of the
        libraries. Another one means files that this program does not read.
    """
    lines = [
        f"{column.name} {column.type.value} {'required' if column.is_required else 'optional'}"
        for column in ARCHIVED
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def conform(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Bring a batch from PostgreSQL to `ARROW_SCHEMA`.

    Args:
        batch: The columns of `COLUMNS` in this order, as the driver gives them.

    Returns:
        The same values; columns that have their type already are not copied.

    Raises:
        ArchiveMismatch: Another column or type, or NULL where the schema has none: the table is
            not the one that this program knows.
    """
    if batch.schema.names != list(COLUMNS):
        raise _foreign("its columns differ from those of audit.event")
    arrays = [
        _conformed(array, field) for array, field in zip(batch.columns, ARROW_SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=ARROW_SCHEMA)


def tenant_keys(rows: pa.Table) -> list[bytes]:
    """Distinct (tenant) of some rows, as `match_filter.match_key` spells it."""
    return _distinct_keys(rows, _TENANT_KEY)


def entity_keys(rows: pa.Table) -> list[bytes]:
    """Distinct (tenant, type) and (tenant, type, id) of some rows."""
    return _distinct_keys(rows, _ENTITY_KEYS)


def user_keys(rows: pa.Table) -> list[bytes]:
    """Distinct (tenant, user) of some rows."""
    return _distinct_keys(rows, _USER_KEY)


def _distinct_keys(rows: pa.Table, keys: Sequence[Sequence[str]]) -> list[bytes]:
    found: list[bytes] = []
    for names in keys:
        # A row without one of the parts has no such key.
        columns = [rows.column(name) for name in names]
        joined = _COMPUTE.binary_join_element_wise(
            *columns, _KEY_SEPARATOR, null_handling="emit_null"
        )
        found += joined.unique().drop_null().cast(pa.binary()).to_pylist()
    return found


def _conformed(array: pa.Array, field: pa.Field) -> pa.Array:
    if array.null_count and not field.nullable:
        raise _foreign(f"{field.name} is null in {array.null_count} rows")
    if isinstance(array.type, pa.BaseExtensionType) and array.type != field.type:
        array = array.storage
    if array.type == field.type:
        return array
    if field.type == pa.uuid():
        return pa.ExtensionArray.from_storage(field.type, _sixteen_bytes(array, field))
    if not _is_lossless(array.type, field.type):
        raise _foreign(f"{field.name} came as {array.type}")
    return array.cast(field.type)


def _sixteen_bytes(array: pa.Array, field: pa.Field) -> pa.Array:
    """Ids come as 16 bytes or, from ADBC up to 1.8, as bytes of any length."""
    if array.type == pa.binary():
        try:
            # Refuses whatever has another length.
            return array.cast(pa.binary(_UUID_BYTES))
        except pa.ArrowInvalid as exc:
            raise _foreign(f"{field.name} holds no id of 16 bytes") from exc
    if array.type != pa.binary(_UUID_BYTES):
        raise _foreign(f"{field.name} came as {array.type}")
    return array


def _is_lossless(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a cast changes the form in memory only."""
    if pa.types.is_string(wanted):
        return pa.types.is_large_string(given) or pa.types.is_string_view(given)
    return False


def _foreign(what: str) -> ArchiveMismatch:
    return ArchiveMismatch(
        f"a partition cannot be archived: {what}. Run `audit-platform doctor`; the schema and this "
        "program must be of one release."
    )
