"""Broken events that the demo sends on purpose, each of a known kind (pure).

Here: how each kind is made from a good record, and the reason the platform must give. Not here:
sending (`traffic_legacy.py`), judging (`events/frame.py`).
Guarantee: `event_key` of the bytes made here equals `event_key` of the bytes in the dead letter.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast

from audit_platform.events.event import MAX_EVENT_BYTES, format_timestamp, timestamp_us
from audit_platform.events.identity import TAIL_BITS, mint
from audit_platform.local.traffic.records import Record, to_json, to_legacy

_DEPTH: Final = 40  # the limit is 32
_FUTURE: Final = timedelta(hours=3)  # the limit is 5 minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of broken event: the reason code it must get, and how to break a good record."""

    reason: str
    spoil: Callable[[Record], bytes]


def event_key(raw: bytes) -> str:
    """Name an event by its id, or by the SHA-256 of its bytes when no id can be read from them."""
    try:
        decoded = json.loads(raw)
    except (ValueError, RecursionError):
        decoded = None
    event_id = cast("dict[str, object]", decoded).get("id") if isinstance(decoded, dict) else None
    if isinstance(event_id, str):
        return event_id
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _with(record: Record, **changes: Any) -> bytes:
    return to_json(to_legacy(record) | changes)


def _with_details(record: Record, details: bytes) -> bytes:
    # Past the encoder, which would refuse or escape what this must hold.
    return _with(record, details="@details@").replace(b'"@details@"', details)


def _in_future(record: Record) -> bytes:
    moment = record.timestamp + _FUTURE
    tail = int(record.id.replace("-", ""), 16) & ((1 << TAIL_BITS) - 1)
    return _with(record, id=mint(timestamp_us(moment), tail), createdAt=format_timestamp(moment))


def _id_of_another_time(record: Record) -> bytes:
    return _with(record, createdAt=format_timestamp(record.timestamp - timedelta(minutes=1)))


def _same_key_twice(record: Record) -> bytes:
    return to_json(to_legacy(record))[:-1] + b',"actionType":"contact.delete"}'


def _without_action(record: Record) -> bytes:
    fields = to_legacy(record)
    del fields["actionType"]
    return to_json(fields)


def _too_deep(record: Record) -> bytes:
    return _with_details(record, b'{"in":' * _DEPTH + b"0" + b"}" * _DEPTH)


FAULTS: Final[Mapping[str, Fault]] = {
    "timestamp three hours ahead": Fault(reason="timestamp_in_future", spoil=_in_future),
    "NUL character": Fault(
        reason="nul_character", spoil=lambda record: _with(record, details={"note": "a\x00b"})
    ),
    "lone surrogate": Fault(
        reason="lone_surrogate",
        spoil=lambda record: _with_details(record, b'{"name":"\\ud83d"}'),
    ),
    "not JSON": Fault(
        reason="invalid_json", spoil=lambda record: f"{record.id} happened, honestly".encode()
    ),
    "cut off": Fault(reason="invalid_json", spoil=lambda record: to_json(to_legacy(record))[:-20]),
    "not UTF-8": Fault(
        reason="invalid_utf8",
        spoil=lambda record: _with_details(record, b'{"name":"\xff\xfe"}'),
    ),
    "id of another time": Fault(reason="id_time_mismatch", spoil=_id_of_another_time),
    "too large": Fault(
        reason="too_large",
        spoil=lambda record: _with(record, details={"blob": "x" * (MAX_EVENT_BYTES + 1_000)}),
    ),
    "nested too deep": Fault(reason="json_too_deep", spoil=_too_deep),
    "same key twice": Fault(reason="duplicate_key", spoil=_same_key_twice),
    "no action": Fault(reason="missing_field", spoil=_without_action),
    "number out of range": Fault(
        reason="number_out_of_range",
        spoil=lambda record: _with_details(record, b'{"n":1e200000}'),
    ),
}
"""Every kind of broken event, by the name that the table prints."""
