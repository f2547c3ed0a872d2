"""Leaf hash: the frame, the single row and the written rule give the same bytes."""

import hashlib
import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audit_platform.events.event import EVENT_FIELDS, EventStatus
from audit_platform.integrity.leaf import (
    LEAF_COLUMNS,
    canonical,
    canonical_of,
    leaf_hashes,
    leaf_of,
    real_text,
)

_TYPES: dict[str, Any] = dict.fromkeys(LEAF_COLUMNS, pl.String) | {
    "timestamp": pl.Datetime("us", "UTC"),
    "bulk_item_no": pl.Int64,
    "severity": pl.Int16,
    "sampled_rate": pl.Float32,
    "schema_version": pl.Int16,
}
_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    pl.String: st.text(st.characters(codec="utf-8"), max_size=12),
    pl.Int64: st.integers(-(2**63), 2**63 - 1),
    pl.Int16: st.integers(-(2**15), 2**15 - 1),
    pl.Float32: st.floats(width=32, allow_nan=False, allow_infinity=False),
    pl.Datetime("us", "UTC"): st.datetimes(
        min_value=datetime(1, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
        max_value=datetime(9999, 12, 31),  # noqa: DTZ001
        timezones=st.just(UTC),
    ),
}
_ROW = st.fixed_dictionaries({name: st.none() | _VALUES[kind] for name, kind in _TYPES.items()})


def _row(**override: object) -> dict[str, object]:
    return {name: override.get(name) for name in LEAF_COLUMNS}


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_TYPES)


@example([_row(sampled_rate=0.0), _row(sampled_rate=-0.0)])
@settings(deadline=None)  # the first example starts the Polars threads
@given(st.lists(_ROW, max_size=6))
def test_frame_and_single_rows_agree(rows: list[dict[str, Any]]) -> None:
    frame = _frame(rows)

    texts, leaves = canonical(frame), leaf_hashes(frame)

    assert [text.encode() for text in texts] == [canonical_of(row) for row in rows]
    assert leaves.to_list() == [leaf_of(row) for row in rows]
    assert leaves.dtype == pl.Binary


def test_canonical_text_is_written_as_documented() -> None:
    row = _row(
        id="019aacef-fb80-7d8e-91b7-584a2265b1f5",
        timestamp=datetime(2025, 11, 22, 19, 0, 0, 1, tzinfo=UTC),
        tenant_id="Zürich",
        source="user",
        action="a,b:c",
        status=EventStatus.SUCCESS,
        actor_type="user",
        metadata='{"a": 1.10}',
        context="{}",
        entity_label="",
        severity=5,
        sampled_rate=0.1,
        schema_version=1,
    )

    text = canonical_of(row).decode()

    assert text == (
        "36:019aacef-fb80-7d8e-91b7-584a2265b1f5,16:1763838000000001,7:Zürich,4:user,5:a,b:c,"
        '7:success,-:,-:,0:,4:user,-:,-:,-:,-:,-:,11:{"a": 1.10},2:{},-:,-:,-:,-:,1:5,3:0.1,1:1'
    )
    assert leaf_of(row) == hashlib.sha256(b"\0" + text.encode()).digest()


def test_columns_are_what_a_producer_may_send_in_its_order() -> None:
    assert tuple(field.name for field in EVENT_FIELDS) == LEAF_COLUMNS


def test_moving_a_character_to_the_next_column_changes_the_leaf() -> None:
    assert leaf_of(_row(user_id="ab", user_label="c")) != leaf_of(
        _row(user_id="a", user_label="bc")
    )


def test_null_and_empty_text_differ() -> None:
    assert leaf_of(_row(user_id="")) != leaf_of(_row(user_id=None))


def test_a_row_as_the_database_driver_gives_it_has_the_leaf_of_its_frame() -> None:
    moment = datetime(2026, 3, 1, 12, 30, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    event_id = "019aacef-fb80-7d8e-91b7-584a2265b1f5"
    widened = struct.unpack("<f", struct.pack("<f", 0.3))[0]

    from_database = _row(id=UUID(event_id), timestamp=moment, sampled_rate=widened)
    from_wire = _row(id=event_id, timestamp=moment.astimezone(UTC), sampled_rate=0.3)

    assert leaf_of(from_database) == leaf_hashes(_frame([from_wire]))[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (10.0, "10"),
        (0.1, "0.1"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (999_999.0, "999999"),
        (1e6, "1e+06"),
        (1_234_567.0, "1.234567e+06"),
        (2.0**-96, "1.2621775e-29"),
        (39_263_512.0, "3.9263512e+07"),
        (65_065.9375, "65065.938"),
        (3.4028234663852886e38, "3.4028235e+38"),
        (1e-45, "1e-45"),
        (0.0, "0"),
        (-0.0, "0"),
        (-2.5, "-2.5"),
    ],
)
def test_a_real_is_written_as_postgresql_writes_it(value: float, text: str) -> None:
    """Expected texts are `value::real::text` of PostgreSQL 18.4, but for the sign of zero."""
    assert real_text(value) == text


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_text_of_a_real_stands_for_its_bits(value: float) -> None:
    assert struct.pack("<f", float(real_text(value))) == struct.pack("<f", value or 0.0)


def test_a_parsed_json_column_is_refused() -> None:
    with pytest.raises(TypeError, match="metadata is dict"):
        leaf_of(_row(metadata={}))


def test_a_boolean_is_refused() -> None:
    with pytest.raises(TypeError, match="severity is bool"):
        leaf_of(_row(severity=True))


def test_a_naive_timestamp_is_refused() -> None:
    with pytest.raises(ValueError, match="timestamp has no time zone"):
        leaf_of(_row(timestamp=datetime(2026, 1, 1)))  # noqa: DTZ001 - the point


def test_a_missing_column_is_not_null() -> None:
    row = _row()
    del row["trace_id"]

    with pytest.raises(KeyError, match="trace_id"):
        leaf_of(row)
