"""Circuit breaker: how long to wait after a failure, and how much to risk next (pure).

One table of states:

    closed     any failure but the fifth in a row → closed    wait a jittered, doubling time
    closed     fifth failure in a row            → open      stop hammering a dead Redis
    open       the wait of about 5 s is over     → half_open one entry goes out as a probe
    half_open  the probe fails                   → open
    any        a success                         → closed

The figures are those of the drain (`events/batch.py`), so that all processes of an installation
behave alike in an outage.
"""

from audit_platform.client.stats import BreakerState
from audit_platform.events.batch import FAILURES_UNTIL_OPEN, retry_delay_s


class Breaker:
    """State of one circuit; used by one thread, read by others."""

    def __init__(self) -> None:
        """Start closed, without failures."""
        self.failures = 0
        self.state = BreakerState.CLOSED

    def begin_attempt(self) -> None:
        """Note that something is sent; through an open circuit it is a probe."""
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN

    def record_failure(self, *, uniform01: float) -> float:
        """Count a failure; returns the seconds to wait before the next attempt."""
        self.failures += 1
        if self.failures >= FAILURES_UNTIL_OPEN:
            self.state = BreakerState.OPEN
        return retry_delay_s(self.failures, uniform01=uniform01)

    def record_success(self) -> None:
        """Close the circuit and forget the failures."""
        self.failures = 0
        self.state = BreakerState.CLOSED
