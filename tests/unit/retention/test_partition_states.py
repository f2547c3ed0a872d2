"""The state machine: no step before its time, none skipped, and each one due again after a kill."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.retention.partition_states import (
    HOT_STATES,
    LifecycleRules,
    State,
    Step,
    due_at,
    following_step,
    next_step,
)

HI = datetime(2026, 12, 2, tzinfo=UTC)
RULES = LifecycleRules(
    seal_after=timedelta(hours=48), hot_for=timedelta(days=30), grace=timedelta(days=7)
)
MICROSECOND = timedelta(microseconds=1)
LATER = timedelta(days=400)


@dataclass(frozen=True)
class Facts:
    state: State = State.OPEN
    hi: datetime = HI
    root: bytes | None = None
    indexed_at: datetime | None = None
    detached_at: datetime | None = None
    returned_at: datetime | None = None
    stepped_at: datetime | None = None


SEALED = Facts(state=State.SEALED, root=b"root")
DETACHED = Facts(state=State.DETACHED, root=b"root", detached_at=HI + timedelta(days=31))


@pytest.mark.parametrize(
    ("facts", "step", "at"),
    [
        (Facts(), Step.SEAL, HI + RULES.seal_after),
        (Facts(state=State.SEALED), Step.SEAL, HI),
        (SEALED, Step.INDEX, HI),
        (replace(SEALED, indexed_at=HI), Step.EXPORT, HI),
        (replace(SEALED, state=State.EXPORTED), Step.VERIFY, HI),
        (replace(SEALED, state=State.VERIFIED), Step.DETACH, HI + RULES.hot_for),
        (
            replace(SEALED, state=State.VERIFIED, returned_at=HI + LATER),
            Step.DETACH,
            HI + LATER + RULES.hot_for,
        ),
        (
            replace(SEALED, state=State.VERIFIED, returned_at=HI - LATER),
            Step.DETACH,
            HI + RULES.hot_for,
        ),
        (replace(SEALED, state=State.DETACH_STARTED), Step.DETACH, HI),
        (DETACHED, Step.DROP, HI + timedelta(days=31) + RULES.grace),
    ],
)
def test_each_step_is_due_from_its_moment_on(facts: Facts, step: Step, at: datetime) -> None:
    assert due_at(facts, RULES) == at
    assert following_step(facts) is step
    assert next_step(facts, RULES, at - MICROSECOND) is None
    assert next_step(facts, RULES, at) is step


def test_dropped_partition_needs_nothing_any_more() -> None:
    dropped = replace(DETACHED, state=State.DROPPED)

    assert (due_at(dropped, RULES), following_step(dropped)) == (None, None)
    assert next_step(dropped, RULES, HI + LATER) is None


def test_detached_partition_without_its_moment_is_never_dropped() -> None:
    """The table forbids it; a decision must not rest on that alone."""
    assert next_step(replace(DETACHED, detached_at=None), RULES, HI + LATER) is None


@pytest.mark.parametrize(
    "facts",
    [
        Facts(state=State.SEALED),
        replace(SEALED, indexed_at=HI),
        replace(SEALED, state=State.EXPORTED),
        replace(SEALED, state=State.VERIFIED),
        replace(SEALED, state=State.DETACH_STARTED),
    ],
)
def test_nothing_goes_on_while_the_clock_is_set_back(facts: Facts) -> None:
    recorded = HI + RULES.hot_for + LATER
    known = replace(facts, stepped_at=recorded)

    assert due_at(known, RULES) == recorded
    assert next_step(known, RULES, recorded - MICROSECOND) is None
    assert next_step(known, RULES, recorded) is following_step(known)


def test_naive_moment_decides_nothing() -> None:
    with pytest.raises(ValueError, match="time zone"):
        next_step(Facts(), RULES, HI.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seal_after": timedelta()}, "seal_after"),
        ({"hot_for": timedelta(seconds=-1)}, "hot_for"),
        ({"grace": timedelta(days=7) - MICROSECOND}, "grace must be 7 days"),
    ],
)
def test_rules_that_endanger_rows_are_refused(changed: dict[str, timedelta], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RULES, **changed)


def test_every_state_is_hot_or_archived_and_has_its_arrow() -> None:
    assert {State.OPEN, State.SEALED, State.EXPORTED, State.VERIFIED} == HOT_STATES
    assert {state for state in State if following_step(Facts(state=state)) is None} == {
        State.DROPPED
    }


@given(
    state=st.sampled_from(State),
    has_root=st.booleans(),
    has_indexes=st.booleans(),
    since_hi=st.timedeltas(-LATER, LATER),
    waited=st.timedeltas(timedelta(), LATER),
)
def test_waiting_longer_never_takes_a_due_step_away(
    state: State, has_root: bool, has_indexes: bool, since_hi: timedelta, waited: timedelta
) -> None:
    facts = Facts(
        state=state,
        root=b"root" if has_root else None,
        indexed_at=HI if has_indexes else None,
        detached_at=HI,
    )
    now = HI + since_hi

    step = next_step(facts, RULES, now)

    assert step in {None, following_step(facts)}
    assert step is None or next_step(facts, RULES, now + waited) is step
