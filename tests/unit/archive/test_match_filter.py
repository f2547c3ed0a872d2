"""Filters: what was added is always found, what was not hardly ever, in bounded size."""

import json
from collections.abc import Sequence
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from audit_platform.archive.match_filter import (
    MAX_BITS,
    MAX_FALSE_POSITIVES,
    MAX_SET,
    FilterKind,
    MatchFilter,
    MatchFilterBuilder,
    match_key,
)
from audit_platform.errors import ArchiveDamaged

PARTS = strategies.text(
    strategies.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20
)


def filter_of(keys: Sequence[Sequence[str]]) -> MatchFilter:
    builder = MatchFilterBuilder()
    builder.add(match_key(*key) for key in keys)
    return builder.build()


@hypothesis.given(strategies.lists(strategies.lists(PARTS, min_size=1, max_size=3), max_size=50))
def test_every_added_key_is_found(keys: list[list[str]]) -> None:
    made = filter_of(keys)

    assert all(made.might_contain(*key) for key in keys)


@pytest.mark.parametrize("count", [0, 1, MAX_SET, MAX_SET + 1, 1_000, 20_000])
def test_every_added_key_is_found_at_each_size(count: int) -> None:
    keys = [("acme", "user", str(number)) for number in range(count)]

    made = filter_of(keys)

    assert all(made.might_contain(*key) for key in keys)


@pytest.mark.parametrize("count", [MAX_SET + 1, 1_000, 3_300, 20_000])
def test_foreign_keys_are_found_in_one_of_a_hundred_at_most(count: int) -> None:
    made = filter_of([("acme", "user", str(number)) for number in range(count)])

    found = sum(made.might_contain("acme", "order", str(number)) for number in range(20_000))

    # Three standard deviations above the bound, which is the chance of one trial in a thousand.
    assert found <= 20_000 * MAX_FALSE_POSITIVES + 3 * (20_000 * MAX_FALSE_POSITIVES) ** 0.5


@pytest.mark.parametrize("count", [MAX_SET + 1, 1_000, 20_000])
def test_filter_takes_few_bytes_per_key(count: int) -> None:
    made = filter_of([("acme", str(number)) for number in range(count)])

    assert made.kind is FilterKind.BLOOM
    # 9.6 bits are the theory for 1 %; a power of two above it at most doubles that.
    assert len(made.bits) <= count * 2.8


def test_few_keys_are_kept_exactly() -> None:
    made = filter_of([("acme", str(number)) for number in range(MAX_SET)])

    assert made.kind is FilterKind.SET
    assert not any(made.might_contain("acme", f"x{number}") for number in range(10_000))


def test_empty_filter_holds_nothing() -> None:
    assert not filter_of([]).might_contain("acme")


def test_repeated_keys_do_not_let_a_filter_grow() -> None:
    keys = [("acme", str(number)) for number in range(500)]

    assert filter_of(keys * 20) == filter_of(keys)


def test_filter_does_not_depend_on_the_order_of_keys() -> None:
    keys = [("acme", str(number)) for number in range(500)]

    assert filter_of(keys[::-1]) == filter_of(keys)


def test_parts_are_not_mixed_up() -> None:
    made = filter_of([("a", "bc")])

    assert not made.might_contain("ab", "c")
    assert not made.might_contain("a", "b", "c")
    assert not made.might_contain("a")


def test_filter_beyond_its_largest_size_holds_anything() -> None:
    """Built by hand: 4 million keys would take seconds."""
    builder = MatchFilterBuilder()
    builder._bits = bytearray(b"\xff" * (MAX_BITS >> 3))

    made = builder.build()

    assert made.kind is FilterKind.ANYTHING
    assert made.might_contain("whatever")


@pytest.mark.parametrize("count", [0, 3, 1_000])
def test_filter_comes_back_equal(count: int) -> None:
    made = filter_of([("Ümlaut & Söhne", str(number)) for number in range(count)])

    assert MatchFilter.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_filter_that_holds_anything_comes_back_equal() -> None:
    made = MatchFilter(kind=FilterKind.ANYTHING)

    assert MatchFilter.from_json(made.to_json()) == made


def test_filter_names_nobody() -> None:
    """A manifest outlives the rows: after their deletion it must not tell whose they were."""
    text = json.dumps(filter_of([("acme", "jane@example.org")]).to_json())

    assert "jane" not in text


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"kind": "cuckoo"},
        {"kind": "set"},
        {"kind": "set", "keys": ["xyz"]},
        {"kind": "set", "keys": ["zz" * 4]},
        {"kind": "bloom"},
        {"kind": "bloom", "bits": "***"},
        {"kind": "bloom", "bits": "AAAA"},
        {"kind": "anything", "keys": []},
    ],
)
def test_another_form_of_a_filter_is_refused(value: Any) -> None:
    with pytest.raises(ArchiveDamaged):
        MatchFilter.from_json(value)
