"""Why an event cannot be stored: reason codes, and a rejected line with its bytes (pure).

Here: the closed set of reasons and the values that carry them. Not here: the rules
(`events/normalise.py`, `events/json_text.py`, `events/lines.py`) and dead letters, which keep them.
"""

from dataclasses import dataclass
from enum import StrEnum


class RejectReason(StrEnum):
    """Reason code of a dead letter."""

    INVALID_JSON = "invalid_json"
    INVALID_UTF8 = "invalid_utf8"
    NUL_CHARACTER = "nul_character"
    LONE_SURROGATE = "lone_surrogate"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    JSON_TOO_DEEP = "json_too_deep"
    TOO_MANY_KEYS = "too_many_keys"
    DUPLICATE_KEY = "duplicate_key"
    TOO_LARGE = "too_large"
    MISSING_FIELD = "missing_field"
    INVALID_VALUE = "invalid_value"
    TOO_LONG = "too_long"
    ID_TIME_MISMATCH = "id_time_mismatch"
    ID_COLLISION = "id_collision"
    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range"
    TIMESTAMP_IN_FUTURE = "timestamp_in_future"
    UNKNOWN_VERSION = "unknown_version"
    ENVELOPE_MISMATCH = "envelope_mismatch"
    UNKNOWN_ENTRY = "unknown_entry"
    INVALID_REPORT = "invalid_report"
    REFUSED_BY_DATABASE = "refused_by_database"
    DECODER_FAILED = "decoder_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """One line, or one whole entry, that is kept with its bytes instead of being stored.

    `line_no` counts the events of an entry from 1; 0 means the entry itself, whose `raw` is then
    `lines.pack_fields` of its fields.
    """

    entry_id: str
    line_no: int
    reason: RejectReason
    detail: str
    raw: bytes


class Unstorable(Exception):
    """A line breaks a rule; raised and caught within the framing of one line."""

    def __init__(self, reason: RejectReason, field: str, problem: str, remedy: str) -> None:
        """Name the reason, the field, what was found (no payload) and what to send instead."""
        self.reason = reason
        self.detail = f"{field}: {problem}; {remedy}"
        super().__init__(self.detail)
