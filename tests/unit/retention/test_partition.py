"""Names, bounds and needs of partitions, at the edges of days, ISO weeks, months and years."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.retention.partition import (
    DAY,
    HOT_INDEXES,
    HOUR,
    MIN_HORIZON,
    PartitionBounds,
    PartitionInterval,
    bounds_between,
    bounds_for,
    due,
    interval_of,
    missing,
    runway,
)

NOW = datetime(2026, 12, 1, 13, 45, 6, 789, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.timedeltas(timedelta(), 230 * 365 * DAY).map(lambda since: EPOCH + since)
INTERVALS = st.sampled_from(PartitionInterval)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("interval", "name", "lo", "hi"),
    [
        ("hour", "event_2026120113", "2026-12-01T13", "2026-12-01T14"),
        ("day", "event_20261201", "2026-12-01T00", "2026-12-02T00"),
        ("week", "event_2026w49", "2026-11-30T00", "2026-12-07T00"),
        ("month", "event_202612", "2026-12-01T00", "2027-01-01T00"),
    ],
)
def test_each_interval_has_its_name_and_bounds(interval: str, name: str, lo: str, hi: str) -> None:
    found = bounds_for(NOW, interval)

    assert found == PartitionBounds(name=name, lo=utc(lo), hi=utc(hi))


@pytest.mark.parametrize(
    ("moment", "name"),
    [
        # ISO years differ from calendar years around New Year.
        (datetime(2027, 1, 1, tzinfo=UTC), "event_2026w53"),
        (datetime(2027, 1, 3, 23, 59, 59, 999999, tzinfo=UTC), "event_2026w53"),
        (datetime(2027, 1, 4, tzinfo=UTC), "event_2027w01"),
        (datetime(2024, 12, 30, tzinfo=UTC), "event_2025w01"),
    ],
)
def test_weeks_are_iso_weeks_at_the_turn_of_the_year(moment: datetime, name: str) -> None:
    assert bounds_for(moment, "week").name == name


def test_december_ends_with_the_year() -> None:
    december = bounds_for(datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "month")

    assert december.hi == datetime(2027, 1, 1, tzinfo=UTC)


def test_leap_day_has_a_partition_of_its_own() -> None:
    leap = bounds_for(datetime(2028, 2, 29, 12, tzinfo=UTC), "day")

    assert (leap.name, leap.hi) == ("event_20280229", datetime(2028, 3, 1, tzinfo=UTC))


def test_bounds_are_utc_whatever_the_zone_of_the_moment() -> None:
    in_tokyo = datetime(2026, 12, 2, 1, 0, tzinfo=timezone(timedelta(hours=9)))

    assert bounds_for(in_tokyo, "day").name == "event_20261201"


def test_early_years_keep_four_digits() -> None:
    assert bounds_for(datetime(987, 6, 5, tzinfo=UTC), "day").name == "event_09870605"


def test_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        bounds_for(NOW.replace(tzinfo=None), "day")


def test_end_of_the_calendar_is_refused() -> None:
    with pytest.raises(ValueError, match="no day partition"):
        bounds_for(datetime(9999, 12, 31, 12, tzinfo=UTC), "day")


def test_empty_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        PartitionBounds(name="event_x", lo=NOW, hi=NOW)


def test_naive_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        PartitionBounds(name="event_x", lo=NOW.replace(tzinfo=None), hi=NOW)


@given(moment=MOMENTS, interval=INTERVALS)
def test_every_moment_lies_in_its_partition(moment: datetime, interval: PartitionInterval) -> None:
    found = bounds_for(moment, interval)

    assert found.lo <= moment < found.hi
    assert interval_of(found) is interval


@given(moment=MOMENTS, interval=INTERVALS)
def test_neighbours_touch_without_overlap(moment: datetime, interval: PartitionInterval) -> None:
    found = bounds_for(moment, interval)
    after = bounds_for(found.hi, interval)

    assert after.lo == found.hi
    assert after.name != found.name
    assert not found.overlaps(after)


def test_names_of_all_intervals_differ() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    end = start + 2 * 366 * DAY
    names = [b.name for i in PartitionInterval for b in bounds_between(start, end, i)]

    assert len(names) == len(set(names))


def test_history_of_many_days_is_listed_in_order() -> None:
    first, last = datetime(2023, 7, 10, 11, tzinfo=UTC), datetime(2023, 8, 2, tzinfo=UTC)
    days = bounds_between(first, last, "day")

    assert (days[0].name, days[-1].name, len(days)) == ("event_20230710", "event_20230802", 24)


def test_reversed_history_is_refused() -> None:
    with pytest.raises(ValueError, match="is after"):
        bounds_between(NOW, NOW - DAY, "day")


def test_due_names_yesterday_today_and_the_days_ahead() -> None:
    names = [bounds.name for bounds in due(NOW, 7, "day", [])]

    assert names == [f"event_202611{d}" for d in (30,)] + [f"event_2026120{d}" for d in range(1, 9)]


def test_nothing_is_due_when_all_exists() -> None:
    assert due(NOW, 7, "day", due(NOW, 7, "day", [])) == []


def test_hours_reach_past_a_missed_daily_tick() -> None:
    hours = due(NOW, 7, "hour", [])

    assert hours[-1].hi - NOW >= MIN_HORIZON


def test_gap_between_existing_days_is_due() -> None:
    days = due(NOW, 7, "day", [])
    gap = days[4]

    assert due(NOW, 7, "day", [day for day in days if day != gap]) == [gap]


def test_change_from_days_to_months_leaves_no_gap() -> None:
    existing = bounds_between(NOW, NOW + 7 * DAY, "day")
    created = due(NOW, 3, "month", existing)
    december = [b for b in [*existing, *created] if b.lo.month == 12 and b.lo.year == 2026]

    assert created[0].name == "event_202611"
    assert sum((b.hi - b.lo for b in december), timedelta()) == 31 * DAY
    assert [b.name for b in created[-3:]] == ["event_202701", "event_202702", "event_202703"]


def test_change_from_hours_to_days_fills_the_rest_of_the_day_by_hours() -> None:
    existing = bounds_between(NOW, NOW + 2 * HOUR, "hour")
    names = [b.name for b in missing([bounds_for(NOW, "day")], existing)]

    assert len(names) == 21
    assert not set(names) & {b.name for b in existing}


def test_change_from_months_to_days_keeps_the_month() -> None:
    assert missing(bounds_between(NOW, NOW + 9 * DAY, "day"), [bounds_for(NOW, "month")]) == []


@given(
    now=MOMENTS,
    before=INTERVALS,
    after=INTERVALS,
    ahead=st.integers(3, 12),
    moved=st.timedeltas(timedelta(), 20 * DAY),
)
def test_any_change_of_interval_gives_disjoint_partitions_without_a_gap(
    now: datetime,
    before: PartitionInterval,
    after: PartitionInterval,
    ahead: int,
    moved: timedelta,
) -> None:
    existing = due(now, ahead, before, [])
    later = now + moved
    everything = sorted([*existing, *due(later, ahead, after, existing)], key=lambda b: b.lo)

    assert all(a.hi <= b.lo for a, b in pairwise(everything))
    reach = runway(later, everything)
    assert reach.latest_hi is not None
    assert reach.latest_hi >= bounds_for(later, after).hi
    assert reach.days >= MIN_HORIZON / DAY


def test_runway_counts_whole_partitions_after_the_present_one() -> None:
    reach = runway(NOW, due(NOW, 7, "day", []))

    assert (reach.partitions, reach.latest_hi) == (7, datetime(2026, 12, 9, tzinfo=UTC))
    assert 7 < reach.days < 8


def test_runway_ends_at_the_first_gap() -> None:
    days = due(NOW, 7, "day", [])

    assert runway(NOW, [*days[:4], *days[5:]]).partitions == 2


def test_runway_is_zero_without_a_partition_for_now() -> None:
    tomorrow = bounds_for(NOW + DAY, "day")

    assert runway(NOW, [tomorrow]) == runway(NOW, [])
    assert runway(NOW, []).latest_hi is None


def test_hot_index_suffixes_differ() -> None:
    assert len({index.suffix for index in HOT_INDEXES}) == len(HOT_INDEXES)
