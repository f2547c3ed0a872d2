"""Dividing the demo's events between its producers."""

from datetime import UTC, datetime

import pytest

from audit_platform.local.traffic.faults import FAULTS
from audit_platform.local.traffic.plan import EVENTS_PER_S, plan_traffic

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize("event_count", [200, 5_000, 100_000, 1_234_567])
@pytest.mark.parametrize("application_count", [1, 4, 16])
def test_the_parts_add_up_to_the_asked_number(event_count: int, application_count: int) -> None:
    plan = plan_traffic(
        event_count=event_count, application_count=application_count, now=NOON, seed=1
    )

    assert plan.event_count == event_count
    assert len(plan.application_counts) == application_count


def test_even_a_small_demo_has_late_events_and_every_kind_of_broken_one() -> None:
    plan = plan_traffic(event_count=200, application_count=2, now=NOON, seed=1)

    assert plan.legacy.late_count >= 1
    assert plan.legacy.bad_count_per_kind >= 1
    assert plan.legacy.event_count < 200
    assert len(FAULTS) >= 10


def test_a_large_demo_is_paced_so_that_the_drain_keeps_up() -> None:
    plan = plan_traffic(event_count=100_000, application_count=4, now=NOON, seed=1)

    assert plan.pace_s == pytest.approx(100_000 / EVENTS_PER_S)
