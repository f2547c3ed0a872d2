"""Archived partitions for tests of readers, written by the file set of the export.

Here: rows as dictionaries to files and manifest, without a seal. The roots in these manifests prove
nothing; tests of verification make theirs by the whole life cycle.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa

from audit_platform.archive.columns import ARROW_SCHEMA, SORTED_BY, schema_fingerprint
from audit_platform.archive.file_set import ExportPlan, FileSet
from audit_platform.archive.manifest import Manifest
from audit_platform.archive.routes import by_day, by_file
from audit_platform.archive.store import ArchiveStore
from audit_platform.events.event import timestamp_us
from audit_platform.events.identity import TAIL_BITS, mint
from audit_platform.search.border import ArchivedPartition, Span

DAY = datetime(2026, 3, 5, tzinfo=UTC)


def stored_row(moment: datetime, **override: Any) -> dict[str, Any]:
    """One row as a search gives it, every column."""
    return {
        "id": UUID(mint(timestamp_us(moment), secrets.randbits(TAIL_BITS))),
        "timestamp": moment,
        "tenant_id": "acme",
        "source": "user",
        "action": "order.create",
        "status": "success",
        "entity_type": "order",
        "entity_id": "1",
        "entity_label": None,
        "actor_type": "user",
        "user_id": "7",
        "user_label": None,
        "impersonator_id": None,
        "description": None,
        "changes": None,
        "metadata": "{}",
        "context": "{}",
        "correlation_id": None,
        "trace_id": None,
        "bulk_action_id": None,
        "bulk_item_no": None,
        "severity": None,
        "sampled_rate": 1.0,
        "schema_version": 1,
        "producer_id": None,
        "producer_epoch": None,
        "producer_seq": None,
        "batch_id": uuid4(),
        "received_at": moment,
        "ingested_at": moment,
    } | override


def write_partition(
    store: ArchiveStore,
    rows: Sequence[Mapping[str, Any]],
    span: Span,
    *,
    copy_store: ArchiveStore | None = None,
    class_of: Callable[[str, str], str] = lambda _source, _action: "standard",
    file_tenant: Callable[[str, str], str | None] = lambda _tenant, _class: None,
    rows_per_group: int = 10,
) -> ArchivedPartition:
    """Archive rows, and describe them as the entries of `audit.partition` do."""
    plan = ExportPlan(
        name=span.name,
        lo=span.lo,
        hi=span.hi,
        generation=span.generation,
        rows_per_group=rows_per_group,
        file_bytes=1 << 20,
    )
    with FileSet(store, copy_store, plan) as file_set:
        if rows:
            batch = batch_of(rows)
            for day, part in by_day(batch, first=span.lo, last=rows[-1]["timestamp"]):
                for key, group in by_file(part, day, class_of, file_tenant):
                    file_set.add(group, key)
        files = file_set.finish()
        file_set.write_manifest(
            Manifest(
                partition=span.name,
                lo=span.lo,
                hi=span.hi,
                generation=span.generation,
                n=len(rows),
                min_id=min((row["id"] for row in rows), default=None),
                max_id=max((row["id"] for row in rows), default=None),
                leaf_digest=bytes(32),
                root=bytes(32),
                schema_fingerprint=schema_fingerprint(),
                written_at=span.hi,
                groups=(),
                files=files,
            )
        )
    entries = tuple(type(entry).from_json(entry.to_row()) for entry in files)
    return ArchivedPartition(span=span, files=entries)


def batch_of(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Rows in the order and with the schema of the files."""
    ordered = sorted(rows, key=lambda row: tuple(_bytes(row[name]) for name in SORTED_BY))
    return pa.RecordBatch.from_arrays(
        [pa.array([row[field.name] for row in ordered], field.type) for field in ARROW_SCHEMA],
        schema=ARROW_SCHEMA,
    )


def _bytes(value: Any) -> Any:
    if isinstance(value, UUID):
        return value.bytes
    return value.encode() if isinstance(value, str) else value
