"""Waiting for the platform, but not for ever.

Here: the pause between two looks, and the end of a wait in which nothing moves.
"""

from threading import Event
from time import monotonic
from typing import Final

from audit_platform.errors import AuditPlatformError

# A cold run needs about 5 s, a killed one is replaced within 90 s; longer means a broken platform.
STILL_FOR_S: Final = 150.0
LOOK_S: Final = 0.25


class Patience:
    """Pauses between looks; ends when what is seen stays the same for too long."""

    def __init__(self) -> None:
        """Start the clock."""
        self._pause = Event()
        self._last: object = None
        self._moved_s = monotonic()

    def wait(self, seen: object, *, pause_s: float = LOOK_S) -> None:
        """Wait a moment before the next look.

        Args:
            seen: What the last look saw; anything that compares.
            pause_s: Length of the moment.

        Raises:
            AuditPlatformError: Nothing has moved for 150 s.
        """
        if seen != self._last:
            self._last, self._moved_s = seen, monotonic()
        elif monotonic() - self._moved_s > STILL_FOR_S:
            raise AuditPlatformError(
                f"Nothing was stored for {STILL_FOR_S:.0f} s. "
                "Look at the runs in the Dagster UI and at the logs in the data directory."
            )
        self._pause.wait(pause_s)
