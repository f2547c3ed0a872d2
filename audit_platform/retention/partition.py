"""Names, bounds and needs of the partitions of `audit.event` (pure).

Here: which partition takes a moment, which ones are missing, how far the existing ones reach, the
indexes and storage parameters each one carries. Not here: the statements that create one
(`retention/lifecycle.py`).
Guarantee: bounds are UTC, half-open and aligned, so that partitions of one interval never overlap.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final, LiteralString

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
WEEK: Final = timedelta(weeks=1)
# Two daily ticks: one may be missed, and hourly partitions still do not run out before the next.
MIN_HORIZON: Final = 2 * DAY


class PartitionInterval(StrEnum):
    """Range of one partition."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


FINER: Final = {
    PartitionInterval.MONTH: PartitionInterval.DAY,
    PartitionInterval.WEEK: PartitionInterval.DAY,
    PartitionInterval.DAY: PartitionInterval.HOUR,
}
"""What fills the rest of a range that another interval covers in part; hours are never split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HotIndex:
    """A btree index of `audit.event` that every partition carries from its first row.

    Attributes:
        suffix: Last part of the name: `<partition>_<suffix>`, and `event_<suffix>` on the parent.
        columns: Column list, in the words of the migration.
        where: Predicate of a partial index, likewise.
    """

    suffix: str
    columns: LiteralString
    where: LiteralString | None = None


PRIMARY_KEY: Final = 'tenant_id, "timestamp", id'
HOT_INDEXES: Final = (
    HotIndex(suffix="entity", columns='tenant_id, entity_type, entity_id, "timestamp" desc'),
    HotIndex(suffix="user", columns='tenant_id, user_id, "timestamp" desc'),
    HotIndex(suffix="action", columns='tenant_id, action, "timestamp" desc'),
    HotIndex(suffix="failure", columns='tenant_id, "timestamp" desc', where="status <> 'success'"),
)
"""Equal to what the migration declares on the parent (a test compares them): ATTACH only links."""


HOT_STORAGE: Final[tuple[tuple[LiteralString, LiteralString], ...]] = (
    # Rows are only added. By share of the table (the default) a day of 5 million rows would first
    # be vacuumed often and then hardly; by number each vacuum reads the same few new pages, so that
    # index-only scans work on all but the newest minutes.
    ("autovacuum_vacuum_insert_scale_factor", "0"),
    ("autovacuum_vacuum_insert_threshold", "250000"),
    # A stored row never changes: freeze it at once, while its page is in memory, and not in the
    # vacuum against wrap-around, which would write the whole table again.
    ("autovacuum_freeze_min_age", "0"),
    # Giving empty pages at the end back takes ACCESS EXCLUSIVE: readers and writers would wait.
    ("vacuum_truncate", "off"),
    ("toast.autovacuum_freeze_min_age", "0"),
    ("toast.vacuum_truncate", "off"),
)
"""Storage parameters of a partition from its first row; equal to those of migration 0003."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionBounds:
    """One partition: `lo` belongs to it, `hi` does not.

    Attributes:
        name: Table name without schema, for example `event_20261201`.
    """

    name: str
    lo: datetime
    hi: datetime

    def __post_init__(self) -> None:
        """Refuse naive or empty bounds.

        Raises:
            ValueError: A bound has no time zone, or `lo` is not before `hi`.
        """
        if self.lo.tzinfo is None or self.hi.tzinfo is None:
            raise ValueError(f"bounds of {self.name} have no time zone; pass aware datetimes")
        if self.lo >= self.hi:
            raise ValueError(f"bounds of {self.name} are empty: {self.lo} to {self.hi}")

    def overlaps(self, other: "PartitionBounds") -> bool:
        """Whether a moment lies in both."""
        return self.lo < other.hi and other.lo < self.hi


@dataclass(frozen=True, slots=True, kw_only=True)
class Runway:
    """How far partitions without a gap reach from now on.

    Attributes:
        partitions: Whole partitions after the one that takes `now`; 0 if none takes `now`.
        days: Days from `now` to the end of the last of them, fraction included; 0 if none.
        latest_hi: End of the last of them; None if no partition takes `now`.
    """

    partitions: int
    days: float
    latest_hi: datetime | None


def bounds_for(ts: datetime, interval: PartitionInterval | str) -> PartitionBounds:
    """Find the partition that takes a moment.

    Args:
        ts: Aware; any time zone, years 1 to 9999 as far as the interval ends before year 10000.
        interval: Range of one partition; weeks are ISO weeks and start on Monday.

    Raises:
        ValueError: `ts` is naive, or its partition would end after year 9999.
    """
    if ts.tzinfo is None:
        raise ValueError("a moment without time zone has no partition; pass an aware datetime")
    try:
        return _aligned(ts.astimezone(UTC), PartitionInterval(interval))
    except OverflowError as exc:
        raise ValueError(f"no {interval} partition can hold {ts.isoformat()}") from exc


def bounds_between(
    first: datetime, last: datetime, interval: PartitionInterval | str
) -> list[PartitionBounds]:
    """List the partitions that take every moment from `first` to `last`, both included, in order.

    Raises:
        ValueError: `first` is after `last`, or `bounds_for` refuses one of them.
    """
    if first > last:
        raise ValueError(f"{first.isoformat()} is after {last.isoformat()}")
    found = [bounds_for(first, interval)]
    while found[-1].hi <= last:
        found.append(bounds_for(found[-1].hi, interval))
    return found


def due(
    now: datetime,
    ahead: int,
    interval: PartitionInterval | str,
    existing: Iterable[PartitionBounds],
) -> list[PartitionBounds]:
    """List what must be created so that `ahead` partitions follow the present one.

    The one before the present one belongs to it: events of the last minutes before midnight
    arrive after it.

    Args:
        now: Aware.
        ahead: Partitions after the one that takes `now`; hourly ones reach two days at least.
        interval: Range of one new partition.
        existing: What is there, in any order and of any interval.

    Returns:
        In order of time. A range that existing partitions cover in part (the interval was
        changed) is filled by the next finer interval, so that no gap stays.
    """
    present = bounds_for(now, interval)
    wanted = [present]
    while len(wanted) <= ahead or wanted[-1].hi < now + MIN_HORIZON:
        wanted.append(bounds_for(wanted[-1].hi, interval))
    before = bounds_for(present.lo - timedelta(microseconds=1), interval)
    return missing([before, *wanted], existing)


def missing(
    wanted: Iterable[PartitionBounds], existing: Iterable[PartitionBounds]
) -> list[PartitionBounds]:
    """List what to create so that every wanted range is covered.

    Args:
        wanted: Aligned bounds from this module.
        existing: What is there, in any order and of any interval.

    Returns:
        In the order of `wanted`; empty if everything is covered.
    """
    present = sorted(existing, key=lambda bounds: bounds.lo)
    return [gap for bounds in wanted for gap in _uncovered(bounds, present)]


def runway(now: datetime, existing: Iterable[PartitionBounds]) -> Runway:
    """Measure how far partitions reach from `now` without a gap."""
    reaching = sorted((b for b in existing if b.hi > now), key=lambda bounds: bounds.lo)
    if not reaching or reaching[0].lo > now:
        return Runway(partitions=0, days=0.0, latest_hi=None)
    last = 0
    for before, after in pairwise(reaching):
        if before.hi != after.lo:
            break
        last += 1
    latest_hi = reaching[last].hi
    return Runway(partitions=last, days=(latest_hi - now) / DAY, latest_hi=latest_hi)


def interval_of(bounds: PartitionBounds) -> PartitionInterval:
    """Tell the interval from the length of the range; months are what is longer than a week."""
    length = bounds.hi - bounds.lo
    exact = {HOUR: PartitionInterval.HOUR, DAY: PartitionInterval.DAY, WEEK: PartitionInterval.WEEK}
    return exact.get(length, PartitionInterval.MONTH)


def _aligned(ts: datetime, interval: PartitionInterval) -> PartitionBounds:
    midnight = ts.replace(hour=0, minute=0, second=0, microsecond=0)
    match interval:
        case PartitionInterval.HOUR:
            lo = ts.replace(minute=0, second=0, microsecond=0)
            return _bounds(f"{lo:%m%d%H}", lo, lo + HOUR)
        case PartitionInterval.DAY:
            return _bounds(f"{midnight:%m%d}", midnight, midnight + DAY)
        case PartitionInterval.WEEK:
            lo = midnight - timedelta(days=midnight.weekday())
            week = lo.isocalendar()
            return PartitionBounds(
                name=f"event_{week.year:04d}w{week.week:02d}", lo=lo, hi=lo + WEEK
            )
        case PartitionInterval.MONTH:
            lo = midnight.replace(day=1)
            # The 1st plus 32 days lies in the next month, whatever the length of this one.
            return _bounds(f"{lo:%m}", lo, (lo + timedelta(days=32)).replace(day=1))


def _bounds(tail: str, lo: datetime, hi: datetime) -> PartitionBounds:
    # Not %Y: the C library pads years below 1000 on some systems only.
    return PartitionBounds(name=f"event_{lo.year:04d}{tail}", lo=lo, hi=hi)


def _uncovered(
    wanted: PartitionBounds, present: Sequence[PartitionBounds]
) -> list[PartitionBounds]:
    touching = [bounds for bounds in present if bounds.overlaps(wanted)]
    if not touching:
        return [wanted]
    if any(bounds.lo <= wanted.lo and wanted.hi <= bounds.hi for bounds in touching):
        return []
    finer = FINER.get(interval_of(wanted))
    if finer is None:
        return []
    # The last microsecond, because bounds_between includes both ends.
    parts = bounds_between(wanted.lo, wanted.hi - timedelta(microseconds=1), finer)
    return [gap for part in parts for gap in _uncovered(part, touching)]
