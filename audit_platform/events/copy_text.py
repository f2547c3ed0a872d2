r"""Frame to the bytes of PostgreSQL's COPY text format (pure).

Here: the text of each column type, escaping, NULL. Not here: the COPY itself and which columns a
table takes (`events/copy_rows.py`), and whether a value may be stored (`events/frame.py`).
Guarantee: COPY reads back exactly the values of the frame, whatever a text holds; since every
backslash is doubled, no row can read as the end marker `\.`, and no text as NULL.

Source: PostgreSQL 18 manual, COPY, "Text Format"; 16 reads these bytes alike.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Final

import polars as pl

# Only these four end a value, end a row or start an escape; all other bytes stand for themselves.
_SPECIAL: Final = r"[\\\t\n\r]"
_ESCAPES: Final = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_NULL: Final = "\\N"
_BYTEA_PREFIX: Final = "\\\\x"
_TIMESTAMP_FORMAT: Final = "%Y-%m-%d %H:%M:%S%.6f+00"


def copy_text(rows: pl.DataFrame, columns: Sequence[str]) -> bytes:
    """Write rows as COPY text, one line per row.

    Args:
        rows: String columns without NUL, which no PostgreSQL text holds; timestamps aware, UTC,
            years 1 to 9999.
        columns: Names of the columns to write, in the order of the COPY's column list.

    Returns:
        UTF-8; empty for a frame without rows.

    Raises:
        TypeError: A column has a type that no column of ours has, or a timestamp is naive.
        polars.exceptions.ColumnNotFoundError: The frame lacks a column.
    """
    text = rows.select(_as_text(rows[name]) for name in columns)
    buffer = BytesIO()
    text.write_csv(
        buffer,
        include_header=False,
        separator="\t",
        line_terminator="\n",
        quote_style="never",
        null_value=_NULL,
        datetime_format=_TIMESTAMP_FORMAT,
    )
    return buffer.getvalue()


def _as_text(column: pl.Series) -> pl.Expr:
    value = pl.col(column.name)
    match column.dtype:
        case pl.String:
            return _escaped(column)
        case pl.Binary:
            return pl.concat_str(pl.lit(_BYTEA_PREFIX), value.bin.encode("hex"))
        case pl.Datetime(time_zone="UTC"):
            return value
        case dtype if dtype.is_integer() or dtype.is_float() or dtype == pl.Boolean:
            return value
        case dtype:
            raise TypeError(f"COPY text has no form for column {column.name} of type {dtype}")


def _escaped(column: pl.Series) -> pl.Expr:
    """Escape a text column; most hold nothing to escape and are passed on as they are."""
    value = pl.col(column.name)
    if not column.str.contains(_SPECIAL).any():
        return value
    return value.str.replace_many(list(_ESCAPES), list(_ESCAPES.values()))
