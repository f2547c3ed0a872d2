"""Sets of numbers as ranges behave as sets of numbers."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from audit_platform.client.seq_set import SeqSet

RANGES = st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda one: (one[0], sum(one)))
STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove"]), RANGES), max_size=40)


def numbers(found: SeqSet) -> set[int]:
    return {number for first, last in found for number in range(first, last + 1)}


def build(steps: list[tuple[str, tuple[int, int]]]) -> tuple[SeqSet, set[int]]:
    made, model = SeqSet(), set[int]()
    for name, (first, last) in steps:
        part = set(range(first, last + 1))
        if name == "add":
            made.add(first, last)
            model |= part
        else:
            made.remove(first, last)
            model -= part
    return made, model


@given(STEPS, STEPS, RANGES)
def test_equals_a_set_of_numbers(
    steps: list[tuple[str, tuple[int, int]]],
    others: list[tuple[str, tuple[int, int]]],
    asked: tuple[int, int],
) -> None:
    (made, model), (other, other_model) = build(steps), build(others)
    part = set(range(asked[0], asked[1] + 1))

    assert numbers(made) == model
    assert made.count == len(model)
    assert bool(made) == bool(model)
    assert (made.first, made.last) == (min(model, default=None), max(model, default=None))
    assert made.covers(*asked) == (part <= model)
    assert made.touches(*asked) == bool(part & model)
    assert numbers(made.minus(other)) == model - other_model
    assert numbers(made.within(other)) == model & other_model


@given(STEPS)
def test_ranges_are_ascending_and_never_touch(steps: list[tuple[str, tuple[int, int]]]) -> None:
    made, _ = build(steps)

    ranges = list(made)

    assert all(first <= last for first, last in ranges)
    assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(ranges))
    assert made.parts == len(ranges)


def test_an_empty_range_adds_nothing() -> None:
    made = SeqSet()

    made.add(5, 4)

    assert not made
