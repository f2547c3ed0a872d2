"""Spans: read, written, counted by the calendar."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from audit_platform.retention.span import NEVER, Span


@pytest.mark.parametrize(
    ("text", "months", "days"),
    [
        ("90d", 0, 90),
        ("2 weeks", 0, 14),
        ("6mo", 6, 0),
        ("7y", 84, 0),
        ("1 Year 6 months 3 days", 18, 3),
        ("1y6mo", 18, 0),
    ],
)
def test_spans_are_read_in_words_and_letters(text: str, months: int, days: int) -> None:
    assert Span.parse(text) == Span(months=months, days=days)


@pytest.mark.parametrize("text", ["", "90", "d", "3m", "-1d", "0d", "1.5y", "1001y", "2h", "1d;"])
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="write 90d, 6mo, 7y"):
        Span.parse(text)


@pytest.mark.parametrize(
    ("span", "before", "after"),
    [
        ("1mo", "2026-01-31", "2026-02-28"),
        ("1mo", "2028-01-31", "2028-02-29"),
        ("12mo", "2028-02-29", "2029-02-28"),
        ("1mo 1d", "2026-01-31", "2026-03-01"),
        ("11mo", "2026-12-01", "2027-11-01"),
        ("365d", "2028-01-01", "2028-12-31"),
    ],
)
def test_months_end_where_the_calendar_says(span: str, before: str, after: str) -> None:
    moment = datetime.fromisoformat(before).replace(tzinfo=UTC)

    assert Span.parse(span).after(moment) == datetime.fromisoformat(after).replace(tzinfo=UTC)


def test_days_are_counted_in_utc() -> None:
    """New year in the east is still December in UTC, and the month counts from there."""
    east = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=5)))

    assert Span(months=2).after(east) == datetime(2026, 2, 28, 20, tzinfo=UTC)


def test_a_span_past_the_calendar_never_ends() -> None:
    assert Span.parse("1000y").after(datetime(9500, 1, 1, tzinfo=UTC)) == NEVER
    assert Span.parse("300000d").after(datetime(9500, 1, 1, tzinfo=UTC)) == NEVER


def test_spans_are_written_in_words() -> None:
    assert str(Span(months=18, days=1)) == "1 year 6 months 1 day"
    assert Span.parse(str(Span(months=13, days=30))) == Span(months=13, days=30)
