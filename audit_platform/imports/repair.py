"""Dead letters made good: values set, then a mapping applied (pure).

Here: what an operator may change in a record before it goes back into the stream. Not here: which
letters and sending (`events/redrive.py`), options (`cli/deadletter.py`).
Guarantee: without changes and mapping the bytes stay as they are; with them, every value that is
not addressed keeps its bytes, and the same record always gives the same event.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from audit_platform.errors import InvalidEvent, InvalidQuery
from audit_platform.events.event import TEXT_LIMITS
from audit_platform.events.json_path import (
    Path,
    RawObject,
    check_json,
    compact,
    encode_object,
    encode_value,
    parse_path,
)
from audit_platform.imports import mapping_rules
from audit_platform.imports.mapping import map_record

_NULL: Final = "null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value to set; `raw` is its JSON, None takes the value away."""

    path: Path
    text: str
    raw: bytes | None

    @property
    def name(self) -> str:
        """The path as text."""
        return ".".join(map(str, self.path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What to do with each record, the changes first."""

    changes: Sequence[Change] = ()
    mapping: mapping_rules.Mapping | None = None

    def line(self, raw: bytes, *, fallback_id: str) -> bytes:
        """Make one event of a record.

        Args:
            raw: As it was received.
            fallback_id: External id for a mapping whose record has none.

        Raises:
            InvalidEvent: It cannot be changed or mapped; names the field.
        """
        if self.changes:
            raw = _changed(raw, self.changes)
        if self.mapping is None:
            return raw
        return map_record(raw, self.mapping, fallback_id=fallback_id).wire

    def entry(self, fields: Mapping[bytes, bytes], *, fallback_id: str) -> dict[bytes, bytes]:
        """Make a stream entry of the fields of one that could not be taken apart.

        With a mapping, the fields are the record, each value a text: so `XADD … action x user y`
        of a foreign program becomes an event.

        Raises:
            InvalidEvent: It cannot be mapped; names the field.
        """
        changed = dict(fields)
        for change in self.changes:
            if change.raw is None:
                changed.pop(change.name.encode(), None)
            else:
                changed[change.name.encode()] = change.text.encode()
        if self.mapping is None:
            return changed
        wire = map_record(_as_record(changed), self.mapping, fallback_id=fallback_id).wire
        return {b"event": wire}


def parse_change(text: str) -> Change:
    """Read `path=value`: JSON if it is some, otherwise text; `null` takes the value away.

    Raises:
        InvalidQuery: It has another form; names the option.
    """
    name, equals, value = text.partition("=")
    try:
        path = parse_path(name.strip())
    except ValueError as exc:
        raise InvalidQuery(f"--set: {exc}") from None
    if not equals or any(isinstance(step, int) for step in path):
        raise InvalidQuery(
            f"--set {text[:40]!r} has not the form field=value; a field is a name such as "
            "severity, or a path of keys such as metadata.plan"
        )
    return Change(path=path, text=value, raw=_value_json(path, value))


def _value_json(path: Path, value: str) -> bytes | None:
    if value == _NULL:
        return None
    if len(path) == 1 and path[0] in TEXT_LIMITS and value[:1] != '"':
        # A text column: 42 is the text 42.
        return encode_value(value)
    text = value.encode(errors="replace")
    wrapped = b'{"value":' + text + b"}"
    try:
        check_json(wrapped)
        ((_, raw),) = RawObject(compact(wrapped)).items()
    except (InvalidEvent, ValueError):
        return encode_value(text.decode())
    return raw


def _changed(raw: bytes, changes: Sequence[Change]) -> bytes:
    try:
        record = RawObject(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidEvent(
            field="record",
            problem="is no JSON object",
            remedy="nothing can be set in it; discard it, or send the event anew",
        ) from None
    for change in changes:
        _apply(record, change)
    return record.encode()


def _apply(record: RawObject, change: Change) -> None:
    try:
        if change.raw is not None:
            record.put(change.path, change.raw)
        elif record.get(change.path) is not None:
            record.remove(change.path)
    except (KeyError, msgspec.MsgspecError):
        raise InvalidEvent(
            field=change.name,
            problem="has no object around it",
            remedy="set the object as a whole",
        ) from None


def _as_record(fields: Mapping[bytes, bytes]) -> bytes:
    try:
        return encode_object(
            {name.decode(): encode_value(value.decode()) for name, value in fields.items()}
        )
    except UnicodeDecodeError:
        raise InvalidEvent(
            field="entry",
            problem="has a field that is not UTF-8",
            remedy="take it away with --set field=null",
        ) from None
