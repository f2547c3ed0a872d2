"""Values of foreign records as the columns of an event take them (pure).

Here: conversion of one JSON value or one time, and what does not fit. Not here: which value goes
where (`imports/mapping.py`).
Guarantee: numbers are never read as floats on the way to a JSON column.
"""

import re
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from audit_platform.errors import InvalidEvent
from audit_platform.events.event import JSON_FIELDS, FieldSpec, timestamp_us
from audit_platform.events.json_path import check_json, compact, decode_text, encode_value
from audit_platform.imports.mapping_rules import ENUM_VALUES, TimeForm, TimeRule

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PER_SECOND: Final = {TimeForm.EPOCH_S: 1, TimeForm.EPOCH_MS: 1_000}
_BEYOND_MICROSECONDS: Final = re.compile(r"[.,]\d{6}0*[1-9]")
_NUMBER: Final = re.compile(r"-?\d{1,18}(\.\d{1,9})?")
_ISO_REMEDY: Final = "write ISO 8601 with a zone, for example 2026-01-31T23:59:59Z"


def fit(raw: bytes, spec: FieldSpec | None, *, truncate: bool) -> bytes | None:
    """Value as the column takes it; None if the column cannot hold it.

    Args:
        raw: JSON bytes of the value.
        spec: Column; None for a key of `context`, which takes any value as it is.
        truncate: Cut a text that is too long.
    """
    if spec is None:
        return raw
    if spec.name in JSON_FIELDS:
        return as_json_object(raw)
    text = decode_text(raw)
    value = raw.decode() if text is None else text
    if raw[:1] in b"{[" or value == "":
        return None
    return _as_text(value, spec, truncate) if spec.kind == "text" else _as_kind(value, spec)


def _as_text(value: str, spec: FieldSpec, truncate: bool) -> bytes | None:  # noqa: FBT001 - passed on
    limit = spec.max_length or len(value)
    return encode_value(value[:limit]) if len(value) <= limit or truncate else None


def _as_kind(value: str, spec: FieldSpec) -> bytes | None:
    try:
        if spec.kind == "enum":
            return encode_value(value) if value in ENUM_VALUES[spec.name] else None
        if spec.kind == "uuid":
            return encode_value(str(uuid.UUID(value)))
        number = Decimal(value)
    except (ValueError, InvalidOperation):
        return None
    if not number.is_finite() or (spec.kind == "int" and number != int(number)):
        return None
    return str(int(number)).encode() if spec.kind == "int" else encode_value(float(number))


def as_json_object(raw: bytes) -> bytes | None:
    """Compact object, also from text that is one, as a CSV cell is; None for anything else."""
    text = decode_text(raw)
    candidate = raw if text is None else text.strip().encode()
    if candidate[:1] != b"{":
        return None
    try:
        check_json(candidate)
        return compact(candidate)
    except (InvalidEvent, msgspec.MsgspecError):
        return None


def refuse(path: str, raw: bytes, spec: FieldSpec | None) -> None:
    """Say what the column takes.

    Raises:
        InvalidEvent: Always, unless the value goes into `context`, which takes anything.
    """
    if spec is None:
        return
    problem = f"{raw[:40].decode(errors='replace')} does not fit the column {spec.name}"
    remedy = {
        "text": f"pass a text of 1 to {spec.max_length} characters",
        "enum": f"use one of: {', '.join(sorted(ENUM_VALUES.get(spec.name, ())))}",
        "json": "pass a JSON object",
        "uuid": "pass a UUID",
    }.get(spec.kind, "pass a number")
    raise InvalidEvent(field=path, problem=problem, remedy=remedy)


def same_text(one: bytes, other: bytes) -> bool:
    """Whether two JSON values are the same text, however it is escaped."""
    left, right = decode_text(one), decode_text(other)
    return left is not None and left == right


def parse_time(raw: bytes, rule: TimeRule, *, field: str) -> datetime:
    """Read the time of a record as aware UTC; digits beyond microseconds are cut.

    Raises:
        InvalidEvent: No time, no zone, before 1970 or after 9999.
    """
    text = decode_text(raw) or raw.decode()
    moment = _read_number(text, rule.form) if _NUMBER.fullmatch(text) else _read_iso(text)
    if moment is None:
        raise InvalidEvent(
            field=field,
            problem=f"{text[:40]!r} is no time in the accepted form",
            remedy=_ISO_REMEDY,
        )
    if moment.tzinfo is None:
        if not rule.naive_utc:
            raise InvalidEvent(
                field=field, problem=f"{text[:40]!r} has no time zone", remedy=_ISO_REMEDY
            )
        moment = moment.replace(tzinfo=UTC)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        moment = _EPOCH - timedelta(days=1)
    if moment < _EPOCH:
        raise InvalidEvent(
            field=field,
            problem=f"{text[:40]!r} lies outside 1970 to 9999",
            remedy="correct the time",
        )
    return moment


def is_exact_time(raw: bytes) -> bool:
    """Whether microseconds hold the whole of a written time."""
    return _BEYOND_MICROSECONDS.search(raw.decode()) is None


def render_time(moment: datetime, form: TimeForm | None) -> bytes | None:
    """JSON bytes of a time in a form; None when no form is declared."""
    if form is None:
        return None
    if form in _PER_SECOND:
        return str(timestamp_us(moment) * _PER_SECOND[form] // 1_000_000).encode()
    spec = {TimeForm.SECONDS: "seconds", TimeForm.MILLIS: "milliseconds"}.get(form, "microseconds")
    return encode_value(moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=spec) + "Z")


def _read_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _read_number(text: str, form: TimeForm | None) -> datetime | None:
    if form is None or form not in _PER_SECOND:
        return None
    microseconds = int(Decimal(text) * 1_000_000 / _PER_SECOND[form])
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return None
