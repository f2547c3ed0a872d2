"""Compares a table of events with another table, and with its own leaves, on the server.

Here: rows that only one of two tables has or that differ, column types included; rows whose leaf is
not that of their columns; a sum over what a leaf does not cover. Not here: files
(`archive/verify.py`), the flat digest of a partition (`retention/digest.py`), who asks
(`retention/restore.py`, `retention/drill.py`).
Guarantee: no row travels to this process; memory is that of one query of the server.

The statements are composed here, not named queries: the tables are parameters. The leaf is spelled
in SQL on purpose, a second time: it is computed from what PostgreSQL stored, not from what was
sent to it, and by code that shares nothing with `integrity/leaf.py` but the order of columns.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl
from psycopg import sql

from audit_platform.archive.columns import COLUMNS
from audit_platform.db.pool import Connection, translated
from audit_platform.integrity.leaf import LEAF_COLUMNS

TABLE_COLUMNS: Final = (*COLUMNS, "leaf_hash")
"""All columns of `audit.event`; files hold all but the last."""
DELIVERY_COLUMNS: Final = tuple(name for name in COLUMNS if name not in LEAF_COLUMNS)
"""What a leaf leaves out: when and how a row arrived. Marks cover it."""
SAMPLE_ROWS: Final = 5
MARK_BYTES: Final = 8

_KEY: Final = sql.SQL('l.tenant_id = r.tenant_id and l."timestamp" = r."timestamp" and l.id = r.id')
_COMPARE: Final = sql.SQL(
    """
    with pair as (
      select
        coalesce(l.id, r.id) as id,
        l.id is not null as is_left,
        r.id is not null as is_right,
        row({left_values}) is distinct from row({right_values}) as is_other
      from only {left} as l
      full join only {right} as r on {key}
    )
    select
      count(*) filter (where is_left) as left_rows,
      count(*) filter (where is_right) as right_rows,
      count(*) filter (where not is_right) as only_left,
      count(*) filter (where not is_left) as only_right,
      count(*) filter (where is_left and is_right and is_other) as differing,
      (array_agg(id) filter (where is_other or is_left <> is_right))[1:{sample}] as sample
    from pair
    """
)
_TYPES: Final = sql.SQL(
    """
    select coalesce(l.attname, r.attname) as name
    from (
      select attname, format_type(atttypid, atttypmod) as shown, attnotnull
      from pg_attribute
      where attrelid = {left}::regclass and attnum > 0 and not attisdropped
    ) as l
    full join (
      select attname, format_type(atttypid, atttypmod) as shown, attnotnull
      from pg_attribute
      where attrelid = {right}::regclass and attnum > 0 and not attisdropped
    ) as r on l.attname = r.attname
    where (l.shown, l.attnotnull) is distinct from (r.shown, r.attnotnull)
    order by 1
    """
)
_REVIEW: Final = sql.SQL(
    """
    select
      count(*) as n,
      count(*) filter (where leaf_hash <> {leaf}),
      coalesce(sum(('x' || encode(substr(
        sha256(leaf_hash || convert_to({delivery}, 'UTF8')), 1, {mark_bytes}
      ), 'hex'))::bit(64)::bigint), 0)
    from only {table}
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two tables side by side.

    Attributes:
        left_rows: Rows of the first.
        right_rows: Rows of the second.
        only_left: Keys that only the first has.
        only_right: Keys that only the second has.
        differing: Keys that both have, with another value in some column.
        types: Columns that differ in type or nullability, or that one of them lacks.
        sample: Ids of some rows that are not equal.
    """

    left_rows: int
    right_rows: int
    only_left: int
    only_right: int
    differing: int
    types: tuple[str, ...]
    sample: tuple[str, ...]

    @property
    def mismatches(self) -> int:
        """Rows and columns that are not equal."""
        return self.only_left + self.only_right + self.differing + len(self.types)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReview:
    """What the server says about the rows of one table.

    Attributes:
        n: Rows.
        bad_leaves: Rows whose `leaf_hash` is not that of their columns.
        mark_sum: As `sum_of_marks` of the same rows.
    """

    n: int
    bad_leaves: int
    mark_sum: int


def compare_tables(conn: Connection, left: str, right: str) -> Comparison:
    """Compare two tables row by row, by key; every column, JSON byte by byte.

    Args:
        conn: As the owner.
        left: Table in schema `audit`, with the columns of `audit.event`.
        right: Likewise.

    Raises:
        DatabaseError: A table or one of the columns is missing.
    """
    values = {
        side: sql.SQL(", ").join(_comparable(side, name) for name in TABLE_COLUMNS)
        for side in ("l", "r")
    }
    statement = _COMPARE.format(
        left=sql.Identifier("audit", left),
        right=sql.Identifier("audit", right),
        left_values=values["l"],
        right_values=values["r"],
        key=_KEY,
        sample=sql.Literal(SAMPLE_ROWS),
    )
    types = _TYPES.format(
        left=sql.Literal(f"audit.{left}"),
        right=sql.Literal(f"audit.{right}"),
    )
    with translated():
        found = conn.execute(statement).fetchone()
        other_types = conn.execute(types).fetchall()
    assert found is not None  # noqa: S101 - an aggregate has one row
    left_rows, right_rows, only_left, only_right, differing, sample = found
    return Comparison(
        left_rows=left_rows,
        right_rows=right_rows,
        only_left=only_left,
        only_right=only_right,
        differing=differing,
        types=tuple(str(one[0]) for one in other_types),
        sample=tuple(str(one) for one in sample or ()),
    )


def review_table(conn: Connection, table: str) -> TableReview:
    """Recompute every leaf of a table from its columns, on the server.

    Args:
        conn: As the owner.
        table: In schema `audit`, with the columns of `audit.event`.

    Raises:
        DatabaseError: The table or one of the columns is missing.
    """
    statement = _REVIEW.format(
        leaf=leaf_in_sql(),
        delivery=_joined(_delivered(name) for name in DELIVERY_COLUMNS),
        mark_bytes=sql.Literal(MARK_BYTES),
        table=sql.Identifier("audit", table),
    )
    with translated():
        found = conn.execute(statement).fetchone()
    assert found is not None  # noqa: S101 - an aggregate has one row
    n, bad_leaves, mark_sum = found
    return TableReview(n=n, bad_leaves=bad_leaves, mark_sum=int(mark_sum))


def leaf_in_sql() -> sql.Composed:
    """Leaf of a row as an expression over its columns."""
    text = _joined(_measured(name) for name in LEAF_COLUMNS)
    return sql.SQL("sha256('\\x00'::bytea || convert_to({}, 'UTF8'))").format(text)


def sum_of_marks(rows: pl.DataFrame) -> int:
    """Sum a number per row that changes with each column its leaf leaves out.

    Two tables with the same rows have the same sum, in whatever order; one other value of when or
    how a row arrived gives another one.

    Args:
        rows: `DELIVERY_COLUMNS` as `read.frame_of` makes them, and `leaf_hash`.
    """
    texts = rows.select(pl.concat_str(map(_delivery_text, DELIVERY_COLUMNS), separator=","))
    leaves, sha256 = rows["leaf_hash"].to_list(), hashlib.sha256
    delivered = texts.to_series().cast(pl.Binary).to_list()
    pairs = zip(leaves, delivered, strict=True)
    heads = b"".join([sha256(leaf + text).digest()[:MARK_BYTES] for leaf, text in pairs])
    return sum(struct.unpack(f">{rows.height}q", heads))


def _delivery_text(name: str) -> pl.Expr:
    column = pl.col(name)
    if name in _TIMES:
        column = column.dt.epoch("us")
    return column.cast(pl.String).fill_null("-")


def _comparable(side: str, name: str) -> sql.Composable:
    column = sql.Identifier(side, name)
    # json has no equality; its text is what was sent, byte by byte.
    return sql.SQL("{}::text").format(column) if name in _JSON_COLUMNS else column


_JSON_COLUMNS: Final = frozenset({"changes", "metadata", "context"})
_TIMES: Final = frozenset({"timestamp", "received_at", "ingested_at"})


def _joined(pieces: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL("concat_ws(',', {})").format(sql.SQL(", ").join(pieces))


def _measured(name: str) -> sql.Composable:
    """`<length in bytes>:<text>`, or `-:` for null."""
    return sql.SQL("coalesce(octet_length({text}) || ':' || {text}, '-:')").format(text=_text(name))


def _delivered(name: str) -> sql.Composable:
    return sql.SQL("coalesce({}, '-')").format(_text(name))


def _text(name: str) -> sql.Composable:
    column = sql.Identifier(name)
    if name in _TIMES:
        return sql.SQL("(extract(epoch from {}) * 1000000)::bigint::text").format(column)
    if name == "sampled_rate":
        # A zero has no sign in a leaf.
        return sql.SQL("case when {0} = 0 then '0' else {0}::text end").format(column)
    return sql.SQL("{}::text").format(column)
