"""What people write becomes one search; the same words are the same order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from audit_platform.errors import InvalidQuery
from audit_platform.exports.order import (
    ExportFormat,
    ExportOrder,
    SearchWords,
    query_of,
    query_record,
    settled,
)
from audit_platform.search.query import EventQuery

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WORDS = SearchWords(
    tenant="acme",
    since="7d",
    user="u-7",
    entity="order:42",
    action="user.*",
    status="failure",
    text="blue",
    where=("plan=pro", "items[0].sku=A-1"),
)


def order(words: SearchWords, *, now: datetime = NOW, name: str = "a") -> ExportOrder:
    return ExportOrder(name=name, format=ExportFormat.CSV, query=query_of(words, now=now))


def test_words_become_the_filters_of_a_search() -> None:
    query = query_of(WORDS, now=NOW)

    assert query_record(query) == {
        "tenant_id": "acme",
        "since": "2026-11-15T12:00:00.000000Z",
        "user_id": "u-7",
        "entity_type": "order",
        "entity_id": "42",
        "action": "user.*",
        "status": "failure",
        "text": "blue",
        "metadata": {"plan": "pro", "items[0].sku": "A-1"},
    }


def test_empty_fields_of_a_form_are_absent_filters() -> None:
    empty = SearchWords(tenant="", since="", until="", user="", entity="", action="", text="")

    assert query_of(empty, now=NOW) == query_of(SearchWords(), now=NOW)
    assert query_record(query_of(empty, now=NOW)) == {"tenant_id": "*"}


@pytest.mark.parametrize(
    "words",
    [
        SearchWords(since="yesterday-ish"),
        SearchWords(status="broken"),
        SearchWords(entity=":1"),
        SearchWords(where=("no equals sign",)),
        SearchWords(since="1d", until="2d"),
    ],
)
def test_words_that_mean_nothing_are_refused(words: SearchWords) -> None:
    with pytest.raises(InvalidQuery):
        query_of(words, now=NOW)


def test_end_of_the_period_is_fixed_when_none_is_named() -> None:
    assert settled(EventQuery(), now=NOW).until == NOW
    named = EventQuery(until=NOW - timedelta(days=1))
    assert settled(named, now=NOW) == named


def test_period_that_has_not_begun_is_refused() -> None:
    with pytest.raises(InvalidQuery, match="since"):
        settled(EventQuery(since=NOW + timedelta(days=1)), now=NOW)


def test_same_words_later_are_the_same_order() -> None:
    later = order(WORDS, now=NOW + timedelta(days=3))

    assert later.digest == order(WORDS).digest
    assert later.query != order(WORDS).query


@pytest.mark.parametrize(
    "other",
    [
        replace(order(WORDS), format=ExportFormat.NDJSON),
        replace(order(WORDS), rows_per_file=7),
        replace(order(WORDS), most_rows=7),
        order(replace(WORDS, tenant="globex")),
        order(replace(WORDS, since="8d")),
        order(replace(WORDS, where=("plan=pro",))),
    ],
)
def test_other_words_are_another_order(other: ExportOrder) -> None:
    assert other.digest != order(WORDS).digest


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-a", "a b", "ä", "a" * 81, "a\n"])
def test_name_that_could_leave_its_directory_is_refused(name: str) -> None:
    with pytest.raises(InvalidQuery, match="name"):
        order(WORDS, name=name)


@pytest.mark.parametrize("change", [{"rows_per_file": 0}, {"most_rows": 0}])
def test_export_without_rows_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(InvalidQuery, match="rows"):
        replace(order(WORDS), **change)


def test_filters_that_the_log_cannot_hold_are_refused() -> None:
    many = SearchWords(where=tuple(f"key{n}=v" for n in range(101)))

    with pytest.raises(InvalidQuery, match="filters"):
        order(many)
    with pytest.raises(InvalidQuery, match="filters"):
        order(SearchWords(user="u" * 20_000))
