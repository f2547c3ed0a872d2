"""Who is a suspect, and when a suspect is dead; the owner of a live lease never is."""

from datetime import UTC, datetime, timedelta

from audit_platform.sensors.decision import STARTED_BOUND_S, LeaseState, RunInFlight, RunStage
from audit_platform.sensors.lost_runs import REAP_CONFIRM_S, REAP_PENDING_S, confirm, suspects

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
RUN = "3f2a77aa-0000-4000-8000-000000000000"
OTHER = "9bc1d2ee-0000-4000-8000-000000000000"
LIVE = LeaseState(run_id=RUN, is_unexpired=True)


def run(stage: RunStage, age_s: float) -> RunInFlight:
    return RunInFlight(run_id=RUN, stage=stage, since=NOW - timedelta(seconds=age_s))


def test_started_run_without_its_lease_is_a_suspect() -> None:
    runs = {0: [run(RunStage.STARTED, STARTED_BOUND_S + 1)]}

    assert suspects(runs, {}, NOW) == (RUN,)
    assert suspects(runs, {0: LeaseState(run_id=OTHER, is_unexpired=True)}, NOW) == (RUN,)
    assert suspects(runs, {0: LIVE}, NOW) == ()
    assert suspects(runs, {1: LIVE}, NOW) == (RUN,)


def test_young_and_cancelled_runs_are_no_suspects() -> None:
    young = run(RunStage.STARTED, STARTED_BOUND_S)

    assert suspects({0: [young, run(RunStage.CANCELING, 9_999)]}, {}, NOW) == ()


def test_run_that_never_left_the_queue_is_a_suspect_after_minutes() -> None:
    assert suspects({0: [run(RunStage.PENDING, REAP_PENDING_S)]}, {}, NOW) == ()
    assert suspects({0: [run(RunStage.PENDING, REAP_PENDING_S + 1)]}, {}, NOW) == (RUN,)


def test_suspect_is_dead_only_when_it_stays_one() -> None:
    dead, seen = confirm([RUN], {}, 100.0)
    assert (dead, seen) == ((), {RUN: 100.0})

    assert confirm([RUN], seen, 100.0 + REAP_CONFIRM_S - 1) == ((), seen)
    assert confirm([RUN], seen, 100.0 + REAP_CONFIRM_S) == ((RUN,), {})


def test_cleared_suspect_is_forgotten() -> None:
    assert confirm([], {RUN: 1.0}, 1_000.0) == ((), {})
