"""Event times: every accepted form is read exactly, every other is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.events.event import timestamp_us
from audit_platform.events.reject import RejectReason, Unstorable
from audit_platform.events.wire_time import milliseconds_to_us, text_to_us

_NOON_US = timestamp_us(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "offset_us"),
    [
        ("2026-03-01T12:00:00Z", 0),
        ("2026-03-01t12:00:00z", 0),
        ("2026-03-01 12:00:00Z", 0),
        ("2026-03-01T12:00:00.5Z", 500_000),
        ("2026-03-01T12:00:00,5Z", 500_000),
        ("2026-03-01T12:00:00.123456789Z", 123_456),
        ("2026-03-01T12:00:00.9999999Z", 999_999),
        ("2026-03-01T13:30:00+01:30", 0),
        ("2026-03-01T13:30:00+0130", 0),
        ("2026-03-01T04:00:00-08:00", 0),
        ("2026-03-02T00:00:00.000001+12:00", 1),
        ("2026-03-01T12:00:00-00:00", 0),
        ("2026-03-01T11:59:60Z", 0),
    ],
)
def test_text_is_read(text: str, offset_us: int) -> None:
    assert text_to_us(text) == _NOON_US + offset_us


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-03-01",
        "2026-03-01T12:00Z",
        "2026-03-01T12:00:00",
        "2026-03-01T12:00:00.Z",
        "2026-03-01T12:00:00+1",
        "2026-03-01T12:00:00+01:60",
        "2026-03-01T12:00:00+24:00",
        "2026-03-01T12:00:61Z",
        "2026-13-01T12:00:00Z",
        "2026-02-29T12:00:00Z",
        "2026-03-01T24:00:00Z",
        " 2026-03-01T12:00:00Z",
        "٢٠٢٦-03-01T12:00:00Z",
        "Sun, 01 Mar 2026 12:00:00 GMT",
        "1772366400000",
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(Unstorable) as refused:
        text_to_us(text)
    assert refused.value.reason == RejectReason.INVALID_VALUE


@pytest.mark.parametrize("text", ["0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "-001-01-01"])
def test_years_that_no_clock_shows_are_out_of_range(text: str) -> None:
    if text == "-001-01-01":
        text = "-0001-01-01T00:00:00Z"

    with pytest.raises(Unstorable) as refused:
        text_to_us(text)
    assert refused.value.reason == RejectReason.TIMESTAMP_OUT_OF_RANGE


@given(
    st.datetimes(
        min_value=datetime(2, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
        max_value=datetime(9998, 12, 31),  # noqa: DTZ001
    ),
    st.integers(-23 * 60, 23 * 60),
)
def test_what_python_writes_is_read_to_the_microsecond(naive: datetime, minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))

    assert text_to_us(moment.isoformat(timespec="microseconds")) == timestamp_us(moment)


def test_milliseconds_are_read() -> None:
    assert milliseconds_to_us(_NOON_US // 1_000) == _NOON_US


def test_a_number_that_may_count_seconds_is_refused() -> None:
    with pytest.raises(Unstorable, match="may count seconds"):
        milliseconds_to_us(_NOON_US // 1_000_000)


@pytest.mark.parametrize("milliseconds", [-1, 253_402_300_800_000])
def test_milliseconds_outside_of_1970_to_9999_are_out_of_range(milliseconds: int) -> None:
    with pytest.raises(Unstorable) as refused:
        milliseconds_to_us(milliseconds)
    assert refused.value.reason == RejectReason.TIMESTAMP_OUT_OF_RANGE
