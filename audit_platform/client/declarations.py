"""Declares what will never come: numbers given up, calls that the policies left out.

Here: from the counts to events in the control lane. Not here: counting (`client/buffer.py`,
`client/policies.py`), the events (`client/control_events.py`), sending them.
Guarantee: each number given up is declared once. Used by the sending thread alone, and by `close()`
once that has ended.
"""

import time
from collections.abc import Callable
from typing import Final

from audit_platform.client.buffer import Buffer
from audit_platform.client.control_events import ControlEvents
from audit_platform.client.policies import PolicyCounts

# Declarations wait while this many events about the client itself do.
_MAX_WAITING: Final = 64
# Each report is an event of its own: more often, sampling would fill the log it is to spare.
_REPORT_S: Final = 60.0


class Declarations:
    """Writes into the control lane of one client."""

    def __init__(
        self,
        *,
        buffer: Buffer,
        control: ControlEvents,
        counts: PolicyCounts | None,
        producer_id: Callable[[], int],
    ) -> None:
        """Keep what is needed.

        Args:
            buffer: Counts what is given up, and has the control lane.
            control: Makes the events.
            counts: Counts of calls that the policies left out; None without policies.
            producer_id: Number of this producer, once it has its slot.
        """
        self._buffer, self._control, self._counts = buffer, control, counts
        self._producer_id, self._reported_s = producer_id, float("-inf")
        if counts is not None:
            counts.on_news = buffer.wake

    def due_s(self) -> float:
        """Moment of the monotonic clock at which calls that were left out are reported."""
        if self._counts is None or not self._counts.has_news:
            return float("inf")
        return self._reported_s + _REPORT_S

    def declare(self) -> None:
        """Write what is new, unless too much of the kind waits already."""
        if self._buffer.control_waiting >= _MAX_WAITING:
            return
        producer_id = self._producer_id()
        for epoch, reason, numbers in self._buffer.take_lost():
            for payload in self._control.losses(producer_id, epoch, reason.value, numbers):
                self._buffer.put_control(payload)
        if self._counts is not None and self._counts.has_news:
            self._report(producer_id, self._counts)

    def _report(self, producer_id: int, counts: PolicyCounts) -> None:
        now_s = time.monotonic()
        if now_s < self.due_s() and not self._buffer.is_closing:
            return
        self._reported_s = now_s
        epoch = self._buffer.epochs[self._buffer.control_lane]
        for payload in self._control.not_logged(producer_id, epoch, counts.take_news()):
            self._buffer.put_control(payload)
