"""Stored events back into the foreign records they came from (pure).

Here: undoing what `imports/mapping.py` moved. Not here: reading rows (`search/hot.py`).
Guarantee: the record is equal in value, numbers with their text; key order may differ.
"""

from collections.abc import Mapping as MappingType
from datetime import datetime

from audit_platform.errors import InvalidMapping
from audit_platform.events.event import JSON_FIELDS
from audit_platform.events.json_path import RawObject, decode_text, encode_value, parse_path
from audit_platform.imports.mapping_rules import Mapping, Rule, TimeRule
from audit_platform.imports.mapping_values import render_time


def rebuild(row: MappingType[str, object], mapping: Mapping) -> bytes:
    """Put a record together again from its stored row.

    Args:
        row: Columns of `audit.event`; JSON columns as text, `timestamp` as aware datetime.
        mapping: The one that made the row.

    Returns:
        JSON equal in value to the record, numbers with their text; key order may differ.

    Raises:
        InvalidMapping: The mapping takes names or merges objects, which cannot be undone.
    """
    if not mapping.can_rebuild:
        raise InvalidMapping(f"{mapping.name}: keeps all values of a record but not their places")
    record = RawObject(str(row["metadata"]).encode())
    context = RawObject(str(row["context"]).encode())
    for name, rule in mapping.fields.items():
        if rule.move is not None:
            _put_back(record, rule, _column_bytes(name, row.get(name)))
    for name, rule in mapping.context.items():
        if rule.move is not None:
            _put_back(record, rule, context.get((name,)))
    _put_back_time(record, mapping.timestamp, row["timestamp"])
    return record.encode()


def _put_back_time(record: RawObject, rule: TimeRule, value: object) -> None:
    if rule.move is None or record.get(parse_path(rule.move)) is not None:
        return
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    raw = render_time(moment, rule.form)
    if raw is not None:
        record.put(parse_path(rule.move), raw)


def _put_back(record: RawObject, rule: Rule, raw: bytes | None) -> None:
    path = parse_path(rule.move or "")
    if raw is None or record.get(path) is not None:
        return
    if rule.default is not None and decode_text(raw) == rule.default:
        return
    record.put(path, raw)


def _column_bytes(name: str, value: object) -> bytes | None:
    if value is None:
        return None
    return str(value).encode() if name in JSON_FIELDS else encode_value(str(value))
