"""Open or late: splits rows by the partitions that take them.

Here: the ranges of `audit.partition`, and the vectorised split. Not here: bad timestamps, which
`events/frame.py` has set aside, and creating partitions (`retention/lifecycle.py`).
Guarantee: every row comes out once; rows that no open partition takes come out with their reason.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

import polars as pl

from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries

LATE_REASON: Final = "late_reason"
NO_PARTITION: Final = "no_partition"
SEALED: Final = "sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRanges:
    """Disjoint ranges [lo, hi) in time order, microseconds since 1970, with "takes rows"."""

    lo_us: pl.Series
    hi_us: pl.Series
    is_open: pl.Series

    @classmethod
    def of_rows(cls, rows: list[tuple[datetime, datetime, str]]) -> Self:
        """Build from (lo, hi, state), sorted by lo."""
        lo = pl.Series("lo", [row[0] for row in rows], dtype=pl.Datetime("us", "UTC"))
        hi = pl.Series("hi", [row[1] for row in rows], dtype=pl.Datetime("us", "UTC"))
        is_open = pl.Series("is_open", [row[2] == "open" for row in rows], dtype=pl.Boolean)
        return cls(lo_us=lo.to_physical(), hi_us=hi.to_physical(), is_open=is_open)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Rows by what takes them; `late` has the column `late_reason` beside those of `open_`."""

    open_: pl.DataFrame
    late: pl.DataFrame


def read_ranges(connection: Connection) -> PartitionRanges:
    """Read the ranges that exist now."""
    return PartitionRanges.of_rows(
        connection.execute(load_queries("events")["read_partitions"]).fetchall()
    )


def split_rows(rows: pl.DataFrame, ranges: PartitionRanges) -> Split:
    """Split rows, keeping their order.

    Args:
        rows: With `timestamp` in UTC microseconds.
        ranges: Sorted and disjoint.
    """
    reasons = _late_reasons(rows["timestamp"].to_physical(), ranges)
    is_open = reasons.is_null()
    if is_open.all():
        return Split(open_=rows, late=_with_reason(rows.clear(), reasons.clear()))
    late = _with_reason(rows.filter(~is_open), reasons.filter(~is_open))
    return Split(open_=rows.filter(is_open), late=late)


def _with_reason(rows: pl.DataFrame, reasons: pl.Series) -> pl.DataFrame:
    return rows.with_columns(reasons.alias(LATE_REASON))


def _late_reasons(timestamps_us: pl.Series, ranges: PartitionRanges) -> pl.Series:
    if ranges.lo_us.is_empty():
        return pl.Series([NO_PARTITION], dtype=pl.String).new_from_index(0, len(timestamps_us))
    # The last range that starts at or before each timestamp; -1 where none does.
    index = ranges.lo_us.search_sorted(timestamps_us, side="right").cast(pl.Int64) - 1
    nearest = index.clip(lower_bound=0)
    is_inside = (index >= 0) & (timestamps_us < ranges.hi_us.gather(nearest))
    is_open = is_inside & ranges.is_open.gather(nearest)
    frame = pl.DataFrame({"is_inside": is_inside, "is_open": is_open})
    return frame.select(
        pl.when("is_open")
        .then(None)
        .when("is_inside")
        .then(pl.lit(SEALED))
        .otherwise(pl.lit(NO_PARTITION))
        .cast(pl.String)
        .alias(LATE_REASON)
    )[LATE_REASON]
