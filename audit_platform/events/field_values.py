"""Reads the JSON value of one field into its column's type, or says what is wrong with it (pure).

Here: the rule of each kind of field: text, enum, number, uuid, time, JSON. Not here: which value
belongs to which field (`events/normalise.py`).
Guarantee: what is read fits the column.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from audit_platform.events.event import (
    SCHEMA_VERSION,
    SEVERITY_RANGE,
    ActorType,
    EventStatus,
    FieldKind,
    FieldSpec,
    format_timestamp,
)
from audit_platform.events.identity import uuid7_ms
from audit_platform.events.reject import RejectReason, Unstorable
from audit_platform.events.wire_event import (
    INT64_MAX,
    INT64_MIN,
    LARGEST_RATE,
    SMALLEST_RATE,
)
from audit_platform.events.wire_time import EPOCH, milliseconds_to_us, text_to_us

JsonToken = bytes
"""The bytes of one well-formed JSON value."""

_INTEGER: Final = re.compile(rb"-?[0-9]{1,19}")
_CANONICAL_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_ENUMS: Final[Mapping[str, tuple[str, ...]]] = {
    "status": tuple(EventStatus),
    "actor_type": tuple(ActorType),
}
_INT_RANGES: Final[Mapping[str, range]] = {
    "bulk_item_no": range(INT64_MIN, INT64_MAX + 1),
    "severity": SEVERITY_RANGE,
}
_NON_EMPTY: Final = frozenset({"tenant_id", "source", "action"})
# Positions in the text of a UUID.
_VERSION_AT: Final = 14
_VARIANT_AT: Final = 19
_STRING_DECODER: Final = msgspec.json.Decoder(str)


def read_text(field: FieldSpec, token: JsonToken) -> str:
    """Read text; in `*_id` fields an integer too, since many systems number their records."""
    if field.name.endswith("_id") and _INTEGER.fullmatch(token):
        text = token.decode()
    else:
        text = _string(field.name, token)
    if not text and field.name in _NON_EMPTY:
        raise Unstorable(
            RejectReason.MISSING_FIELD, field.name, "is empty", "send a text that is not empty"
        )
    if field.max_length is not None and len(text) > field.max_length:
        raise Unstorable(
            RejectReason.TOO_LONG,
            field.name,
            f"has {len(text)} characters",
            f"shorten it to {field.max_length}, or put it into metadata",
        )
    return text


def read_enum(field: FieldSpec, token: JsonToken) -> str:
    """Read one of a closed set of words, in any case."""
    word = _string(field.name, token).lower()
    if word not in _ENUMS[field.name]:
        raise _invalid(field.name, "is an unknown word", f"send {', '.join(_ENUMS[field.name])}")
    return word


def read_int(field: FieldSpec, token: JsonToken) -> int:
    """Read a whole number within the range of its column."""
    if not _INTEGER.fullmatch(token):
        raise _invalid(field.name, "is no whole number of at most 19 digits", "send one")
    number = int(token)
    if field.name == "schema_version":
        if number != SCHEMA_VERSION:
            raise Unstorable(
                RejectReason.UNKNOWN_VERSION,
                field.name,
                f"is {number}, this platform knows {SCHEMA_VERSION}",
                "replay it after an upgrade",
            )
        return number
    allowed = _INT_RANGES[field.name]
    if number not in allowed:
        raise _invalid(field.name, f"is {number}", f"send {allowed.start} to {allowed.stop - 1}")
    return number


def read_float(field: FieldSpec, token: JsonToken) -> float:
    """Read a rate: a positive number that a `real` can hold."""
    number = _number(token)
    if number is None or not SMALLEST_RATE <= number <= LARGEST_RATE:
        raise _invalid(
            field.name, "is no rate", f"send a number from {SMALLEST_RATE} to {LARGEST_RATE}"
        )
    return number


def read_uuid(field: FieldSpec, token: JsonToken) -> str:
    """Read a UUID with or without dashes, in any case; returned lower-case with dashes."""
    text = _string(field.name, token)
    if _CANONICAL_UUID.fullmatch(text):
        return text
    if not _UUID.fullmatch(text):
        raise _invalid(
            field.name,
            "is no UUID",
            "send a UUIDv7; an id of another kind belongs into context.external_id"
            if field.name == "id"
            else "send 32 hexadecimal digits",
        )
    return str(UUID(text))


def read_json(_field: FieldSpec, token: JsonToken) -> msgspec.Raw:
    """Take a JSON value as it is."""
    return msgspec.Raw(token)


FIELD_READERS: Final[
    Mapping[FieldKind, Callable[[FieldSpec, JsonToken], str | int | float | msgspec.Raw]]
] = {
    "text": read_text,
    "enum": read_enum,
    "int": read_int,
    "float": read_float,
    "uuid": read_uuid,
    "json": read_json,
}


def read_timestamp_us(token: JsonToken) -> int:
    """Read a time: RFC 3339 text, or milliseconds since 1970."""
    if _INTEGER.fullmatch(token):
        return milliseconds_to_us(int(token))
    return text_to_us(_string("timestamp", token))


def check_time(time_us: int, *, latest_us: int) -> None:
    """Refuse times that no partition may take."""
    if time_us < 0:
        raise Unstorable(
            RejectReason.TIMESTAMP_OUT_OF_RANGE,
            "timestamp",
            "lies before 1970",
            "send the time of the event in UTC",
        )
    if time_us > latest_us:
        ahead_s = (time_us - latest_us) // 1_000_000
        raise Unstorable(
            RejectReason.TIMESTAMP_IN_FUTURE,
            "timestamp",
            f"lies {ahead_s} s beyond what is accepted",
            "set the producer's clock; a time zone may be missing",
        )


def check_id(event_id: str, time_us: int) -> None:
    """Refuse an id, lower-case with dashes, that was not minted from the event's own time."""
    if event_id[_VERSION_AT] != "7" or event_id[_VARIANT_AT] not in "89ab":
        raise Unstorable(
            RejectReason.ID_TIME_MISMATCH,
            "id",
            "is no UUID of version 7",
            "send a UUIDv7 of `timestamp`, or none and yours as context.external_id",
        )
    if uuid7_ms(event_id) != time_us // 1_000:
        raise Unstorable(
            RejectReason.ID_TIME_MISMATCH,
            "id",
            "holds another millisecond than `timestamp`",
            "mint it from `timestamp`, or send none and yours as context.external_id",
        )


def read_external_id(context: msgspec.Raw) -> str | None:
    """Read `external_id` of a context object; a number counts as its digits."""
    decoded = msgspec.json.decode(context, type=dict[str, msgspec.Raw] | None)
    members: dict[str, msgspec.Raw] = decoded or {}
    token = bytes(members.get("external_id", b""))
    if _INTEGER.fullmatch(token):
        return token.decode()
    return _STRING_DECODER.decode(token) if token[:1] == b'"' else None


def us_to_wire(time_us: int) -> str:
    """Write microseconds since 1970 in the canonical wire form."""
    moment: datetime = EPOCH + timedelta(microseconds=time_us)
    return format_timestamp(moment)


def _string(name: str, token: JsonToken) -> str:
    if token[:1] != b'"':
        raise _invalid(name, "is no text", "send a JSON string")
    return _STRING_DECODER.decode(token)


def _number(token: JsonToken) -> float | None:
    if token[:1] not in b"-0123456789":
        return None
    return float(token)


def _invalid(name: str, problem: str, remedy: str) -> Unstorable:
    return Unstorable(RejectReason.INVALID_VALUE, name, problem, remedy)
