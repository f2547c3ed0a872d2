"""Rows of an archive as Arrow batches, valid by default, one override per test."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from audit_platform.archive.columns import ARROW_SCHEMA
from audit_platform.events.identity import mint

LO = datetime(2025, 8, 28, tzinfo=UTC)


def row(number: int, **override: Any) -> dict[str, Any]:
    """One row; numbers ascend in time."""
    moment = override.get("timestamp") or LO + timedelta(seconds=number)
    microseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    made: dict[str, Any] = {
        "id": uuid.UUID(mint(microseconds, number)).bytes,
        "timestamp": moment,
        "tenant_id": "acme",
        "source": "admin",
        "action": "user.suspend",
        "status": "success",
        "entity_type": "user",
        "entity_id": str(number % 97),
        "entity_label": None,
        "actor_type": "user",
        "user_id": str(number % 13),
        "user_label": None,
        "impersonator_id": None,
        "description": f"row {number}",
        "changes": None,
        "metadata": '{"seats":12}',
        "context": "{}",
        "correlation_id": None,
        "trace_id": None,
        "bulk_action_id": None,
        "bulk_item_no": None,
        "severity": None,
        "sampled_rate": 1.0,
        "schema_version": 1,
        "producer_id": 7,
        "producer_epoch": 1,
        "producer_seq": number,
        "batch_id": uuid.UUID(int=1).bytes,
        "received_at": moment,
        "ingested_at": moment,
    }
    assert not set(override) - set(made), override
    return made | override


def batch_of(rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    """Put rows into a batch of the archive's schema."""
    arrays = [_array([one[field.name] for one in rows], field.type) for field in ARROW_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=ARROW_SCHEMA)


def raw_batch_of(rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    """The same as the driver gives it: ids as plain bytes."""
    batch = batch_of(rows)
    arrays = [
        column.storage if isinstance(column, pa.ExtensionArray) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.uuid():
        return pa.ExtensionArray.from_storage(kind, pa.array(values, pa.binary(16)))
    return pa.array(values, kind)
