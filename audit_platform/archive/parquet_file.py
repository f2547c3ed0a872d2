"""One Parquet file being written: row groups, and what its entry in the manifest says.

Here: the settings of the writer, counting, smallest and largest values, filters. Not here: which
rows come in which file (`archive/file_set.py`), columns (`archive/columns.py`), where the bytes go
(`archive/store.py`).
Guarantee: what `entry` tells is what was written; a row group lies in memory once, encoded.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from audit_platform.archive.columns import (
    ARCHIVED,
    ARROW_SCHEMA,
    SORTED_BY,
    Encoding,
    entity_keys,
    tenant_keys,
    user_keys,
)
from audit_platform.archive.manifest import FileEntry, FileFilters
from audit_platform.archive.match_filter import MatchFilterBuilder
from audit_platform.archive.store import ArchiveSink

COMPRESSION_LEVEL: Final = 3
# Made when it is imported, so that no type checker knows its functions.
_COMPUTE: Final[Any] = pyarrow.compute
_SORTING: Final = [pq.SortingColumn(ARROW_SCHEMA.get_field_index(name)) for name in SORTED_BY]
_OPTIONS: Final[dict[str, Any]] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": COMPRESSION_LEVEL,
    "use_dictionary": [c.name for c in ARCHIVED if c.encoding is Encoding.DICTIONARY],
    "column_encoding": {
        c.name: c.encoding.value for c in ARCHIVED if c.encoding is not Encoding.DICTIONARY
    },
    "write_statistics": [c.name for c in ARCHIVED if c.has_statistics],
    "write_page_checksum": True,
    "sorting_columns": _SORTING,
    # Readers take the types from Parquet itself; with Arrow's schema beside it, each library
    # would have its own opinion of what an id is.
    "store_schema": False,
}


class ParquetFile:
    """Writes row groups to a sink; end it by `close` or `abandon`."""

    def __init__(self, sink: ArchiveSink, *, labels: dict[str, str]) -> None:
        """Begin a file.

        Args:
            sink: Takes the bytes.
            labels: Key-value metadata, for people who find the file alone.
        """
        self._sink = sink
        self._writer = pq.ParquetWriter(sink, ARROW_SCHEMA, **_OPTIONS)
        self._writer.add_key_value_metadata(labels)
        self._rows = 0
        self._moments: list[datetime] = []
        self._ids: list[bytes] = []
        self._tenants = MatchFilterBuilder()
        self._entities = MatchFilterBuilder()
        self._users = MatchFilterBuilder()

    def write(self, *batches: pa.RecordBatch) -> None:
        """Write rows as one row group.

        Args:
            batches: At least one row, with `ARROW_SCHEMA`, in the order of `SORTED_BY`.

        Raises:
            ArchiveError: The sink refused the bytes.
        """
        rows = pa.Table.from_batches(batches)
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self._rows += rows.num_rows
        for batch in batches:
            self._moments = _extremes(batch.column("timestamp"), self._moments)
            self._ids = _extremes(batch.column("id").storage, self._ids)
        self._tenants.add(tenant_keys(rows))
        self._entities.add(entity_keys(rows))
        self._users.add(user_keys(rows))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()

    def abandon(self) -> None:
        """End the writer without another byte."""
        self._sink.discard()
        self._writer.close()

    def entry(self, *, path: str, retention_class: str, tenant: str | None) -> FileEntry:
        """Describe the closed file."""
        min_id, max_id = (UUID(bytes=value) for value in self._ids)
        min_timestamp, max_timestamp = self._moments
        return FileEntry(
            path=path,
            sha256=self._sink.sha256,
            bytes=self._sink.bytes_written,
            rows=self._rows,
            retention_class=retention_class,
            tenant=tenant,
            min_timestamp=min_timestamp,
            max_timestamp=max_timestamp,
            min_id=min_id,
            max_id=max_id,
            filters=FileFilters(
                tenants=self._tenants.build(),
                entities=self._entities.build(),
                users=self._users.build(),
            ),
        )


def _extremes(column: pa.Array, known: list[Any]) -> list[Any]:
    """Smallest and largest of a column and of what is known."""
    found = _COMPUTE.min_max(column).as_py()
    values = [*known, found["min"], found["max"]]
    return [min(values), max(values)]
