"""The newest matching rows of some open files of one partition.

Here: which row groups are read and in which order, the newest matches of all. Not here: which files
(`search/cold.py`), filters (`search/cold_filter.py`), decoding (`search/cold_file.py`).
Guarantee: exactly the newest matches, each event once. A row group is left alone when its
statistics say that nothing in it matches, or when newer rows are enough already.

Rows are read twice: small columns of whole row groups to find the newest matches, then all columns
of those rows. So a page of 50 costs the columns of its filters, not those of the events.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

import polars as pl

from audit_platform.archive.columns import COLUMNS
from audit_platform.events.event import timestamp_us
from audit_platform.search.cold_file import ColdFile
from audit_platform.search.cold_filter import KEY, ColdFilter
from audit_platform.search.time_limit import TimeLimit

_ROW: Final = "row"
_FILE: Final = "file"
_GROUP: Final = "group"


class Scan(NamedTuple):
    """What a scan found.

    Attributes:
        rows: All columns, newest first.
        groups_read: Row groups of which at least one column was read.
    """

    rows: pl.DataFrame
    groups_read: int


class _Group(NamedTuple):
    """A row group that may hold matches."""

    newest_us: int
    file: int
    number: int


def scan(
    files: Sequence[ColdFile], conditions: ColdFilter, *, wanted: int, limit: TimeLimit
) -> Scan:
    """Find the newest matches.

    Args:
        files: Open, of one partition.
        conditions: What must hold.
        wanted: Rows at most, at least one.
        limit: Of the search.

    Raises:
        InvalidQuery: The time of the search is over.
        ArchiveError: A file has no copy that can be decoded.
    """
    best: pl.DataFrame | None = None
    oldest_us = timestamp_us(conditions.since)
    groups_read = 0
    for group in _groups(files, conditions):
        # Ordered by their newest row: what follows is older still.
        if group.newest_us < oldest_us:
            break
        limit.check(f"in the archive of {conditions.since:%Y-%m-%d}")
        found = _matches(files[group.file], group, conditions, oldest_us, wanted)
        best = found if best is None else _sorted(pl.concat([best, found])).head(wanted)
        groups_read += 1
        if best.height == wanted:
            oldest_us = int(best["timestamp"].to_physical()[-1])
    if best is None or not best.height:
        return Scan(pl.DataFrame(), groups_read)
    return Scan(_complete(files, best), groups_read)


def _groups(files: Sequence[ColdFile], conditions: ColdFilter) -> list[_Group]:
    """Row groups that may hold matches, those with the newest rows first."""
    found: list[_Group] = []
    for position, file in enumerate(files):
        for number in range(file.group_count):
            extremes = partial(file.extremes, number)
            if conditions.may_match(extremes):
                newest = extremes("timestamp").greatest or conditions.until
                found.append(_Group(timestamp_us(newest), position, number))
    return sorted(found, reverse=True)


def _matches(
    file: ColdFile, group: _Group, conditions: ColdFilter, oldest_us: int, wanted: int
) -> pl.DataFrame:
    """Newest matches of one row group: their keys and where they are."""
    first, *others = conditions.stages
    rows = file.read(group.number, first.columns).with_row_index(_ROW)
    rows = rows.filter(first.condition, pl.col("timestamp").to_physical() >= oldest_us)
    for stage in others:
        rows = _with_columns(file, group, rows, stage.columns).filter(stage.condition)
    rows = _sorted(_with_columns(file, group, rows, KEY))
    if conditions.json:
        is_match = enumerate(conditions.holds_json(rows))
        positions = list(islice((n for n, holds in is_match if holds), wanted))
        rows = rows[pl.Series(positions, dtype=pl.UInt32)]
    return rows.head(wanted).select(
        *KEY,
        pl.lit(group.file, pl.Int32).alias(_FILE),
        pl.lit(group.number, pl.Int32).alias(_GROUP),
        _ROW,
    )


def _with_columns(
    file: ColdFile, group: _Group, rows: pl.DataFrame, columns: Sequence[str]
) -> pl.DataFrame:
    """Add columns that are not there yet; nothing is read where no row is left."""
    missing = [name for name in columns if name not in rows.columns]
    if not missing:
        return rows
    if not rows.height:
        return rows.with_columns(pl.lit(None, _dtype(name)).alias(name) for name in missing)
    return rows.hstack(file.read(group.number, missing)[rows[_ROW]])


def _dtype(name: str) -> pl.DataType:
    return pl.Binary() if name == "id" else pl.String()


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    """Newest first; an event that stands twice is one."""
    ordered = rows.sort(KEY, descending=True)
    return ordered.unique(subset=["tenant_id", "id"], keep="first", maintain_order=True)


def _complete(files: Sequence[ColdFile], best: pl.DataFrame) -> pl.DataFrame:
    """All columns of the rows found, in their order."""
    taken = [_taken(files, places) for places in _by_group(best)]
    # Joined by place and not by key: nothing says that a damaged writer left no key twice.
    return (
        best.select(_FILE, _GROUP, _ROW)
        .join(pl.concat(taken), on=[_FILE, _GROUP, _ROW], how="left", maintain_order="left")
        .select(COLUMNS)
    )


def _by_group(best: pl.DataFrame) -> Iterator[pl.DataFrame]:
    places = best.select(_FILE, _GROUP, _ROW).sort(_FILE, _GROUP, _ROW)
    yield from places.partition_by(_FILE, _GROUP, maintain_order=True)


def _taken(files: Sequence[ColdFile], places: pl.DataFrame) -> pl.DataFrame:
    rows = files[places[_FILE][0]].take(places[_GROUP][0], places[_ROW].to_list())
    return rows.hstack(places)
