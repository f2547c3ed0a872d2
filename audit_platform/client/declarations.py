"""Declares what will never come: numbers given up, calls that the policies left out.

Here: from the counts to events in the control lane. Not here: counting (`client/buffer.py`,
`client/policies.py`), the events (`client/control_events.py`), sending them.
Guarantee: each number given up is declared once. Used by the sending thread alone, and by `close()`
once that has ended.
"""

from collections.abc import Callable, Sequence
from typing import Final

from audit_platform.client.buffer import Buffer
from audit_platform.client.control_events import ControlEvents
from audit_platform.client.policies import NotLogged

# Declarations wait while this many events about the client itself do.
_MAX_WAITING: Final = 64


class Declarations:
    """Writes into the control lane of one client."""

    def __init__(
        self,
        *,
        buffer: Buffer,
        control: ControlEvents,
        take_news: Callable[[], Sequence[NotLogged]],
        producer_id: Callable[[], int],
    ) -> None:
        """Keep what is needed.

        Args:
            buffer: Counts what is given up, and has the control lane.
            control: Makes the events.
            take_news: Gives the changed counts of calls that the policies left out.
            producer_id: Number of this producer, once it has its slot.
        """
        self._buffer, self._control, self._take_news = buffer, control, take_news
        self._producer_id = producer_id

    def declare(self) -> None:
        """Write what is new, unless too much of the kind waits already."""
        if self._buffer.control_waiting >= _MAX_WAITING:
            return
        producer_id = self._producer_id()
        for epoch, reason, numbers in self._buffer.take_lost():
            for payload in self._control.losses(producer_id, epoch, reason.value, numbers):
                self._buffer.put_control(payload)
        epoch = self._buffer.epochs[self._buffer.control_lane]
        for payload in self._control.not_logged(producer_id, epoch, self._take_news()):
            self._buffer.put_control(payload)
