"""The precise path for one line: foreign names and shapes, and the exact verdict on a bad one.

Here: what a line that is not plainly canonical means, or why it cannot be stored. Not here: lines
that are plainly canonical, which never come here (`events/screen.py`), and whole foreign formats
with rules of their own (`imports/mapping.py`).
Guarantee: a canonical line gives what the fast path gives; nothing a producer sent is lost: keys
that are no field of ours go into `metadata`, JSON values keep their bytes.

Source: events design, section 1 (names accepted at the edge) and section 3 (limits).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from audit_platform.events.event import DEFAULT_TENANT, EVENT_FIELDS, JSON_FIELDS, ActorType
from audit_platform.events.field_values import (
    FIELD_READERS,
    JsonToken,
    check_id,
    check_time,
    read_external_id,
    read_timestamp_us,
    us_to_wire,
)
from audit_platform.events.identity import from_external
from audit_platform.events.json_text import judge
from audit_platform.events.reject import RejectReason, Unstorable
from audit_platform.events.wire_event import WireEvent

_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "timestamp": ("created_at", "occurred_at", "time"),
    "action": ("action_type", "event_name"),
    "entity_type": ("resource_type", "entity_name"),
    "entity_id": ("resource_id",),
    "user_id": ("admin_id", "triggered_by_id"),
    "metadata": ("details", "data"),
}
_ADMIN_NAMES: Final = frozenset({"admin_id", "adminId", "triggered_by_id", "triggeredById"})
_REQUIRED: Final = tuple(field.name for field in EVENT_FIELDS if field.required)
_NULL: Final = b"null"


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _accepted_names() -> dict[str, tuple[str, int]]:
    """Map each accepted name to its field and its rank; of several sent, the lowest rank wins."""
    names: dict[str, tuple[str, int]] = {}
    for field in EVENT_FIELDS:
        spellings = (field.name, *_ALIASES.get(field.name, ()))
        for rank, spelling in enumerate(
            form for name in spellings for form in (name, _camel_case(name))
        ):
            names.setdefault(spelling, (field.name, rank))
    return names


_NAMES: Final = _accepted_names()
_UNKNOWN: Final = ("", 0)
_FIELDS: Final = {field.name: field for field in EVENT_FIELDS}
_TOP_LEVEL: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLimits:
    """Limits of one event, from settings."""

    max_event_bytes: int
    max_json_depth: int
    """Levels within a JSON column; the event around it is not counted."""
    max_json_keys: int
    """Keys of all JSON columns together, at every level."""
    future_tolerance_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What is known about a line from outside of it."""

    entry_ms: int
    """When Redis took the entry; the time of an event that has neither id nor time."""
    delivery_id: str
    """Stream, entry and line; the external id of an event that has none."""
    now_us: int


def normalise(line: bytes, arrival: Arrival, limits: FrameLimits) -> WireEvent:
    """Turn one line into a canonical event that can be stored.

    Args:
        line: One JSON object, in any accepted spelling.
        arrival: Gives id and time to events without; the same delivery gives the same id.
        limits: Of one event.

    Raises:
        Unstorable: With the reason, the field and the remedy.
    """
    tokens, nested_keys = _read_line(line, limits)
    chosen, extras = _sort_out(tokens)
    values = {field: token for field, (_, token) in chosen.items()}
    if "user_id" in chosen and chosen["user_id"][0] in _ADMIN_NAMES:
        values.setdefault("actor_type", f'"{ActorType.ADMIN}"'.encode())
    _set_json_apart(chosen, values, extras)
    if nested_keys + len(extras) > limits.max_json_keys:
        raise Unstorable(
            RejectReason.TOO_MANY_KEYS,
            "event",
            f"holds {nested_keys + len(extras)} keys in its JSON fields",
            f"send at most {limits.max_json_keys}",
        )
    values["metadata"] = _folded(values.get("metadata", b"{}"), extras)
    event = _read_fields(values)
    return _identified(event, values, arrival, limits)


def _read_line(line: bytes, limits: FrameLimits) -> tuple[dict[str, JsonToken], int]:
    """Judge a line; return its top-level values and the number of keys below them."""
    if len(line) > limits.max_event_bytes:
        raise Unstorable(
            RejectReason.TOO_LARGE,
            "event",
            f"has {len(line)} bytes",
            f"send at most {limits.max_event_bytes}; put large content elsewhere and name it",
        )
    try:
        text = line.decode()
    except UnicodeDecodeError as exc:
        raise Unstorable(
            RejectReason.INVALID_UTF8,
            "event",
            f"is not UTF-8 at byte {exc.start}",
            "encode text as UTF-8",
        ) from exc
    facts = judge(text, max_depth=limits.max_json_depth + 1)
    if not facts.is_object:
        raise Unstorable(
            RejectReason.INVALID_VALUE, "event", "is no JSON object", "send one object per event"
        )
    tokens = {name: bytes(raw) for name, raw in _TOP_LEVEL.decode(line).items()}
    return tokens, facts.key_count - len(tokens)


def _sort_out(
    tokens: Mapping[str, JsonToken],
) -> tuple[dict[str, tuple[str, JsonToken]], dict[str, JsonToken]]:
    """Separate our fields, each with the name it came under, from everything else."""
    ranked: dict[str, tuple[int, str, JsonToken]] = {}
    extras: dict[str, JsonToken] = {}
    for name, token in tokens.items():
        field, rank = _NAMES.get(name, _UNKNOWN)
        if not field:
            extras[name] = token
        elif token != _NULL:
            candidate = (rank, name, token)
            if field in ranked:
                candidate, other = sorted((candidate, ranked[field]))
                extras[other[1]] = other[2]
            ranked[field] = candidate
    return {field: (name, token) for field, (_, name, token) in ranked.items()}, extras


def _set_json_apart(
    chosen: Mapping[str, tuple[str, JsonToken]],
    values: dict[str, JsonToken],
    extras: dict[str, JsonToken],
) -> None:
    """Move JSON fields of another shape, such as text in `details`, to the extras."""
    for field in JSON_FIELDS:
        token = values.get(field)
        is_shaped = token is None or token[:1] == b"{" or (field == "changes" and token[:1] == b"[")
        if not is_shaped:
            extras[chosen[field][0]] = values.pop(field)


def _folded(metadata: JsonToken, extras: Mapping[str, JsonToken]) -> JsonToken:
    """Append members to a JSON object, leaving the bytes of both as they are."""
    if not extras:
        return metadata
    taken = set(_TOP_LEVEL.decode(metadata))
    members: list[bytes] = []
    for name, token in extras.items():
        free = name
        while free in taken:
            free = f"event.{free}"
        taken.add(free)
        members.append(json.dumps(free, ensure_ascii=False).encode() + b":" + token)
    body = metadata[:-1]
    is_empty = not body[1:].strip()
    return body + (b"" if is_empty else b",") + b",".join(members) + b"}"


def _read_fields(values: Mapping[str, JsonToken]) -> WireEvent:
    _require(name for name in _REQUIRED if name not in values)
    event = WireEvent()
    for name, token in values.items():
        field = _FIELDS[name]
        if field.kind != "timestamp":
            setattr(event, name, FIELD_READERS[field.kind](field, token))
    return event


def _require(missing: Iterable[str]) -> None:
    for name in missing:
        raise Unstorable(
            RejectReason.MISSING_FIELD, name, "is missing", "every event has to name it"
        )


def _identified(
    event: WireEvent, values: Mapping[str, JsonToken], arrival: Arrival, limits: FrameLimits
) -> WireEvent:
    """Set time and id, and check them against each other and the clock."""
    token = values.get("timestamp")
    if token is None and event.id is not None:
        raise Unstorable(
            RejectReason.MISSING_FIELD,
            "timestamp",
            "is missing beside an id",
            "send it, or leave `id` out too",
        )
    time_us = arrival.entry_ms * 1_000 if token is None else read_timestamp_us(token)
    check_time(time_us, latest_us=arrival.now_us + limits.future_tolerance_s * 1_000_000)
    event.timestamp = us_to_wire(time_us)
    if event.id is None:
        event.id = from_external(
            time_us // 1_000,
            tenant_id=event.tenant_id or DEFAULT_TENANT,
            source=event.source or "",
            external_id=read_external_id(event.context) or arrival.delivery_id,
        )
    else:
        check_id(event.id, time_us)
    return event
