"""Paths into JSON text whose untouched values keep their exact bytes (pure).

Here: the path notation of mappings and of `search --where`, an object that can be read, cut and
put together again without decoding its values, and the checks every imported JSON text passes.
Not here: what a path means for an event (`imports/mapping.py`, `search/query.py`).
Guarantee: a value that is not addressed keeps its bytes: `1.10` stays `1.10`, `1e400` too.

Notation: keys joined by dots, `[n]` for an array element, a key with other characters in double
quotes: `userIdentity.arn`, `resources[0].ARN`, `annotations."example.org/decision"`.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias, cast

import msgspec

from audit_platform.errors import InvalidEvent

Step: TypeAlias = str | int
Path: TypeAlias = tuple[Step, ...]

_STEP: Final = re.compile(r'\[(\d{1,6})\]|"((?:[^"\\]|\\.)+)"|([^.\[\]"]+)')
_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
_SUSPICIOUS: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


@lru_cache(maxsize=1_024)
def parse_path(text: str) -> Path:
    """Read a path from its notation.

    Raises:
        ValueError: The text is empty or not in the notation; the message names the position.
    """
    steps: list[Step] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise ValueError(f"path {text!r} is not understood at character {position + 1}")
        index, quoted, plain = match.groups()
        steps.append(int(index) if index else json.loads(f'"{quoted}"') if quoted else plain)
        position = match.end()
        if text[position : position + 1] == ".":
            position += 1
            if position == len(text) or text[position] == "[":
                raise ValueError(f"path {text!r} has a dot without a key after it")
        elif position < len(text) and text[position] != "[":
            raise ValueError(f"path {text!r} needs a dot at character {position + 1}")
    if not steps:
        raise ValueError("a path needs at least one key")
    return tuple(steps)


class RawObject:
    """A JSON object whose values are kept as bytes until they are asked for."""

    __slots__ = ("_children", "_fields", "_views")

    def __init__(self, raw: bytes | msgspec.Raw) -> None:
        """Split the top level.

        Raises:
            msgspec.MsgspecError: The text is no JSON object.
        """
        self._fields: dict[str, msgspec.Raw] = _decode_object(raw)
        # Objects that were changed, and objects that were only looked into: those keep their bytes.
        self._children: dict[str, RawObject] = {}
        self._views: dict[str, RawObject] = {}

    def get(self, path: Path) -> bytes | None:
        """Bytes of the value at a path; None where there is none (a JSON null is `b"null"`)."""
        first, rest = path[0], path[1:]
        if not isinstance(first, str) or first not in self._fields:
            return None
        if not rest:
            return self._bytes_of(first)
        inner = self._inner(first)
        if inner is not None:
            return inner.get(rest)
        raw: bytes | None = bytes(self._fields[first])
        for step in rest:
            raw = _step_into(raw, step)
        return raw

    def remove(self, path: Path) -> None:
        """Take away the value at a path of keys; its parents stay, even when empty.

        Raises:
            KeyError: There is no value.
        """
        parent = self._parent(path)
        del parent._fields[str(path[-1])]

    def put(self, path: Path, raw: bytes) -> None:
        """Set the value at a path of keys whose parents exist.

        Raises:
            KeyError: A parent does not exist.
        """
        parent = self._parent(path)
        parent._fields[str(path[-1])] = msgspec.Raw(raw)

    def items(self) -> list[tuple[str, bytes]]:
        """Keys and bytes of the top level, in order."""
        return [(key, self._bytes_of(key)) for key in self._fields]

    def encode(self) -> bytes:
        """Compact JSON of the object; values that were not addressed keep their bytes."""
        return encode_object(dict(self.items()))

    def _parent(self, path: Path) -> "RawObject":
        node = self
        for step in path[:-1]:
            key = str(step)
            if key not in node._children:
                node._children[key] = RawObject(node._fields[key])
            node = node._children[key]
        return node

    def _inner(self, key: str) -> "RawObject | None":
        found = self._children.get(key, self._views.get(key))
        if found is None and bytes(self._fields[key])[:1] == b"{":
            found = self._views[key] = RawObject(self._fields[key])
        return found

    def _bytes_of(self, key: str) -> bytes:
        child = self._children.get(key)
        return bytes(self._fields[key]) if child is None else child.encode()


def encode_object(fields: Mapping[str, bytes]) -> bytes:
    """Compact JSON object of values given as JSON bytes."""
    return _encode({key: msgspec.Raw(raw) for key, raw in fields.items()})


def encode_value(value: object) -> bytes:
    """JSON bytes of a plain value."""
    return _encode(value)


def decode_text(raw: bytes) -> str | None:
    """Text of a JSON string; None if the value is no string."""
    return cast("str", msgspec.json.decode(raw)) if raw[:1] == b'"' else None


def compact(raw: bytes) -> bytes:
    """Take away white space between tokens; one line, every token keeps its bytes."""
    return msgspec.json.format(raw, indent=-1)


def check_json(raw: bytes) -> None:
    """Refuse JSON text that could not be stored, or whose meaning is not one.

    Raises:
        InvalidEvent: Invalid UTF-8, no JSON object, a key twice in one object, NaN or Infinity,
            nesting beyond reason, a NUL character or a lone surrogate. Names the field if known.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        raise InvalidEvent(
            field="record",
            problem=f"is not UTF-8 at byte {exc.start + 1}",
            remedy="convert the file to UTF-8",
        ) from None
    try:
        value = _CHECKER.decode(text)
    except RecursionError:
        raise InvalidEvent(
            field="record", problem="is nested too deep", remedy="nest at most 32 levels"
        ) from None
    except json.JSONDecodeError as exc:
        raise InvalidEvent(
            field="record",
            problem=f"is no valid JSON ({exc.msg.lower()}, column {exc.colno})",
            remedy="write one JSON object per record",
        ) from None
    if not isinstance(value, dict):
        raise InvalidEvent(
            field="record", problem="is no JSON object", remedy="write one JSON object per record"
        )
    if _SUSPICIOUS.search(raw):
        _check_characters(cast("dict[str, Any]", value), "")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidEvent(
            field=twice[:100], problem="stands twice in one object", remedy="keep one of the two"
        )
    return unique


def _refuse_constant(name: str) -> Any:
    raise InvalidEvent(
        field="record", problem=f"holds {name}, which is no JSON", remedy="write null or text"
    )


# Numbers stay text: a float would overflow, and int() refuses more than 4,300 digits.
_CHECKER: Final = json.JSONDecoder(
    object_pairs_hook=_refuse_duplicates,
    parse_constant=_refuse_constant,
    parse_int=str,
    parse_float=str,
)


def _check_characters(value: object, path: str) -> None:
    if isinstance(value, dict):
        for key, child in cast("dict[str, object]", value).items():
            _check_text(key, path or "record")
            _check_characters(child, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for position, child in enumerate(cast("list[object]", value)):
            _check_characters(child, f"{path}[{position}]")
    elif isinstance(value, str):
        _check_text(value, path)


def _check_text(text: str, path: str) -> None:
    if "\x00" in text:
        raise InvalidEvent(
            field=path, problem="holds a NUL character", remedy="remove it; PostgreSQL stores none"
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidEvent(
            field=path, problem="holds a lone surrogate", remedy="decode the text correctly"
        )


def _step_into(raw: bytes | None, step: Step) -> bytes | None:
    if raw is None:
        return None
    opening = raw[:1]
    if isinstance(step, int):
        items = _decode_array(raw) if opening == b"[" else []
        return bytes(items[step]) if step < len(items) else None
    found = _decode_object(raw).get(step) if opening == b"{" else None
    return None if found is None else bytes(found)
