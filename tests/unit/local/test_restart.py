"""Back-off of restarts."""

from hypothesis import given
from hypothesis import strategies as st

from audit_platform.local.restart import (
    FIRST_DELAY_S,
    HEALTHY_AFTER_S,
    LONGEST_DELAY_S,
    RestartState,
    after_end,
    delay_s,
)


def test_first_end_is_followed_by_the_shortest_wait() -> None:
    state = after_end(RestartState(), lived_s=0.1)

    assert delay_s(state) == FIRST_DELAY_S


def test_each_early_end_doubles_the_wait() -> None:
    state, waits = RestartState(), []
    for _ in range(4):
        state = after_end(state, lived_s=1.0)
        waits.append(delay_s(state))

    assert waits == [0.5, 1.0, 2.0, 4.0]


def test_healthy_life_starts_the_count_anew() -> None:
    state = after_end(RestartState(failures=6), lived_s=HEALTHY_AFTER_S)

    assert delay_s(state) == FIRST_DELAY_S


@given(st.integers(min_value=0, max_value=10_000))
def test_wait_never_exceeds_its_limit(failures: int) -> None:
    assert FIRST_DELAY_S <= delay_s(RestartState(failures=failures)) <= LONGEST_DELAY_S
