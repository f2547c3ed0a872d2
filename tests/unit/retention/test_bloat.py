"""The estimate of bloat: none for what is packed, a half for what is half empty."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from audit_platform.retention.bloat import btree_bloat, heap_bloat

BLOCK = 8_192
# A row of 100 bytes of data, 31 columns with nulls: 4 + 32 + 100 + 4 bytes, 58 to a page.
ROW: dict[str, Any] = {"data_width": 100.0, "columns": 31, "has_nulls": True, "block_bytes": BLOCK}


def test_packed_table_has_no_bloat() -> None:
    assert heap_bloat(rows=58_000, pages=1_000, **ROW) == 0.0


def test_half_empty_table_is_half_bloat() -> None:
    assert heap_bloat(rows=29_000, pages=1_000, **ROW) == 0.5


def test_empty_table_with_pages_is_all_bloat_and_without_pages_none() -> None:
    assert heap_bloat(rows=0, pages=10, **ROW) == 1.0
    assert heap_bloat(rows=0, pages=0, **ROW) == 0.0


def test_null_bitmap_counts_only_where_rows_have_one() -> None:
    with_nulls = heap_bloat(rows=40_000, pages=1_000, **ROW)
    without = heap_bloat(rows=40_000, pages=1_000, **(ROW | {"has_nulls": False}))

    assert without > with_nulls


def test_btree_is_bloat_where_its_entries_need_fewer_pages() -> None:
    # 4 + 8 + 24 + 4 bytes in 90 % of a page: 183 entries.
    full = btree_bloat(rows=183_000, pages=1_001, key_width=24.0, block_bytes=BLOCK)
    half = btree_bloat(rows=91_500, pages=1_001, key_width=24.0, block_bytes=BLOCK)

    assert full == 0.0
    assert 0.49 < half < 0.51


@given(st.floats(0, 1e9), st.integers(0, 10**7), st.floats(0, 2e6), st.booleans())
def test_estimate_is_a_share(rows: float, pages: int, width: float, has_nulls: bool) -> None:
    table = heap_bloat(
        rows=rows,
        pages=pages,
        data_width=width,
        columns=31,
        has_nulls=has_nulls,
        block_bytes=BLOCK,
    )
    index = btree_bloat(rows=rows, pages=pages, key_width=width, block_bytes=BLOCK)

    assert 0.0 <= table <= 1.0
    assert 0.0 <= index <= 1.0
