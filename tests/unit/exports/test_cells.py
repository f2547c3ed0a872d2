"""Cells of a spreadsheet hold no formula; text stays what it was otherwise."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.archive import columns as archived
from audit_platform.exports.cells import COLUMNS, cell_text, spreadsheet_safe

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@given(st.sampled_from(STARTS), st.text(max_size=20))
def test_formula_gets_a_leading_quote(start: str, rest: str) -> None:
    assert spreadsheet_safe(start + rest) == f"'{start}{rest}"


@given(st.text(max_size=20))
def test_safe_cell_starts_with_no_formula_and_keeps_its_text(text: str) -> None:
    safe = spreadsheet_safe(text)

    assert not safe.startswith(STARTS)
    assert safe in {text, f"'{text}"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (1.5, "1.5"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (
            datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2))),
            "2026-01-02T01:04:05.000006Z",
        ),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00.000000Z"),
        ('{"a": 1e400}', '{"a": 1e400}'),
    ],
)
def test_text_of_a_cell_is_that_of_the_wire(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_exported_columns_are_the_archived_ones() -> None:
    """An export in Parquet has the schema of the archive."""
    assert COLUMNS == archived.COLUMNS
