"""Reads event times in every accepted form (pure).

Here: RFC 3339 text and epoch milliseconds, to microseconds since 1970. Not here: whether an event
of that time may be stored now (`events/normalise.py`).
Guarantee: a time is read exactly, finer digits than microseconds cut off, or refused; no time zone
is ever assumed.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from audit_platform.events.event import timestamp_us
from audit_platform.events.reject import RejectReason, Unstorable

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIELD: Final = "timestamp"
_RFC_3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:[.,]([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2}))?",
    re.ASCII,
)
_LONG_YEAR: Final = re.compile(r"[+-]?[0-9]{5,}-|-[0-9]{4,}-|[+-][0-9]{4}-")
_LEAP_SECOND: Final = 60
_US_DIGITS: Final = 6
# 100,000,000,000 ms is March 1973, and as seconds the year 5138: below it the unit is in doubt.
_SMALLEST_CLEAR_MS: Final = 100_000_000_000
_LARGEST_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


def text_to_us(text: str) -> int:
    """Read RFC 3339 text with any offset; `T` may be a space, fractions may have any length.

    Returns:
        Microseconds since 1970, negative before. A leap second is the first one of the next
        minute, as PostgreSQL reads it.

    Raises:
        Unstorable: Not such a text, no offset, or a year outside 1 to 9999.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise _out_of_range() if _LONG_YEAR.match(text) else _unreadable()
    if match[1] == "0000":
        raise _out_of_range()
    has_offset = match[8] is not None
    if not has_offset and text[-1] not in "Zz":
        raise Unstorable(
            RejectReason.INVALID_VALUE,
            _FIELD,
            "has no time zone",
            "end it with Z or an offset such as +01:00",
        )
    is_leap = int(match[6]) == _LEAP_SECOND
    try:
        moment = datetime(
            *(int(part) for part in match.group(1, 2, 3, 4, 5)),
            second=int(match[6]) - is_leap,
            microsecond=int((match[7] or "0")[:_US_DIGITS].ljust(_US_DIGITS, "0")),
            tzinfo=_zone(match) if has_offset else UTC,
        )
    except ValueError as exc:
        raise _unreadable() from exc
    return timestamp_us(moment) + is_leap * 1_000_000


def milliseconds_to_us(milliseconds: int) -> int:
    """Read milliseconds since 1970.

    Raises:
        Unstorable: Before 1970, after the year 9999, or so small that seconds may be meant.
    """
    if not 0 <= milliseconds <= _LARGEST_MS:
        raise _out_of_range()
    if milliseconds < _SMALLEST_CLEAR_MS:
        raise Unstorable(
            RejectReason.INVALID_VALUE,
            _FIELD,
            "is a number that may count seconds",
            "send milliseconds since 1970, or RFC 3339 text",
        )
    return milliseconds * 1_000


def _zone(match: re.Match[str]) -> timezone:
    minutes = int(match[10])
    if minutes > 59:  # noqa: PLR2004 - minutes of an hour
        raise ValueError
    offset = timedelta(hours=int(match[9]), minutes=minutes)
    return timezone(-offset if match[8] == "-" else offset)


def _unreadable() -> Unstorable:
    return Unstorable(
        RejectReason.INVALID_VALUE,
        _FIELD,
        "is no time that can be read",
        "send RFC 3339, for example 2026-01-31T12:00:00.000000Z, or milliseconds since 1970",
    )


def _out_of_range() -> Unstorable:
    return Unstorable(
        RejectReason.TIMESTAMP_OUT_OF_RANGE,
        _FIELD,
        "lies outside the years 1970 to 9999",
        "send the time of the event in UTC",
    )
