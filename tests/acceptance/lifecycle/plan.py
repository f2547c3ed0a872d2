"""Which days there are, what happens to each, and at which moments (pure).

Here: the two plans and the moments between which time jumps. Not here: rows (`rows.py`), the jobs
that are launched at these moments (`life.py`).
Guarantee: every moment lies in the past of the real clock, in ascending order: what the platform
itself logs on the way carries the injected moment, and ingest refuses events from the future.

Figures are those of the default settings: sealed 48 hours after the end of a day, hot for 30 days,
7 days of grace. Days are named by their number, from 0.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from audit_platform.retention.partition import PartitionBounds, PartitionInterval, bounds_for

DAY = timedelta(days=1)
SEAL_AFTER = timedelta(hours=48)
HOT_FOR = timedelta(days=30)
GRACE = timedelta(days=7)
NIGHT = timedelta(hours=3)
"""Jobs run in the small hours, not at midnight sharp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One drive.

    Attributes:
        days: Number of days with rows; the day after them has late rows only.
        rows: Rows that are stored in bulk.
        streamed: Further rows that go through Redis and ingest runs.
        late: Rows that come too late, for all `late_days` together.
        seed: Of everything that is drawn.
        first: Midnight of day 0, UTC.
        late_days: Archived before their late rows come: one each that is dropped, detached and
            verified when the rows are merged.
        half: Days below it are archived first.
        detached_first: The first detach takes the days up to this one.
        held: Kept from the drop by a legal hold.
        held_hot: Kept from the detach by one.
        beside: Restored into a table of its own.
        attached: Restored into the searched table.
        too_late: Its late rows come when files of it have expired.
        left: The last detach leaves this many days in PostgreSQL.
        rate: Events a second that an application logs meanwhile.
        searches: Searches that are asked at every stage.
        is_whole: Whether steps are taken that others have taken before: a further detach and drop,
            a restore drill.
    """

    days: int
    rows: int
    streamed: int
    late: int
    seed: int
    first: datetime
    late_days: tuple[int, int, int]
    half: int
    detached_first: int
    held: int
    held_hot: int
    beside: int
    attached: int
    too_late: int
    left: int
    rate: int
    searches: int
    is_whole: bool

    def midnight(self, day: int) -> datetime:
        """First moment of a day."""
        return self.first + day * DAY

    def partition(self, day: int) -> PartitionBounds:
        """Partition of a day."""
        return bounds_for(self.midnight(day), PartitionInterval.DAY)

    def names(self, *days: int) -> list[str]:
        """Partitions of days."""
        return [self.partition(day).name for day in days]

    @property
    def end(self) -> datetime:
        """End of the last day that rows belong to; everything asked lies before it."""
        return self.midnight(self.days + 1)

    def sealed(self, day: int) -> datetime:
        """When a day can be sealed."""
        return self.midnight(day + 1) + SEAL_AFTER + NIGHT

    def cooled(self, day: int) -> datetime:
        """When a day can be detached."""
        return self.midnight(day + 1) + HOT_FOR + NIGHT

    @property
    def detaching(self) -> datetime:
        """Moment of the first detach."""
        return max(self.cooled(self.detached_first), self.sealed(self.days))

    @property
    def dropping(self) -> datetime:
        """Moment of the drop of what was detached then."""
        return self.detaching + GRACE + NIGHT


def whole_plan(*, rows: int, now: datetime, seed: int, days: int = 40) -> Plan:
    """The plan of `make e2e-lifecycle`.

    Raises:
        ValueError: Too few days for every kind of fate.
    """
    if days < 24:
        raise ValueError("a whole life needs 24 days or more")
    return Plan(
        days=days,
        rows=rows,
        streamed=max(rows // 250, 1_000),
        late=600,
        seed=seed,
        first=_midnight(now) - (days + 40) * DAY,
        late_days=(3, 14, 22),
        half=max(days // 2, 24),
        detached_first=11,
        held=9,
        held_hot=6,
        beside=5,
        attached=7,
        too_late=8,
        left=days // 4,
        rate=40,
        searches=100,
        is_whole=True,
    )


def small_plan(*, now: datetime, seed: int) -> Plan:
    """The plan of `make test`: every fate at least once."""
    return Plan(
        days=8,
        rows=6_400,
        streamed=200,
        late=60,
        seed=seed,
        # Far from what the other tests of the stack store.
        first=_midnight(now) - 60 * DAY,
        late_days=(0, 2, 6),
        half=8,
        detached_first=4,
        held=2,
        held_hot=1,
        beside=3,
        attached=3,
        too_late=4,
        left=2,
        rate=10,
        searches=50,
        is_whole=False,
    )


def _midnight(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
