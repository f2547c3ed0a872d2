"""COPY text: what a reader of the format gets back is the frame, whatever a text holds."""

import math
import struct
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_platform.events.copy_text import copy_text

_UNESCAPED = {
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}
_HOSTILE = st.sampled_from(["\\.", "\\N", "\\", "\t", "\n", "\r", "\r\n", "\\x00", '"', "", "\\n"])
_TEXT = st.lists(
    st.one_of(_HOSTILE, st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)),
    max_size=4,
).map("".join)
_MOMENT = st.datetimes(
    min_value=datetime(1, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
    max_value=datetime(9999, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)
# The first example of each starts the Polars threads.
_NO_DEADLINE = settings(deadline=None)


def _parse(copied: bytes) -> list[list[bytes | None]]:
    """Read COPY text as PostgreSQL's manual describes it; independent of the writer."""
    if not copied:
        return []
    lines = copied.split(b"\n")
    assert lines.pop() == b"", "every row ends with a newline"
    assert b"\\." not in lines, "a row reads as the end of the data"
    assert b"\r" not in copied, "a bare carriage return ends a row for PostgreSQL"
    return [[_parse_value(value) for value in line.split(b"\t")] for line in lines]


def _parse_value(value: bytes) -> bytes | None:
    if value == b"\\N":
        return None
    parsed = bytearray()
    position = 0
    while position < len(value):
        if value[position : position + 1] == b"\\":
            position += 1
            escaped = value[position : position + 1]
            assert escaped, "a backslash ends the value"
            assert escaped not in b"01234567x", "an octal or hexadecimal escape"
            parsed += _UNESCAPED.get(escaped, escaped)
        else:
            parsed += value[position : position + 1]
        position += 1
    return bytes(parsed)


@_NO_DEADLINE
@given(st.lists(st.tuples(st.none() | _TEXT, st.none() | _TEXT), max_size=30))
def test_any_text_comes_back(texts: list[tuple[str | None, str | None]]) -> None:
    rows = pl.DataFrame(texts, schema={"a": pl.String, "b": pl.String}, orient="row")

    parsed = _parse(copy_text(rows, ["a", "b"]))

    assert parsed == [[None if v is None else v.encode() for v in row] for row in texts]


@pytest.mark.parametrize("text", ["\\.", "\\N", "", "a\tb", "a\nb", "a\rb", "\\", "\\\\.", "N"])
def test_a_row_of_one_hostile_text_is_one_row(text: str) -> None:
    rows = pl.DataFrame({"a": [text]})

    assert _parse(copy_text(rows, ["a"])) == [[text.encode()]]


@_NO_DEADLINE
@given(st.lists(st.none() | st.binary(max_size=40), max_size=20))
def test_any_bytes_come_back_as_hexadecimal(values: list[bytes | None]) -> None:
    rows = pl.DataFrame({"a": values}, schema={"a": pl.Binary})

    parsed = _parse(copy_text(rows, ["a"]))

    assert parsed == [[None if v is None else b"\\x" + v.hex().encode()] for v in values]


@_NO_DEADLINE
@given(st.lists(st.none() | _MOMENT, max_size=20))
def test_any_moment_comes_back_to_the_microsecond(moments: list[datetime | None]) -> None:
    rows = pl.DataFrame({"a": moments}, schema={"a": pl.Datetime("us", "UTC")})

    parsed = [value for (value,) in _parse(copy_text(rows, ["a"]))]

    assert [None if v is None else datetime.fromisoformat(v.decode()) for v in parsed] == moments
    assert all(v is None or v.endswith(b"+00") for v in parsed)


@_NO_DEADLINE
@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.integers(-(2**15), 2**15 - 1),
            st.none() | st.floats(width=32, allow_nan=False),
            st.none() | st.booleans(),
        ),
        max_size=20,
    )
)
def test_any_number_comes_back_exactly(
    numbers: list[tuple[int | None, int | None, float | None, bool | None]],
) -> None:
    schema = {"a": pl.Int64, "b": pl.Int16, "c": pl.Float32, "d": pl.Boolean}
    rows = pl.DataFrame(numbers, schema=schema, orient="row")

    parsed = _parse(copy_text(rows, list(schema)))

    for (big, small, real, flag), row in zip(numbers, parsed, strict=True):
        assert row[0] == (None if big is None else str(big).encode())
        assert row[1] == (None if small is None else str(small).encode())
        assert (None if row[2] is None else _single_bits(float(row[2]))) == (
            None if real is None else _single_bits(real)
        )
        assert row[3] == (None if flag is None else str(flag).lower().encode())


def test_columns_are_written_in_the_order_asked_for() -> None:
    rows = pl.DataFrame({"a": ["1"], "b": ["2"], "c": ["3"]})

    assert copy_text(rows, ["c", "a"]) == b"3\t1\n"


def test_a_frame_without_rows_gives_no_bytes() -> None:
    assert copy_text(pl.DataFrame(schema={"a": pl.String}), ["a"]) == b""


def test_a_naive_timestamp_is_refused() -> None:
    rows = pl.DataFrame({"a": [datetime(2026, 1, 1)]})  # noqa: DTZ001 - the point

    with pytest.raises(TypeError, match="column a"):
        copy_text(rows, ["a"])


def test_a_list_column_is_refused() -> None:
    with pytest.raises(TypeError, match="column a of type List"):
        copy_text(pl.DataFrame({"a": [[1]]}), ["a"])


def test_microseconds_next_to_a_second_are_not_rounded() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)
    rows = pl.DataFrame({"a": [moment]}, schema={"a": pl.Datetime("us", "UTC")})

    assert copy_text(rows, ["a"]) == b"2025-12-31 23:59:59.999999+00\n"


def _single_bits(value: float) -> bytes:
    assert not math.isnan(value)
    return struct.pack("<f", value)
