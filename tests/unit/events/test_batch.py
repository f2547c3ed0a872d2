"""When to flush, how much to read, how long to wait, when to halve."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.events.batch import (
    MAX_ENTRIES_PER_READ,
    MIN_DELAY_S,
    OVERLOAD_LINGER_S,
    PROBE_DELAY_S,
    Buffered,
    FlushLimits,
    limits_at,
    next_read_count,
    retry_delay_s,
    should_flush,
    should_halve,
)

LIMITS = FlushLimits(rows=100, bytes_=10_000, age_s=0.2)


@pytest.mark.parametrize(
    ("buffered", "now_s", "is_store_free", "expected"),
    [
        (Buffered(), 99.0, True, False),
        (Buffered(entries=1, rows=1, bytes_=1, since_s=1.0), 1.1, True, False),
        (Buffered(entries=1, rows=1, bytes_=1, since_s=1.0), 1.3, True, True),
        (Buffered(entries=1, rows=1, bytes_=1, since_s=1.0), 1.3, False, False),
        (Buffered(entries=1, rows=100, bytes_=1, since_s=1.0), 1.0, False, True),
        (Buffered(entries=1, rows=1, bytes_=10_000, since_s=1.0), 1.0, False, True),
        (Buffered(entries=1, rows=25, bytes_=1, since_s=1.0), 1.0, True, True),
        (Buffered(entries=1, rows=1, bytes_=2_500, since_s=1.0), 1.0, True, True),
        (Buffered(entries=1, rows=24, bytes_=2_499, since_s=1.0), 1.0, True, False),
        (Buffered(entries=1, rows=99, bytes_=9_999, since_s=1.0), 9.0, False, False),
    ],
)
def test_flush_is_by_size_at_once_and_by_age_or_a_quarter_when_the_store_is_free(
    buffered: Buffered, now_s: float, is_store_free: bool, expected: bool
) -> None:
    assert should_flush(buffered, LIMITS, now_s=now_s, is_store_free=is_store_free) is expected


@pytest.mark.parametrize(
    ("rows", "bytes_", "expected"),
    [(20_000, 16 << 20, 16), (5_000, 16 << 20, 5), (20_000, 3 << 20, 3), (10, 10, 1)],
)
def test_first_read_expects_the_largest_entries(rows: int, bytes_: int, expected: int) -> None:
    limits = FlushLimits(rows=rows, bytes_=bytes_, age_s=1.0)

    assert next_read_count(Buffered(), limits, mean=(0.0, 0.0)) == expected


@given(
    rows=st.integers(0, 200),
    bytes_=st.integers(0, 20_000),
    mean_rows=st.floats(0.1, 1_000),
    mean_bytes=st.floats(1, 1e6),
)
def test_read_count_asks_for_no_more_than_the_rest_of_the_batch(
    rows: int, bytes_: int, mean_rows: float, mean_bytes: float
) -> None:
    buffered = Buffered(entries=1, rows=rows, bytes_=bytes_)

    count = next_read_count(buffered, LIMITS, mean=(mean_rows, mean_bytes))

    assert 1 <= count <= MAX_ENTRIES_PER_READ
    assert count == 1 or rows + count * mean_rows <= LIMITS.rows + 1e-6
    assert count == 1 or bytes_ + count * mean_bytes <= LIMITS.bytes_ + 1e-6


@given(failures=st.integers(1, 1_000), uniform01=st.floats(0, 1, exclude_max=True))
def test_retry_delay_stays_between_its_floor_and_the_probe_interval(
    failures: int, uniform01: float
) -> None:
    delay_s = retry_delay_s(failures, uniform01=uniform01)

    assert MIN_DELAY_S <= delay_s <= 1.2 * PROBE_DELAY_S


def test_retry_delay_grows_until_the_circuit_opens() -> None:
    ceilings_s = [retry_delay_s(failures, uniform01=0.999) for failures in (1, 2, 3, 4, 5)]

    assert ceilings_s == sorted(ceilings_s)
    assert retry_delay_s(50, uniform01=0.5) == pytest.approx(PROBE_DELAY_S)


@pytest.mark.parametrize(
    ("timeouts", "rows", "expected"), [(2, 100, False), (3, 100, True), (9, 1, False)]
)
def test_a_batch_that_keeps_timing_out_is_halved_down_to_one_row(
    timeouts: int, rows: int, expected: bool
) -> None:
    assert should_halve(timeouts=timeouts, rows=rows) is expected


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"bytes_": 0}, {"age_s": 0.0}])
def test_limits_under_which_nothing_flushes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        FlushLimits(**{"rows": 1, "bytes_": 1, "age_s": 1.0, **wrong})


def test_overload_lets_a_batch_wait_to_become_full() -> None:
    small = Buffered(entries=1, rows=1, bytes_=1, since_s=1.0)

    assert limits_at(0, LIMITS) is LIMITS
    assert should_flush(small, limits_at(0, LIMITS), now_s=1.3, is_store_free=True)
    for level in (1, 2, 3):
        limits = limits_at(level, LIMITS)
        assert limits.rows == LIMITS.rows
        assert not should_flush(small, limits, now_s=1.3, is_store_free=True)
        assert should_flush(small, limits, now_s=1.0 + OVERLOAD_LINGER_S, is_store_free=True)


def test_overload_never_shortens_a_longer_wait() -> None:
    patient = FlushLimits(rows=100, bytes_=10_000, age_s=30)

    assert limits_at(3, patient).age_s == 30
