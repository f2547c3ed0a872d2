"""Two encoders write events, and nobody must be able to tell which one wrote which."""

import json
from collections import OrderedDict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_platform.client.payload import to_payload
from audit_platform.errors import InvalidEvent
from audit_platform.privacy.redact import Redactor
from tests.effort import examples

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | texts,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(texts, inner, max_size=4)
    ),
    max_leaves=12,
)


class Colour(StrEnum):
    """A text that is more than a text."""

    RED = "red"


class Pair(NamedTuple):
    """A tuple that is more than a tuple."""

    left: int
    right: int


class Shout(str):
    """A text whose form as text is another one."""

    __slots__ = ()

    def __str__(self) -> str:
        """Be loud."""
        return self.upper()


def payload(value: object, *, is_plain: bool) -> bytes:
    return to_payload({"metadata": value}, "{}", max_bytes=1_000_000, is_plain=is_plain)


@settings(max_examples=examples(500))
@given(value=values)
def test_both_encoders_write_the_same_value(value: object) -> None:
    """Equal values, and equal texts but for the zero in the exponent of small numbers."""
    fast, slow = payload(value, is_plain=True), payload(value, is_plain=False)

    assert json.loads(fast, parse_float=repr_of) == json.loads(slow, parse_float=repr_of)


def repr_of(text: str) -> str:
    """The number as Python writes it, so that -0.0 and 0.0 stay two."""
    return repr(float(text))


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="surrogate"):
        payload({"a": "\ud800"}, is_plain=True)


@pytest.mark.parametrize(
    "value",
    [
        {"at": datetime(2026, 11, 23, tzinfo=UTC)},
        {"id": UUID(int=7)},
        {"list": [datetime(2026, 11, 23, tzinfo=UTC)]},
        {"colour": Colour.RED},
        {"text": Shout("quiet")},
        {"pair": Pair(1, 2)},
        {"deep": [OrderedDict(a=1)]},
        {1: "a number as key"},
        {"set": {1}},
        {"bytes": b"x"},
        {"object": object()},
        {"nan": float("nan")},
        {"infinite": [{"a": -float("inf")}]},
    ],
    ids=lambda value: type(next(iter(value.values()))).__name__,
)
def test_what_is_more_than_json_is_not_plain(value: dict[Any, Any]) -> None:
    look = Redactor().look(value, field="metadata")

    assert not (look.is_plain and look.is_clean)


@pytest.mark.parametrize("key", [Colour.RED, Shout("quiet")])
def test_a_key_that_is_more_than_a_text_is_written_alike(key: str) -> None:
    value = {key: 1}

    assert payload(value, is_plain=True) == payload(value, is_plain=False)


@given(value=values)
def test_plain_json_is_plain(value: object) -> None:
    assert Redactor(max_characters=10**6).look({"a": value}, field="metadata").is_plain
