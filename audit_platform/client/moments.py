"""How ids and times of one moment begin; under load many events share them.

Here: the part of both texts down to the millisecond, kept from one event to the next. Not here: the
layout of an id (`events/identity.py`).
Guarantee: safe to share between threads; what is kept is read once and replaced as a whole.
"""

from datetime import UTC, datetime
from typing import Final

from audit_platform.events.identity import time_part

_TO_THE_SECOND: Final = len("2026-11-23T12:34:56")


class Moments:
    """The millisecond that was asked for last, and the second it lies in."""

    __slots__ = ("_millisecond", "_second")

    def __init__(self) -> None:
        """Start without any."""
        self._second, self._millisecond = (-1, ""), (-1, "", "")

    def parts(self, timestamp_us: int) -> tuple[str, str]:
        """Give how the id and the time of an event begin.

        Args:
            timestamp_us: Microseconds since 1970.

        Raises:
            ValueError: Before 1970, or beyond 48 bits of milliseconds or the year 9999.
            OverflowError: Far beyond any year.
        """
        _, id_begin, text_begin = self._of(timestamp_us // 1_000)
        return id_begin, text_begin

    def _of(self, timestamp_ms: int) -> tuple[int, str, str]:
        known = self._millisecond
        if known[0] != timestamp_ms:
            second, millisecond = divmod(timestamp_ms, 1_000)
            text = f"{self._second_text(second)}.{millisecond:03d}"
            known = self._millisecond = (timestamp_ms, time_part(timestamp_ms), text)
        return known

    def _second_text(self, second: int) -> str:
        known = self._second
        if known[0] != second:
            text = datetime.fromtimestamp(second, UTC).isoformat()[:_TO_THE_SECOND]
            known = self._second = (second, text)
        return known[1]
