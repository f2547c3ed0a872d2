"""Cursors: they go on where a page ended, and with nothing else."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.errors import InvalidQuery
from audit_platform.search.cursor import resume, sign_cursor
from audit_platform.search.query import EventQuery, Position

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = b"k" * 32
POSITION = Position(
    timestamp=NOW, tenant_id="acme", event_id="01893fb6-8ab8-7d89-a1a3-e981ef0380cb"
)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00*"), min_size=1)
filters = st.fixed_dictionaries(
    {},
    optional={
        "tenant_id": texts,
        "user_id": texts,
        "action": texts,
        "text": texts,
        "since": st.datetimes(datetime(2000, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    },
)


@given(filters, st.integers(0, 2**45), texts)
def test_cursor_gives_back_its_position(
    chosen: dict[str, Any], microseconds: int, tenant: str
) -> None:
    query = EventQuery(**chosen)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    position = replace(POSITION, timestamp=moment, tenant_id=tenant)

    cursor = sign_cursor(query, position, key=KEY, now=NOW)

    assert resume(query, cursor, key=KEY, now=NOW) == replace(query, after=position)


@given(filters, filters)
def test_cursor_of_other_filters_is_refused(one: dict[str, Any], other: dict[str, Any]) -> None:
    cursor = sign_cursor(EventQuery(**one), POSITION, key=KEY, now=NOW)
    if one == other:
        return

    with pytest.raises(InvalidQuery, match="another search"):
        resume(EventQuery(**other), cursor, key=KEY, now=NOW)


@given(st.data())
def test_changed_cursor_is_refused(data: st.DataObject) -> None:
    query = EventQuery(tenant_id="acme")
    cursor = sign_cursor(query, POSITION, key=KEY, now=NOW)
    place = data.draw(st.integers(0, len(cursor) - 1))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_ü "
    letter = data.draw(st.sampled_from(alphabet).filter(lambda found: found != cursor[place]))

    with pytest.raises(InvalidQuery, match="cursor"):
        resume(query, cursor[:place] + letter + cursor[place + 1 :], key=KEY, now=NOW)


@pytest.mark.parametrize("cursor", ["", "AAAA", "!", base64.urlsafe_b64encode(b"x" * 60).decode()])
def test_forged_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidQuery, match="cursor"):
        resume(EventQuery(), cursor, key=KEY, now=NOW)


def test_cursor_of_another_key_is_refused() -> None:
    cursor = sign_cursor(EventQuery(), POSITION, key=b"other" * 8, now=NOW)

    with pytest.raises(InvalidQuery, match="another search"):
        resume(EventQuery(), cursor, key=KEY, now=NOW)


def test_cursor_ends_after_a_day() -> None:
    cursor = sign_cursor(EventQuery(), POSITION, key=KEY, now=NOW)

    with pytest.raises(InvalidQuery, match="older than a day"):
        resume(EventQuery(), cursor, key=KEY, now=NOW + timedelta(hours=25))


def test_relative_period_means_on_every_page_what_it_meant_on_the_first() -> None:
    first = EventQuery(since=NOW - timedelta(hours=2), period=("2h", None))
    cursor = sign_cursor(first, POSITION, key=KEY, now=NOW)
    later = replace(first, since=first.since + timedelta(minutes=1) if first.since else None)

    assert resume(later, cursor, key=KEY, now=NOW).since == first.since
    with pytest.raises(InvalidQuery, match="another search"):
        resume(replace(later, period=("3h", None)), cursor, key=KEY, now=NOW)
