"""How often a drain speaks to Dagster, and that nothing it says gets lost in between."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.events.tally import DrainReport
from audit_platform.jobs.observation import (
    EVENTS_PER_OBSERVATION,
    QUIET_INTERVAL_S,
    ObservationWindow,
)

EMPTY = DrainReport(
    rows=0,
    batches=0,
    rows_per_s=0.0,
    lag_p50_s=0.0,
    lag_p99_s=0.0,
    bytes_=0,
    duplicates=0,
    late=0,
    dead_letters=0,
    dead_by_reason={},
    redis_lost=0,
    backlog=0,
)


def window(*reports: DrainReport) -> ObservationWindow:
    found = ObservationWindow(began_s=100.0)
    for report in reports:
        found.add(report)
    return found


def test_busy_shard_is_observed_with_every_report() -> None:
    busy = window(replace(EMPTY, rows=EVENTS_PER_OBSERVATION))

    assert busy.is_due(110.0)


def test_hundred_events_a_second_are_observed_every_twenty_seconds() -> None:
    """More often, a million of them would take more than their share of Dagster's storage."""
    ten_seconds = replace(EMPTY, rows=1_000)

    assert not window(ten_seconds).is_due(110.0)
    assert window(ten_seconds, ten_seconds).is_due(120.0)


def test_slow_shard_is_observed_once_a_minute() -> None:
    slow = window(replace(EMPTY, rows=EVENTS_PER_OBSERVATION - 1))

    assert not slow.is_due(110.0)
    assert slow.is_due(100.0 + QUIET_INTERVAL_S)


def test_idle_shard_is_never_observed() -> None:
    idle = window(replace(EMPTY, backlog=5))

    assert not idle.has_news
    assert not idle.is_due(10_000.0)


@pytest.mark.parametrize("name", ["rows", "duplicates", "late", "dead_letters", "redis_lost"])
def test_any_outcome_is_news(name: str) -> None:
    assert window(replace(EMPTY, **{name: 1})).has_news


def test_median_is_weighted_by_rows_and_the_worst_delay_is_kept() -> None:
    numbers = window(
        replace(EMPTY, rows=300, lag_p50_s=0.1, lag_p99_s=0.9),
        replace(EMPTY, rows=100, lag_p50_s=0.5, lag_p99_s=0.6),
        EMPTY,
    ).numbers(120.0)

    assert (numbers["lag_p50_ms"], numbers["lag_p99_ms"]) == (200.0, 900.0)
    assert numbers["rows_per_s"] == 20.0


def test_overload_level_is_the_highest() -> None:
    levels = window(replace(EMPTY, level=1), replace(EMPTY, level=3), replace(EMPTY, level=0))

    assert levels.numbers(120.0)["overload_level"] == 3


def test_backlog_is_the_latest() -> None:
    assert window(replace(EMPTY, backlog=9), replace(EMPTY, backlog=2)).backlog == 2


REPORTS = st.lists(
    st.builds(
        replace,
        st.just(EMPTY),
        rows=st.integers(0, 10**6),
        batches=st.integers(0, 100),
        bytes_=st.integers(0, 10**9),
        duplicates=st.integers(0, 1000),
        late=st.integers(0, 1000),
        dead_letters=st.integers(0, 1000),
        redis_lost=st.integers(0, 10),
        dead_by_reason=st.dictionaries(st.sampled_from("abc"), st.integers(1, 5)),
    )
)


@given(reports=REPORTS)
def test_counts_of_all_reports_add_up(reports: list[DrainReport]) -> None:
    numbers = window(*reports).numbers(101.0)

    for name in ("rows", "batches", "duplicates", "late", "dead_letters", "redis_lost"):
        assert numbers[name] == sum(getattr(report, name) for report in reports)
    assert numbers["bytes"] == sum(report.bytes_ for report in reports)
