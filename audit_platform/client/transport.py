"""Sends entries to Redis: one attempt at a time, with a circuit breaker and two patiences.

Here: connections, the breaker, counting, the log lines about outages. Not here: what is sent
(`client/sender.py`), what happens to events that could not be (`client/custodian.py`).
Guarantee: an attempt that fails leaves the entries as they are; the same bytes go out again.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from audit_platform.client.breaker import Breaker
from audit_platform.client.stats import BreakerState
from audit_platform.crash_points import crash
from audit_platform.errors import AuditPlatformError, QueueFull
from audit_platform.events.stream import Appender, BatchEntry

logger = logging.getLogger(__name__)

# A Redis that is silent so long may be gone: its entries go to the disk, and are sent again with
# the longer time-out of the settings (delivery design, section 2).
FIRST_TIMEOUT_MS: Final = 250
# After a silence every attempt is patient for a while, so that a slow link is not sent all twice.
_PATIENT_S: Final = 60.0


class Transport:
    """The way to Redis of one sending thread."""

    def __init__(self, connect: Callable[[int | None], Appender]) -> None:
        """Connect with the first attempt.

        Args:
            connect: Makes an edge with a time-out in milliseconds; None: that of the settings.
        """
        self._connect = connect
        self._quick: Appender | None = None
        self._patient: Appender | None = None
        self._patient_until_s = float("-inf")
        self.breaker = Breaker()
        self.retries = 0
        self.last_error: str | None = None
        self.is_refused = False
        """Whether Redis answered last that it takes no more."""

    def appender(self, *, is_holding: bool = False) -> Appender | None:
        """The edge in use; None while Redis did not answer, or was never asked.

        A Redis that refuses entries answers questions: without them no producer would learn that
        there is room again (seen in test R01: everything stayed on disk for ever).
        """
        if self.breaker.failures and not (self.is_refused or is_holding):
            return None
        return self._quick or self._patient

    def _edge(self) -> Appender:
        if self.breaker.failures or time.monotonic() < self._patient_until_s:
            if self._patient is None:
                self._patient = self._connect(None)
            return self._patient
        if self._quick is None:
            self._quick = self._connect(FIRST_TIMEOUT_MS)
        return self._quick

    def attempt(self, entries: Sequence[BatchEntry]) -> float | None:
        """Send once.

        Returns:
            None after a success, otherwise the seconds to wait before the next attempt.
        """
        self.breaker.begin_attempt()
        try:
            edge = self._edge()
            if len(entries) == 1:
                edge.append_batch(entries[0])
            else:
                edge.append_many(entries)
            crash("P_ADDED")
        except Exception as exc:  # noqa: BLE001 - long-lived loop, counted and logged
            # Whatever it was, the events are kept and the thread goes on (long-lived loop).
            return self._note_failure(exc)
        self._note_success()
        return None

    def _note_failure(self, exc: Exception) -> float:
        was_open = self.breaker.state is not BreakerState.CLOSED
        self.retries += 1
        self._patient_until_s = time.monotonic() + _PATIENT_S
        self.is_refused = isinstance(exc, QueueFull)
        # Messages of other errors may quote the URL, and with it a password.
        detail = f": {exc}" if isinstance(exc, AuditPlatformError) else ""
        self.last_error = type(exc).__name__ + detail
        # Jitter keeps producers apart after an outage; it protects nothing.
        delay_s = self.breaker.record_failure(uniform01=random.random())  # noqa: S311
        if not was_open and self.breaker.state is BreakerState.OPEN:
            logger.warning("audit events wait on this machine: %s", self.last_error)
        return delay_s

    def _note_success(self) -> None:
        if self.breaker.state is not BreakerState.CLOSED:
            logger.info("audit events are sent again after %d failures", self.breaker.failures)
        self.breaker.record_success()
        self.last_error, self.is_refused = None, False

    def close(self) -> None:
        """Close all connections."""
        for edge in (self._quick, self._patient):
            if edge is not None:
                edge.close()
