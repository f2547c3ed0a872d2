"""How much of a table or an index is bloat, estimated from the catalog (pure).

Here: the arithmetic. Not here: reading the catalog (`retention/sizes.py`).
An estimate: the room that rows of the average width (`pg_stats`) would take, against the pages
there are. It is unknown until a table was analyzed, some per cent wrong for rows of very different
widths, and too low for an index whose equal keys PostgreSQL stored once. The extension that
measures instead, pgstattuple, reads the whole table and is often not installed.
"""

import math
from typing import Final

_PAGE_HEADER: Final = 24
_LINE_POINTER: Final = 4
_ROW_HEADER: Final = 23
_ALIGNED: Final = 8
_INDEX_ROW_HEADER: Final = 8
_BTREE_SPECIAL: Final = 16
_BTREE_FILL: Final = 0.9
_MEAN_PADDING: Final = 4.0
"""Rows of any width are padded to a multiple of 8: half of that on average."""


def heap_bloat(
    *,
    rows: float,
    pages: int,
    data_width: float,
    columns: int,
    has_nulls: bool,
    block_bytes: int,
) -> float:
    """Estimate the share of a table's pages that its rows do not need, 0 to 1.

    Args:
        rows: As counted by the last analyze or vacuum.
        pages: At the same moment.
        data_width: Average bytes of all columns together.
        columns: Of the table; they give the length of the null bitmap.
        has_nulls: Whether rows carry one.
        block_bytes: Of one page.
    """
    bitmap = math.ceil(columns / 8) if has_nulls else 0
    header = math.ceil((_ROW_HEADER + bitmap) / _ALIGNED) * _ALIGNED
    row = _LINE_POINTER + header + data_width + _MEAN_PADDING
    per_page = max((block_bytes - _PAGE_HEADER) // row, 1)
    return _spare(rows / per_page, pages)


def btree_bloat(*, rows: float, pages: int, key_width: float, block_bytes: int) -> float:
    """Estimate the share of a btree's pages that its entries do not need, 0 to 1."""
    entry = _LINE_POINTER + _INDEX_ROW_HEADER + key_width + _MEAN_PADDING
    room = (block_bytes - _PAGE_HEADER - _BTREE_SPECIAL) * _BTREE_FILL
    # One page is the description of the index.
    return _spare(rows / max(room // entry, 1) + 1, pages)


def _spare(needed_pages: float, pages: int) -> float:
    return min(max(1 - math.ceil(needed_pages) / pages, 0.0), 1.0) if pages else 0.0
