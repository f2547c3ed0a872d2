"""Waiting between attempts: counts failures, waits with jitter, wakes on stop.

Here: the shell around `batch.retry_delay_s`, shared by the reader thread (Redis) and the storing
thread (PostgreSQL). Not here: which errors are worth a retry; each error says so itself.
"""

import random
from threading import Event

from audit_platform.events.batch import retry_delay_s


class BackOff:
    """Consecutive failures of one service, and the wait that follows each."""

    def __init__(self, stop: Event) -> None:
        """Start without failures.

        Args:
            stop: Ends every wait at once when set.
        """
        self._stop = stop
        self.failures = 0

    def wait(self, *, longest_s: float = float("inf")) -> None:
        """Count one failure and wait; returns early when the stop flag is set."""
        self.failures += 1
        # Jitter keeps runs apart after an outage; it protects nothing, so it needs no secrecy.
        delay_s = retry_delay_s(self.failures, uniform01=random.random())  # noqa: S311
        self._stop.wait(max(0.0, min(delay_s, longest_s)))

    def reset(self) -> None:
        """Forget the failures after a success."""
        self.failures = 0
