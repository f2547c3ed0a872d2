"""The told day of the demo: exact counts, nights quieter than office hours, some bursts."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.local.traffic.schedule import plan_slots, share_out

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
DAY = timedelta(days=1)


@given(
    total=st.integers(0, 100_000),
    weights=st.lists(st.floats(0.001, 1_000), min_size=1, max_size=50),
)
def test_shares_add_up_to_the_total(total: int, weights: list[float]) -> None:
    counts = share_out(total, weights)

    assert sum(counts) == total
    assert len(counts) == len(weights)
    assert all(count >= 0 for count in counts)


def test_a_day_has_exactly_the_asked_number_of_events() -> None:
    slots = plan_slots(Random(1), event_count=12_345, since=MONDAY, until=MONDAY + DAY)

    assert sum(slot.event_count for slot in slots) == 12_345
    assert len(slots) == 288
    assert any(slot.is_burst for slot in slots)


def test_office_hours_are_busier_than_the_night() -> None:
    slots = plan_slots(Random(1), event_count=100_000, since=MONDAY, until=MONDAY + DAY)
    quiet = [slot for slot in slots if not slot.is_burst]

    night = sum(slot.event_count for slot in quiet if slot.start.hour < 4)
    office = sum(slot.event_count for slot in quiet if 9 <= slot.start.hour < 13)

    assert office > 3 * night


def test_a_weekday_is_busier_than_a_sunday() -> None:
    slots = plan_slots(Random(1), event_count=50_000, since=MONDAY - DAY, until=MONDAY + DAY)
    quiet = [slot for slot in slots if not slot.is_burst]

    sunday = sum(slot.event_count for slot in quiet if slot.start < MONDAY)
    monday = sum(slot.event_count for slot in quiet if slot.start >= MONDAY)

    assert monday > 1.5 * sunday


def test_a_period_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="after since"):
        plan_slots(Random(1), event_count=1, since=MONDAY, until=MONDAY)
