"""Mapped records in the forms that tests compare."""

import json
from typing import Any

import msgspec

from audit_platform.imports.mapping import map_record
from audit_platform.imports.mapping_rules import Mapping


def wire_of(record: dict[str, Any] | bytes, mapping: Mapping) -> dict[str, Any]:
    """Wire event of a record; numbers with a point stay text."""
    raw = record if isinstance(record, bytes) else json.dumps(record).encode()
    return json.loads(map_record(raw, mapping, fallback_id="file:1").wire, parse_float=str)


def stored_row(wire: bytes) -> dict[str, Any]:
    """The stored row of a wire event: JSON columns as their text, as `json` keeps it."""
    raw = msgspec.json.decode(wire, type=dict[str, msgspec.Raw])
    texts = ("metadata", "context", "changes")
    row = {name: bytes(value).decode() for name, value in raw.items() if name in texts}
    row |= {n: msgspec.json.decode(value) for n, value in raw.items() if n not in texts}
    return {"metadata": "{}", "context": "{}"} | row


def exact(text: bytes) -> Any:
    """Parse with numbers as their text, so that `1.10` and `1.1` differ."""
    return json.loads(text, parse_int=lambda t: ("n", t), parse_float=lambda t: ("n", t))
