"""Filters without a database."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audit_platform.errors import InvalidQuery
from audit_platform.search.query import (
    EventQuery,
    metadata_filter,
    parameters,
    parse_entity,
    parse_metadata,
    parse_moment,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


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
