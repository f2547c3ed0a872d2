"""Looks single events up in archive files: which of some keys are there, and with which leaf.

Here: keys against files, row group by row group. Not here: the checks before a file is opened
(`archive/read.py`), searches (`search/cold.py`), what follows from the answer
(`retention/late_known.py`).
Guarantees: an event counts as there only where a file with the bytes that were written holds it,
and its leaf is computed from its columns; memory is bounded by the keys and one batch.
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Final
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from audit_platform.archive.columns import ARROW_SCHEMA, SORTED_BY
from audit_platform.archive.manifest import FileEntry
from audit_platform.archive.read import batches_of, frame_of, opened
from audit_platform.archive.store import ArchiveStore
from audit_platform.integrity.leaf import leaf_hashes

Key = tuple[str, datetime, UUID]
"""Tenant, timestamp, id: the primary key of an event."""

_KEY_SCHEMA: Final = pa.schema([ARROW_SCHEMA.field(name) for name in SORTED_BY])


def stored_leaves(
    store: ArchiveStore, entries: Iterable[FileEntry], keys: Collection[Key]
) -> dict[Key, bytes]:
    """Find keys in files.

    Args:
        store: Where the files lie.
        entries: None of them expired.
        keys: Of events; a hundred thousand take some 50 MB.

    Returns:
        Leaf of each key that is there.

    Raises:
        ArchiveMissing: A file is not there.
        ArchiveDamaged: A file is not what was written.
        ArchiveUnavailable: The store does not answer.
    """
    if not keys:
        return {}
    moments = [moment for _, moment, _ in keys]
    first, last = min(moments), max(moments)
    wanted = _batch_of(keys)
    found: dict[Key, bytes] = {}
    for entry in entries:
        if entry.max_timestamp < first or last < entry.min_timestamp:
            continue
        with opened(store, entry) as file:
            for group in range(file.num_row_groups):
                found.update(_found_in(file, entry, group, wanted))
    return found


def _found_in(
    file: pq.ParquetFile, entry: FileEntry, group: int, wanted: pa.RecordBatch
) -> Iterator[tuple[Key, bytes]]:
    asked, key = frame_of(wanted), list(SORTED_BY)
    # Three narrow columns first: most row groups hold none of the keys.
    narrow = batches_of(file, entry, SORTED_BY, groups=[group])
    if not any(frame_of(one).join(asked, on=key, how="semi").height for one in narrow):
        return
    for batch in batches_of(file, entry, groups=[group]):
        rows = frame_of(batch).join(asked, on=key, how="semi")
        if not rows.is_empty():
            for row, leaf in zip(rows.select(key).iter_rows(), leaf_hashes(rows), strict=True):
                tenant_id, moment, event_id = row
                yield (tenant_id, moment, UUID(event_id)), leaf


def _batch_of(keys: Collection[Key]) -> pa.RecordBatch:
    tenants, moments, ids = zip(*keys, strict=True)
    values = [list(tenants), list(moments), [one.bytes for one in ids]]
    arrays = [
        pa.array(column, field.type) for column, field in zip(values, _KEY_SCHEMA, strict=True)
    ]
    return pa.record_batch(arrays, schema=_KEY_SCHEMA)
