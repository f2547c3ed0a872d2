"""Numbers that rows carry, by run of a producer, as ranges (pure).

Here: folding rows into ranges, whatever order they come in. Not here: where rows come from
(`events/row_check.py`), what ranges have to do with one another (`events/number_ranges.py`).
Guarantee: a number that several rows carry is one number and several rows. Memory grows with the
ranges: rows of one time and all their tenants close up to few, so there are at most as many as rows
not folded yet (`_FOLD_AT`), or twice the ranges that are left.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from audit_platform.events.number_ranges import Ranges, Run

_FOLD_AT: Final = 500_000
_HIGHEST: Final = 2**63 - 2
"""The ledger keeps a number above it as this one: its ranges end one further."""
_RUN: Final = ("producer_id", "epoch")
_COLUMNS: Final = (*_RUN, "first", "last", "row_count")
_SCHEMA: Final = pl.Schema((name, pl.Int64) for name in _COLUMNS)


class RowNumbers:
    """Numbers of any runs, with the count of their rows."""

    def __init__(self, *, fold_at: int = _FOLD_AT) -> None:
        """Start empty.

        Args:
            fold_at: Ranges that may wait until they are folded into the others.
        """
        self._fold_at = fold_at
        self._folded = pl.DataFrame(schema=_SCHEMA)
        self._parts: list[pl.DataFrame] = []
        self._waiting = 0

    def add_rows(self, rows: pl.DataFrame, producer_ids: Sequence[int] | None = None) -> None:
        """Add the numbers of rows.

        Args:
            rows: With `producer_id`, `producer_epoch`, `producer_seq`; rows without number have
                none to add.
            producer_ids: Only these; None: all.
        """
        numbered = rows.filter(pl.col("producer_id").is_not_null())
        if producer_ids is not None:
            numbered = numbered.filter(pl.col("producer_id").is_in(list(producer_ids)))
        number = pl.col("producer_seq").clip(upper_bound=_HIGHEST)
        self.add_ranges(
            numbered.select(
                producer_id="producer_id",
                epoch="producer_epoch",
                first=number,
                last=number,
                row_count=pl.lit(1),
            )
        )

    def add_islands(self, rows: Sequence[Sequence[int]]) -> None:
        """Add ranges as PostgreSQL gives them: producer, epoch, first, last, number of rows."""
        self.add_ranges(pl.DataFrame(rows, schema=_SCHEMA, orient="row"))

    def add_ranges(self, ranges: pl.DataFrame) -> None:
        """Add ranges: `producer_id`, `epoch`, `first`, `last`, `row_count`, in any order."""
        if ranges.is_empty():
            return
        # Within a batch numbers mostly follow one another: it shrinks before it is kept.
        part = _fold(ranges.select(_COLUMNS).cast(_SCHEMA))
        self._parts.append(part)
        self._waiting += part.height
        if self._waiting > max(self._fold_at, self._folded.height):
            self._fold_all()

    def add(self, other: "RowNumbers") -> None:
        """Add all that another one holds."""
        self.add_ranges(other.ranges())

    def ranges(self) -> pl.DataFrame:
        """Give the ranges: no two of a run overlap or touch, all in ascending order."""
        self._fold_all()
        return self._folded

    def by_run(self) -> dict[Run, tuple[int, Ranges]]:
        """Give the number of rows and the ranges of each run."""
        runs = self.ranges().group_by(_RUN, maintain_order=True)
        return {
            (producer_id, epoch): (row_count, tuple(zip(firsts, lasts, strict=True)))
            for producer_id, epoch, row_count, firsts, lasts in runs.agg(
                pl.col("row_count").sum(), "first", "last"
            ).iter_rows()
        }

    def _fold_all(self) -> None:
        if self._parts:
            self._folded = _fold(pl.concat([self._folded, *self._parts]))
            self._parts, self._waiting = [], 0


def _fold(ranges: pl.DataFrame) -> pl.DataFrame:
    reach = pl.col("last").cum_max().shift(1).over(_RUN)
    # The first range of a run follows nothing. `first - 1` cannot overflow, `reach + 1` could.
    is_apart = (pl.col("first") - 1 > reach).fill_null(value=True)
    return (
        ranges.sort(*_RUN, "first")
        .with_columns(island=is_apart.cum_sum())
        .group_by("island", maintain_order=True)
        .agg(
            *(pl.col(name).first() for name in (*_RUN, "first")),
            pl.col("last").max(),
            pl.col("row_count").sum(),
        )
        .select(_COLUMNS)
    )
