"""What statistics rule out: never a row group with a match."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.search.cold_filter import Extremes, cold_filter
from audit_platform.search.query import EventQuery
from tests.archiving import DAY

HOUR = timedelta(hours=1)
texts = st.text("ab\u00e9\U0010ffff", min_size=1, max_size=4)


def _may_match(query: EventQuery, **extremes: Extremes) -> bool:
    conditions = cold_filter(query, since=DAY, until=DAY + HOUR)
    return conditions.may_match(lambda name: extremes.get(name, Extremes()))


@pytest.mark.parametrize(
    ("least", "greatest", "expected"),
    [
        (DAY - HOUR, DAY - timedelta(microseconds=1), False),
        (DAY - HOUR, DAY, True),
        (DAY + HOUR, DAY + 2 * HOUR, True),
        (DAY + HOUR + timedelta(microseconds=1), DAY + 2 * HOUR, False),
    ],
)
def test_times_are_compared_with_both_ends(least: Any, greatest: Any, expected: bool) -> None:
    assert _may_match(EventQuery(), timestamp=Extremes(least, greatest)) is expected


@given(texts, st.lists(texts, min_size=1))
def test_group_is_kept_where_the_text_may_be(text: str, stored: list[str]) -> None:
    extremes = Extremes(min(stored), max(stored))

    exact = _may_match(EventQuery(action=text), action=extremes)
    prefix = _may_match(EventQuery(action=f"{text}*"), action=extremes)

    assert exact or text not in stored
    assert prefix or not any(one.startswith(text) for one in stored)


def test_group_outside_the_extremes_is_ruled_out() -> None:
    extremes = Extremes("order.a", "order.z")

    assert not _may_match(EventQuery(action="user.a"), action=extremes)
    assert not _may_match(EventQuery(action="user.*"), action=extremes)
    assert not _may_match(EventQuery(action="invoice.*"), action=extremes)
    assert _may_match(EventQuery(action="o*"), action=extremes)


def test_group_without_values_holds_no_value() -> None:
    nothing = Extremes(has_values=False)

    assert not _may_match(EventQuery(user_id="7"), user_id=nothing)
    assert not _may_match(EventQuery(action="a*"), action=nothing)


def test_group_without_statistics_is_read() -> None:
    query = EventQuery(user_id="7", action="a*", status="failure", tenant_id="acme")

    assert _may_match(query)
