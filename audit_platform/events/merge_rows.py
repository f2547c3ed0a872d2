"""Merge path: rows through a temporary stage into `audit.event` and `audit.event_late`.

Here: the stage, `on conflict do nothing`, the search for collisions, and isolating rows that the
database refuses. Not here: the direct COPY and the transaction around both (`events/copy_rows.py`).
Guarantee: a staged row ends in exactly one of: added, present already with the same leaf, present
with another leaf, refused.

The comparison of leaves follows the insert: by then any concurrent duplicate has committed and is
visible. Rows are inserted in key order, so that two runs take their locks alike (design: delivery,
section 7). These statements are composed here, not named queries: the stage exists only inside
the transaction, and its columns come from the schema of the frame.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import polars as pl
from psycopg import sql

from audit_platform.crash_points import crash
from audit_platform.db.pool import Connection, transaction, translated
from audit_platform.errors import (
    DatabaseError,
    PartitionMissing,
    RowCountMismatch,
    RowRefused,
)
from audit_platform.events.copy_text import copy_text
from audit_platform.events.split_rows import LATE_REASON, NO_PARTITION, Split

ROW_NO: Final = "row_no"
EVENT: Final = sql.Identifier("audit", "event")
EVENT_LATE: Final = sql.Identifier("audit", "event_late")
STAGE: Final = sql.Identifier("pg_temp", "stage")

_CREATE = sql.SQL(
    "create temporary table if not exists stage"
    " (like audit.event_shape including defaults, late_reason text, row_no int)"
    " on commit delete rows"
)
_IN_RANGE = sql.SQL("s.row_no >= %(lo)s and s.row_no < %(hi)s")
_KEY_ORDER = sql.SQL('s.tenant_id, s."timestamp", s.id')
_SAME_KEY = sql.SQL('e.tenant_id = s.tenant_id and e."timestamp" = s."timestamp" and e.id = s.id')
_INSERT_OPEN = sql.SQL(
    "insert into {event} ({columns}) select {columns} from {stage} s"
    " where s.late_reason is null and {in_range} order by {key_order} on conflict do nothing"
)
_INSERT_LATE = sql.SQL(
    "insert into {late} ({columns}, late_reason) select {columns}, s.late_reason from {stage} s"
    " where s.late_reason is not null and {in_range}"
    " and not exists (select from {event} e where {same_key})"
    " order by {key_order} on conflict do nothing returning tenant_id, id"
)
# A staged row that is stored nowhere was swallowed, for example by a trigger. Without this outer
# join it would pass for a duplicate and be acknowledged.
_DIFFERING = sql.SQL(
    "select s.row_no, coalesce(e.leaf_hash, l.leaf_hash) is null as is_absent from {stage} s"
    " left join {event} e on {same_key}"
    ' and e."timestamp" between %(first)s and %(last)s'
    " left join {late} l on s.late_reason is not null"
    ' and l.tenant_id = s.tenant_id and l."timestamp" = s."timestamp" and l.id = s.id'
    " where coalesce(e.leaf_hash, l.leaf_hash) is distinct from s.leaf_hash"
)
_MARK_LATE = sql.SQL(
    "update {stage} s set late_reason = %(reason)s where s.row_no = any(%(row_nos)s)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One row that the database refused."""

    row_no: int
    error: DatabaseError


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What became of the rows of one batch; the rest of them was there already."""

    n_new: int
    n_late: int
    collided: tuple[int, ...] = ()
    refused: tuple[Refusal, ...] = ()
    late_rows: tuple[int, ...] = ()
    """The rows that `n_late` counts."""


@dataclass(slots=True)
class Isolation:
    """Result of `bisect`: rows affected, and the rows that failed alone."""

    affected: int = 0
    failed: list[Refusal] = field(default_factory=list)


def copy_into(
    connection: Connection,
    table: sql.Identifier,
    columns: tuple[str, ...],
    rows: pl.DataFrame,
    *,
    data: bytes | None = None,
) -> None:
    """COPY rows into a table, in text format.

    Args:
        connection: Inside a transaction.
        table: Has the columns.
        columns: Of the rows, in the order of the text.
        rows: What is copied.
        data: The rows as text, if it was made before.

    Raises:
        RowCountMismatch: The server took another number of rows, for example because a row ended
            the data early.
        RowRefused: A row cannot be stored; `fields["row_no"]` names it where the server did.
    """
    statement = sql.SQL("copy {} ({}) from stdin").format(table, _columns(columns))
    data = copy_text(rows, columns) if data is None else data
    half = len(data) // 2
    with _naming_row(rows), translated(), connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.write(data[:half])
            crash("C_MIDCOPY")
            copy.write(data[half:])
        stored = cursor.rowcount
    if stored != rows.height:
        raise RowCountMismatch(sent=rows.height, stored=stored)


@contextmanager
def _naming_row(rows: pl.DataFrame) -> Iterator[None]:
    """Translate the line that COPY names into the row's number within the batch."""
    try:
        yield
    except RowRefused as exc:
        if exc.copy_line is not None and exc.copy_line <= rows.height:
            exc.fields[ROW_NO] = rows[ROW_NO][exc.copy_line - 1]
        raise


class Merge:
    """The merge path inside one transaction."""

    def __init__(self, connection: Connection, columns: tuple[str, ...]) -> None:
        """Create the stage where it is missing.

        Args:
            connection: Of the writer, inside a transaction.
            columns: Columns of `audit.event` that the rows carry.
        """
        self._connection = connection
        self._columns = columns
        self._late_keys: set[tuple[str, str]] = set()
        connection.execute(_CREATE)

    def load(self, split: Split, *, row_count: int) -> Loaded:
        """Stage all rows, insert what is new, find collisions.

        Raises:
            RowRefused: The database refuses a row; nothing names it.
            PartitionMissing: The ranges used for the split are out of date.
        """
        staged = _staged(split)
        self._stage(staged)
        crash("M_STAGED")
        n_new = self._insert(_INSERT_OPEN, 0, row_count)
        n_late = self._insert_late(0, row_count)
        crash("M_MERGED")
        return self._loaded(staged, n_new=n_new, n_late=n_late, refused=())

    def load_isolating(self, split: Split, *, row_count: int) -> Loaded:
        """Do as `load`, but set refused rows apart by bisecting with savepoints.

        A row for which no partition is found even alone becomes late.
        """
        staged = _staged(split)
        staging = bisect(lambda lo, hi: self._stage_part(staged, lo, hi), row_count)
        inserted = bisect(lambda lo, hi: self._insert_part(_INSERT_OPEN, lo, hi), row_count)
        homeless = {x.row_no for x in inserted.failed if isinstance(x.error, PartitionMissing)}
        self._mark_late(sorted(homeless))
        late = bisect(self._insert_late_part, row_count)
        refused = [*staging.failed, *inserted.failed, *late.failed]
        return self._loaded(
            staged,
            n_new=inserted.affected,
            n_late=late.affected,
            refused=tuple(one for one in refused if not isinstance(one.error, PartitionMissing)),
        )

    def _stage(self, staged: pl.DataFrame) -> None:
        copy_into(self._connection, STAGE, (*self._columns, LATE_REASON, ROW_NO), staged)

    def _stage_part(self, staged: pl.DataFrame, lo: int, hi: int) -> int:
        part = staged.filter(pl.col(ROW_NO).is_between(lo, hi, closed="left"))
        with transaction(self._connection):
            self._stage(part)
        return part.height

    def _insert(self, template: sql.SQL, lo: int, hi: int) -> int:
        statement = self._compose(template)
        return self._connection.execute(statement, {"lo": lo, "hi": hi}).rowcount

    def _insert_part(self, template: sql.SQL, lo: int, hi: int) -> int:
        with transaction(self._connection):
            return self._insert(template, lo, hi)

    def _insert_late(self, lo: int, hi: int) -> int:
        added = self._connection.execute(self._compose(_INSERT_LATE), {"lo": lo, "hi": hi})
        self._late_keys.update((tenant_id, str(event_id)) for tenant_id, event_id in added)
        return added.rowcount

    def _insert_late_part(self, lo: int, hi: int) -> int:
        with transaction(self._connection):
            return self._insert_late(lo, hi)

    def _mark_late(self, row_nos: list[int]) -> None:
        if row_nos:
            self._connection.execute(
                self._compose(_MARK_LATE), {"reason": NO_PARTITION, "row_nos": row_nos}
            )

    def _loaded(
        self, staged: pl.DataFrame, *, n_new: int, n_late: int, refused: tuple[Refusal, ...]
    ) -> Loaded:
        known = {refusal.row_no for refusal in refused}
        differing: list[tuple[int, bool]] = []
        # Only a row that was not added can differ from what is stored.
        if n_new + n_late + len(refused) < staged.height:
            differing = [one for one in self._differing(staged) if one[0] not in known]
        absent = [
            Refusal(row_no=no, error=RowCountMismatch()) for no, is_absent in differing if is_absent
        ]
        return Loaded(
            n_new=n_new,
            n_late=n_late,
            collided=tuple(no for no, is_absent in differing if not is_absent),
            refused=(*refused, *absent),
            late_rows=self._late_rows(staged) if n_late else (),
        )

    def _late_rows(self, staged: pl.DataFrame) -> tuple[int, ...]:
        rows = staged.select("tenant_id", "id", ROW_NO).iter_rows()
        return tuple(no for tenant_id, id_, no in rows if (tenant_id, id_) in self._late_keys)

    def _differing(self, staged: pl.DataFrame) -> list[tuple[int, bool]]:
        """Rows whose content is not what is stored under their key, with "nothing is stored"."""
        bounds = {"first": staged["timestamp"].min(), "last": staged["timestamp"].max()}
        rows = self._connection.execute(self._compose(_DIFFERING), bounds).fetchall()
        return sorted((row_no, is_absent) for row_no, is_absent in rows)

    def _compose(self, template: sql.SQL) -> sql.Composed:
        return template.format(
            event=EVENT,
            late=EVENT_LATE,
            stage=STAGE,
            columns=_columns(self._columns),
            in_range=_IN_RANGE,
            key_order=_KEY_ORDER,
            same_key=_SAME_KEY,
        )


def bisect(attempt: Callable[[int, int], int], count: int) -> Isolation:
    """Load [0, count) in as few parts as the failing rows allow.

    Args:
        attempt: Loads [lo, hi) or nothing, and returns the rows affected.
        count: Number of rows.

    Returns:
        About 2 · log2(count) attempts for one failing row; the failing rows in order.
    """
    result = Isolation()
    parts = [(0, count)]
    while parts:
        lo, hi = parts.pop()
        if lo == hi:
            continue
        try:
            result.affected += attempt(lo, hi)
        except (RowRefused, RowCountMismatch, PartitionMissing) as exc:
            if hi - lo == 1:
                result.failed.append(Refusal(row_no=lo, error=exc))
                continue
            middle = (lo + hi) // 2
            parts += [(middle, hi), (lo, middle)]
    return result


def _staged(split: Split) -> pl.DataFrame:
    open_ = split.open_.with_columns(pl.lit(None, dtype=pl.String).alias(LATE_REASON))
    return pl.concat([open_, split.late.select(open_.columns)])


def _columns(names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
