"""Columns of the archive: what comes from the driver is taken without loss or refused."""

import pyarrow as pa
import pytest

from audit_platform.archive.columns import (
    ARCHIVED,
    ARROW_SCHEMA,
    COLUMNS,
    SORTED_BY,
    conform,
    entity_keys,
    schema_fingerprint,
    tenant_keys,
    user_keys,
)
from audit_platform.archive.match_filter import match_key
from audit_platform.errors import ArchiveMismatch
from audit_platform.integrity.leaf import LEAF_COLUMNS
from tests.unit.archive.batches import batch_of, raw_batch_of, row


def replaced(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    index = batch.schema.get_field_index(name)
    return batch.set_column(index, pa.field(name, column.type), column)


def test_fingerprint_changes_only_with_the_format() -> None:
    """Another value means: files of before cannot be read any more. Say so in the changelog."""
    assert schema_fingerprint() == (
        "a13a1993764873efd597a66aaa5af7da4ef100631f158994bf7a93c218b651a5"
    )


def test_every_column_of_a_leaf_is_archived() -> None:
    assert set(LEAF_COLUMNS) < set(COLUMNS)
    assert "leaf_hash" not in COLUMNS
    assert set(SORTED_BY) < set(COLUMNS)


def test_batch_of_the_driver_gets_the_schema_of_the_files() -> None:
    rows = [row(number) for number in range(3)]

    assert conform(raw_batch_of(rows)).equals(batch_of(rows))


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view()])
def test_other_forms_of_text_are_the_same_text(kind: pa.DataType) -> None:
    rows = [row(0, description=""), row(1, description=None), row(2, description="ü")]
    raw = raw_batch_of(rows)

    found = conform(replaced(raw, "description", raw.column("description").cast(kind)))

    assert found.column("description").to_pylist() == ["", None, "ü"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sampled_rate", pa.float64()),
        ("bulk_item_no", pa.int32()),
        ("metadata", pa.binary()),
        ("id", pa.binary(15)),
        ("timestamp", pa.timestamp("ns", "UTC")),
        ("timestamp", pa.timestamp("us")),
    ],
)
def test_another_type_is_refused_by_name(name: str, kind: pa.DataType) -> None:
    raw = raw_batch_of([row(0)])
    column = pa.array([None], kind) if name == "id" else raw.column(name).cast(kind)

    with pytest.raises(ArchiveMismatch, match=name):
        conform(replaced(raw, name, column))


def test_ids_without_a_length_in_their_type_are_the_same_ids() -> None:
    rows = [row(number) for number in range(3)]
    raw = raw_batch_of(rows)
    ids = pa.array([bytes(one) for one in raw.column("id").to_pylist()], pa.binary())

    assert conform(replaced(raw, "id", ids)).equals(batch_of(rows))


@pytest.mark.parametrize("text", [b"", b"x" * 15, b"x" * 17])
def test_id_of_another_length_is_refused(text: bytes) -> None:
    raw = raw_batch_of([row(0)])

    with pytest.raises(ArchiveMismatch, match="id holds no id of 16 bytes"):
        conform(replaced(raw, "id", pa.array([text], pa.binary())))


def test_null_where_the_table_has_none_is_refused() -> None:
    raw = raw_batch_of([row(0)])

    with pytest.raises(ArchiveMismatch, match="tenant_id is null"):
        conform(replaced(raw, "tenant_id", pa.array([None], pa.string())))


def test_missing_or_swapped_column_is_refused() -> None:
    raw = raw_batch_of([row(0)])
    swapped = raw.select([*COLUMNS[1:], COLUMNS[0]])

    for other in (raw.select(COLUMNS[:-1]), swapped):
        with pytest.raises(ArchiveMismatch, match="columns differ"):
            conform(other)


def test_keys_of_a_batch_are_those_that_filters_are_asked_for() -> None:
    first = batch_of([row(9, tenant_id="acme", entity_type="user", entity_id="42", user_id="7")])
    second = batch_of(
        [
            row(0, tenant_id="acme", entity_type="user", entity_id="42", user_id="7"),
            row(1, tenant_id="acme", entity_type="user", entity_id="42", user_id=None),
            row(2, tenant_id="ü", entity_type="user", entity_id=None, user_id=""),
            row(3, tenant_id="ü", entity_type=None, entity_id="42", user_id=""),
        ]
    )

    rows = pa.Table.from_batches([first, second])

    assert sorted(tenant_keys(rows)) == [match_key("acme"), match_key("ü")]
    assert sorted(entity_keys(rows)) == [
        match_key("acme", "user"),
        match_key("acme", "user", "42"),
        match_key("ü", "user"),
    ]
    assert sorted(user_keys(rows)) == [match_key("acme", "7"), match_key("ü", "")]


def test_required_columns_are_required_in_the_files() -> None:
    required = {column.name for column in ARCHIVED if column.is_required}

    assert {field.name for field in ARROW_SCHEMA if not field.nullable} == required
