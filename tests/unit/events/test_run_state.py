"""What the threads of a run share: the first reason and the first failure count."""

from threading import Event

import pytest

from audit_platform.events.run_state import RunState
from audit_platform.events.tally import EndReason


def _run(*, lifetime_s: float = 60.0) -> RunState:
    return RunState(lifetime_s=lifetime_s, stop=Event())


def test_a_run_without_a_reason_goes_on() -> None:
    run = _run()

    assert run.reason_to_end() is None
    assert not run.is_ending


def test_the_first_reason_stays_whatever_comes_later() -> None:
    run = _run()

    run.end(EndReason.FENCE_LOST)
    run.end(EndReason.IDLE)
    run.stop.set()

    assert run.reason_to_end() is EndReason.FENCE_LOST


@pytest.mark.parametrize(
    ("lifetime_s", "is_stopped", "expected"),
    [(60.0, True, EndReason.STOP), (0.0, False, EndReason.LIFETIME)],
)
def test_a_stop_and_the_end_of_the_lifetime_are_reasons(
    lifetime_s: float, is_stopped: bool, expected: EndReason
) -> None:
    run = _run(lifetime_s=lifetime_s)
    if is_stopped:
        run.stop.set()

    assert run.reason_to_end() is expected
    assert run.is_ending


def test_the_first_failure_of_a_thread_is_raised_and_lets_the_others_end() -> None:
    run = _run()

    run.fail(RuntimeError("first"))
    run.fail(RuntimeError("second"))

    assert run.is_ending
    with pytest.raises(RuntimeError, match="first"):
        run.reason_to_end()
