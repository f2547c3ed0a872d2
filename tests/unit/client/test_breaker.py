"""The circuit opens after repeated failures, probes, and closes with the first success."""

from audit_platform.client.breaker import Breaker
from audit_platform.client.stats import BreakerState
from audit_platform.events.batch import FAILURES_UNTIL_OPEN


def failed(times: int) -> Breaker:
    breaker = Breaker()
    for _ in range(times):
        breaker.begin_attempt()
        breaker.record_failure(uniform01=0.5)
    return breaker


def test_few_failures_leave_the_circuit_closed() -> None:
    assert failed(FAILURES_UNTIL_OPEN - 1).state is BreakerState.CLOSED


def test_repeated_failures_open_the_circuit() -> None:
    assert failed(FAILURES_UNTIL_OPEN).state is BreakerState.OPEN


def test_attempt_through_an_open_circuit_is_a_probe() -> None:
    breaker = failed(FAILURES_UNTIL_OPEN)

    breaker.begin_attempt()

    assert breaker.state is BreakerState.HALF_OPEN


def test_failed_probe_opens_the_circuit_again() -> None:
    breaker = failed(FAILURES_UNTIL_OPEN)
    breaker.begin_attempt()

    breaker.record_failure(uniform01=0.5)

    assert breaker.state is BreakerState.OPEN


def test_success_closes_the_circuit_and_forgets_the_failures() -> None:
    breaker = failed(FAILURES_UNTIL_OPEN)
    breaker.begin_attempt()

    breaker.record_success()

    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 0)


def test_waits_are_jittered_and_capped_for_ever() -> None:
    breaker = Breaker()

    waits_s = [breaker.record_failure(uniform01=uniform) for uniform in (0.0, 0.99) * 500]

    assert min(waits_s) >= 0.1
    assert max(waits_s) <= 6
    assert len(set(waits_s)) > 2
