"""Foreign records as events (pure).

Here: applying a mapping to one record. Not here: the way back (`imports/rebuild.py`), the
form of mapping files (`imports/mapping_rules.py`), files (`imports/files.py`).
Guarantee: nothing of a record is dropped. A moved value is removed from the remainder only when
the stored one gives it back exactly; everything else stays in `metadata` with its bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final

from audit_platform.errors import InvalidEvent
from audit_platform.events.event import (
    DEFAULT_TENANT,
    EVENT_FIELDS,
    MAX_EVENT_BYTES,
    FieldSpec,
    format_timestamp,
)
from audit_platform.events.json_path import (
    RawObject,
    check_json,
    compact,
    decode_text,
    encode_object,
    encode_value,
    parse_path,
)
from audit_platform.imports.mapping_identity import identify, joined_id
from audit_platform.imports.mapping_rules import FIELD_SPECS, Condition, Mapping, Rule, TimeRule
from audit_platform.imports.mapping_values import (
    as_json_object,
    fit,
    is_exact_time,
    parse_time,
    refuse,
    render_time,
    same_text,
)

_NULL: Final = b"null"
_BLANK: Final = b'""'


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedEvent:
    """One record as an event: canonical wire JSON, and what the import needs to route it."""

    wire: bytes
    timestamp: datetime
    event_id: str


def map_record(raw: bytes, mapping: Mapping, *, fallback_id: str) -> MappedEvent:
    """Turn one record into one event.

    Args:
        raw: JSON object; line breaks between tokens are fine.
        mapping: As loaded.
        fallback_id: External id of a record that has none, for example digest and record number.

    Returns:
        `wire` is one line of compact JSON; the same record always gives the same bytes and id.

    Raises:
        InvalidEvent: Names the field, the problem and the remedy.
    """
    check_json(raw)
    one_line = compact(raw)
    record, original = RawObject(one_line), RawObject(one_line)
    moment = _take_time(record, mapping.timestamp)
    context = _take_object(record, mapping.merge_context)
    columns = _columns(record, original, mapping)
    _fill_context(context, record, original, mapping)
    event_id = identify(
        record,
        context,
        mapping,
        moment=moment,
        tenant_id=decode_text(columns["tenant_id"]) or DEFAULT_TENANT,
        source=decode_text(columns["source"]) or "",
        fallback_id=joined_id(original, mapping.identity) or fallback_id,
    )
    metadata = _take_object(record, mapping.merge_metadata)
    _join(metadata, record)
    columns["id"] = encode_value(event_id)
    columns["timestamp"] = encode_value(format_timestamp(moment))
    columns |= _filled("metadata", metadata) | _filled("context", context)
    ordered = {spec.name: columns[spec.name] for spec in EVENT_FIELDS if spec.name in columns}
    wire = encode_object(ordered)
    _check_size(wire)
    return MappedEvent(wire=wire, timestamp=moment, event_id=event_id)


def _columns(record: RawObject, original: RawObject, mapping: Mapping) -> dict[str, bytes]:
    columns: dict[str, bytes] = {}
    for name, rule in mapping.fields.items():
        value = _apply(rule, record, original, FIELD_SPECS[name])
        if value is not None:
            columns[name] = value
    columns.setdefault("tenant_id", encode_value(DEFAULT_TENANT))
    for spec in EVENT_FIELDS:
        if spec.required and columns.get(spec.name, _BLANK) == _BLANK:
            raise InvalidEvent(
                field=spec.name,
                problem="is missing, empty or too long",
                remedy=f"give the record the field {spec.name}, or set a default in the mapping",
            )
    return columns


def _fill_context(
    context: dict[str, bytes], record: RawObject, original: RawObject, mapping: Mapping
) -> None:
    for name, rule in mapping.context.items():
        if name not in context:
            value = _apply(rule, record, original, None)
            if value is not None:
                context[name] = value


def _apply(
    rule: Rule, record: RawObject, original: RawObject, spec: FieldSpec | None
) -> bytes | None:
    """Value of one column or context key as JSON bytes; removes from `record` what moved."""
    if rule.when is not None and not _holds(rule.when, original):
        return None
    found = _moved(rule, record, spec)
    if found is None:
        found = _taken(rule, record, spec)
    if found is None:
        found = _copied(rule, original, spec)
    if found is not None:
        return found
    for case in rule.cases:
        if _holds(case.when, original):
            return encode_value(case.value)
    return None if rule.default is None else encode_value(rule.default)


def _moved(rule: Rule, record: RawObject, spec: FieldSpec | None) -> bytes | None:
    if rule.move is None:
        return None
    path = parse_path(rule.move)
    raw = record.get(path)
    if raw is None or raw == _NULL:
        return None
    fitted = fit(raw, spec, truncate=rule.truncate)
    is_exact = fitted == raw or (fitted is not None and same_text(fitted, raw))
    # A value equal to the default could not be told from a missing one.
    is_default = rule.default is not None and decode_text(raw) == rule.default
    if is_exact and not is_default:
        record.remove(path)
    return fitted


def _taken(rule: Rule, record: RawObject, spec: FieldSpec | None) -> bytes | None:
    for text in rule.take:
        path = parse_path(text)
        raw = record.get(path)
        # An empty text says nothing; it stays in the remainder.
        if raw is None or raw in (_NULL, _BLANK):
            continue
        value = fit(_translate(raw, rule), spec, truncate=rule.truncate)
        if value is None:
            refuse(text, raw, spec)
        record.remove(path)
        return value
    return None


def _copied(rule: Rule, original: RawObject, spec: FieldSpec | None) -> bytes | None:
    for text in rule.copy:
        raw = original.get(parse_path(text))
        # An empty text says nothing; it stays in the remainder.
        if raw is None or raw in (_NULL, _BLANK):
            continue
        value = fit(_translate(raw, rule), spec, truncate=rule.truncate)
        if value is not None:
            return value
    return None


def _translate(raw: bytes, rule: Rule) -> bytes:
    if rule.table is None:
        return raw
    translated = rule.table.get(decode_text(raw) or raw.decode(), rule.default)
    return _NULL if translated is None else encode_value(translated)


def _holds(condition: Condition, original: RawObject) -> bool:
    raw = original.get(parse_path(condition.path))
    if raw is None or raw == _NULL:
        return False
    text = decode_text(raw)
    value = raw.decode() if text is None else text
    return any(fnmatchcase(value, pattern) for pattern in condition.matches)


def _take_time(record: RawObject, rule: TimeRule) -> datetime:
    paths = rule.take if rule.move is None else (rule.move,)
    for text in paths:
        path = parse_path(text)
        raw = record.get(path)
        if raw is None or raw == _NULL:
            continue
        moment = parse_time(raw, rule, field=text)
        is_exact = (
            is_exact_time(raw) if rule.move is None else render_time(moment, rule.form) == raw
        )
        if is_exact:
            record.remove(path)
        return moment
    raise InvalidEvent(
        field="timestamp",
        problem="is missing",
        remedy=f"give the record one of: {', '.join(paths)}",
    )


def _take_object(record: RawObject, paths: Sequence[str]) -> dict[str, bytes]:
    for text in paths:
        path = parse_path(text)
        raw = record.get(path)
        found = None if raw is None else as_json_object(raw)
        if found is not None:
            record.remove(path)
            return dict(RawObject(found).items())
    return {}


def _join(metadata: dict[str, bytes], record: RawObject) -> None:
    for key, raw in record.items():
        if key in metadata:
            raise InvalidEvent(
                field=key,
                problem="stands both in the record and in its metadata",
                remedy="rename one of the two",
            )
        metadata[key] = raw


def _filled(name: str, fields: dict[str, bytes]) -> dict[str, bytes]:
    return {name: encode_object(fields)} if fields else {}


def _check_size(wire: bytes) -> None:
    if len(wire) > MAX_EVENT_BYTES:
        raise InvalidEvent(
            field="record",
            problem=f"has {len(wire):,} bytes as an event",
            remedy=f"shorten it to {MAX_EVENT_BYTES:,} bytes",
        )
