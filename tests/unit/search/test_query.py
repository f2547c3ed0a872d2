"""Filters and cursors without a database."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.errors import InvalidQuery
from audit_platform.search.query import (
    EventQuery,
    Position,
    metadata_filter,
    parameters,
    parse_entity,
    parse_metadata,
    parse_moment,
    resume,
    sign_cursor,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = b"k" * 32
POSITION = Position(
    timestamp=NOW, tenant_id="acme", event_id="01893fb6-8ab8-7d89-a1a3-e981ef0380cb"
)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("90s", NOW - timedelta(seconds=90)),
        ("7d", NOW - timedelta(days=7)),
        ("now", NOW),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T10:00:00Z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01T10:00:00+02:00", datetime(2026, 11, 1, 8, tzinfo=UTC)),
    ],
)
def test_moment_is_iso_or_a_distance_into_the_past(text: str, moment: datetime) -> None:
    assert parse_moment(text, now=NOW, option="--since") == moment


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-01T10:00:00", "-2h", "999999w"])
def test_unclear_moment_is_refused_with_its_option(text: str) -> None:
    with pytest.raises(InvalidQuery, match="--since"):
        parse_moment(text, now=NOW, option="--since")


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("order:42", ("order", "42")),
        ("order", ("order", None)),
        ("host:fe80::1", ("host", "fe80::1")),
        ("AWS::S3::Bucket:arn:aws:s3:::b", ("AWS::S3::Bucket", "arn:aws:s3:::b")),
        ("AWS::S3::Bucket", ("AWS::S3::Bucket", None)),
    ],
)
def test_entity_is_a_type_and_an_id(text: str, entity: tuple[str, str | None]) -> None:
    assert parse_entity(text) == entity


@pytest.mark.parametrize("text", [":42", "order:", ""])
def test_half_an_entity_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuery, match="type:id"):
        parse_entity(text)


@pytest.mark.parametrize(
    "filters",
    [
        {"status": "fine"},
        {"limit": 0},
        {"limit": 10_001},
        {"since": NOW, "until": NOW},
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 - the naive value is what is refused
        {"user_id": ""},
        {"action": "*"},
        {"text": "\x00"},
        {"metadata": {"a..b": "1"}},
        {"metadata": {"a": "\ud800"}},
    ],
)
def test_filter_that_nothing_can_match_is_refused(filters: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuery):
        EventQuery(**filters)


def test_action_with_a_star_is_a_prefix() -> None:
    assert parameters(EventQuery(action="user.*"))["action_prefix"] == "user."
    assert parameters(EventQuery(action="user.x"))["action_prefix"] is None


@pytest.mark.parametrize(
    ("value", "text", "spelled"),
    [
        ("pro", "pro", "pro"),
        ("3600", "3600", "3600"),
        ("1e400", "1e400", "1e400"),
        ("true", "true", True),
        ("null", "null", None),
        ('"3600"', "3600", "3600"),
        ("[1]", "[1]", "[1]"),
        ("NaN is text", "NaN is text", "NaN is text"),
    ],
)
def test_metadata_value_is_compared_as_text_and_as_what_it_spells(
    value: str, text: str, spelled: object
) -> None:
    condition = metadata_filter("a", value)

    assert (condition["text"], condition["spelled"]) == (text, spelled)


def test_metadata_numbers_go_to_the_database_as_written() -> None:
    query = EventQuery(metadata={'a."x.y"[2]': "12345678901234567890.10"})

    assert parameters(query)["metadata_filters"] == (
        '[{"path":"strict $.\\"a\\".\\"x.y\\"[2] ? (@ == $text || @ == $spelled)",'
        '"values":{"text":"12345678901234567890.10","spelled":12345678901234567890.10}}]'
    )


@pytest.mark.parametrize("conditions", [["a"], ["=1"], ["a=1", "a=2"], ["a[=1"]])
def test_metadata_condition_without_form_is_refused(conditions: list[str]) -> None:
    with pytest.raises(InvalidQuery, match="metadata"):
        parse_metadata(conditions)


def test_text_folds_letters_beyond_ascii() -> None:
    given_parameters = parameters(EventQuery(text="ÉMILE ß"))

    assert given_parameters["text"] == "émile ß"
    assert (given_parameters["fold_from"], given_parameters["fold_to"]) == ("É", "é")


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
