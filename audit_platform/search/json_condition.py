"""The metadata filters of a search, decided on JSON text (pure).

Here: the value at a path, and whether it is the one wanted. Not here: the notation of paths
(`events/json_path.py`), how PostgreSQL is asked (`search/query.py`).
Guarantee: true exactly where PostgreSQL's `jsonb_path_exists(metadata::jsonb, path, values, true)`
is true for the path that `search/query.py` makes: strict steps, a string equal to the text or
to the string it spells, a number of equal value whatever its spelling, true, false and null as
spelled. Numbers never become floats.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from audit_platform.events.json_path import Path, parse_path
from audit_platform.search.query import JsonNumber, metadata_filter

_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_string: Final = msgspec.json.Decoder(str).decode
_WORDS: Final[Mapping[bytes, bool | None]] = {b"true": True, b"false": False, b"null": None}
_PLAIN: Final = re.compile(r"[\w ./:@-]+", re.ASCII)
_PLAIN_INTEGER: Final = re.compile(r"-?[1-9][0-9]*")
# A number that is written with a point or an exponent may have any value.
_OTHER_SPELLING: Final = r"[0-9][.eE]"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonCondition:
    """One metadata filter.

    Attributes:
        path: Keys and positions from the outside in.
        text: What a JSON string must be.
        spelled: The JSON scalar that the text spells, or the string in its quotes.
    """

    path: Path
    text: str
    spelled: object

    def holds(self, raw: bytes) -> bool:
        """Whether a stored JSON text has the value at the path."""
        value = _value_at(raw, self.path)
        return value is not None and self._is_wanted(value)

    def patterns(self) -> list[str]:
        """Regular expressions of which every text that matches holds all: cheap to rule out by.

        A backslash may hide any character, so a text with one is never ruled out.
        """
        needed: list[str] = []
        keys = [step for step in self.path if isinstance(step, str)]
        if keys and _PLAIN.fullmatch(keys[-1]):
            needed.append(f'"{_literal(keys[-1])}"')
        texts = {text for text in (self.text, self.spelled) if isinstance(text, str)}
        if all(_PLAIN.fullmatch(text) for text in texts):
            spellings = [_literal(text) for text in sorted(texts)]
            if not isinstance(self.spelled, JsonNumber):
                needed.append("|".join(spellings))
            elif _PLAIN_INTEGER.fullmatch(self.spelled):
                needed.append("|".join([*spellings, _OTHER_SPELLING]))
        return [rf"\\|{pattern}" for pattern in needed]

    def _is_wanted(self, value: bytes) -> bool:
        opening = value[:1]
        if opening == b'"':
            found = _decode_string(value)
            is_spelled = isinstance(self.spelled, str) and not isinstance(self.spelled, JsonNumber)
            return found == self.text or (is_spelled and found == self.spelled)
        if value in _WORDS:
            # Not ==: 1 equals True.
            return self.spelled is _WORDS[value]
        if opening in b"{[" or not isinstance(self.spelled, JsonNumber):
            return False
        try:
            return Decimal(value.decode()) == Decimal(str.__str__(self.spelled))
        except InvalidOperation:
            return False


def json_conditions(metadata: Mapping[str, str]) -> tuple[JsonCondition, ...]:
    """Make the conditions of a query; all must hold.

    Raises:
        InvalidQuery: A path is not in the notation.
    """
    return tuple(_condition(path, value) for path, value in metadata.items())


def all_hold(conditions: Sequence[JsonCondition], text: str) -> bool:
    """Whether a stored JSON text meets every condition."""
    raw = text.encode()
    try:
        return all(condition.holds(raw) for condition in conditions)
    except msgspec.DecodeError:
        # No such text passes the ingest job; PostgreSQL could not cast it either.
        return False


def _condition(path: str, value: str) -> JsonCondition:
    given = metadata_filter(path, value)
    return JsonCondition(path=parse_path(path), text=given["text"], spelled=given["spelled"])


def _literal(text: str) -> str:
    """The text in a regular expression; Python's own escapes are not all known to Rust."""
    return "".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)


def _value_at(raw: bytes, path: Path) -> bytes | None:
    """Bytes of the value, without white space around it; None where the strict path ends."""
    value = raw.strip()
    for step in path:
        found: msgspec.Raw | None = None
        if isinstance(step, str):
            found = _decode_object(value).get(step) if value[:1] == b"{" else None
        elif value[:1] == b"[":
            items = _decode_array(value)
            found = items[step] if step < len(items) else None
        if found is None:
            return None
        value = bytes(found).strip()
    return value
