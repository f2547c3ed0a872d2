"""Overload levels: thresholds, and how a level falls again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.events.overload import MAX_LEVEL, Load, level_of, next_level

LOADS = st.builds(
    Load,
    oldest_age_s=st.floats(0, 1_000, allow_nan=False),
    memory_share=st.floats(0, 1.2, allow_nan=False),
)


@pytest.mark.parametrize(
    ("oldest_age_s", "memory_share", "expected"),
    [
        (0, 0, 0),
        (10, 0.50, 0),
        (10.1, 0, 1),
        (0, 0.51, 1),
        (60, 0.70, 1),
        (60.1, 0, 2),
        (0, 0.71, 2),
        (300, 0.85, 2),
        (300.1, 0, 3),
        (0, 0.86, 3),
        (0, 1.2, 3),
    ],
)
def test_level_is_the_higher_of_age_and_memory(
    oldest_age_s: float, memory_share: float, expected: int
) -> None:
    assert level_of(oldest_age_s, memory_share) == expected


@pytest.mark.parametrize("previous", range(MAX_LEVEL + 1))
@given(load=LOADS)
def test_level_rises_at_once_and_falls_by_one_step(previous: int, load: Load) -> None:
    reached, found = level_of(*load), next_level(previous, load)

    if reached >= previous:
        assert found == reached
    else:
        assert found in {previous, previous - 1}


def test_level_stays_until_the_load_is_clearly_below_its_threshold() -> None:
    just_below, clearly_below = Load(9.5, 0.49), Load(7.9, 0.39)

    assert next_level(1, just_below) == 1
    assert next_level(1, clearly_below) == 0


def test_quiet_load_ends_every_level() -> None:
    level = MAX_LEVEL
    for _ in range(MAX_LEVEL):
        level = next_level(level, Load(0.0, 0.0))

    assert level == 0
