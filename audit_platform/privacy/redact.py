"""Redaction: secrets are taken out of an event before its bytes leave the process (pure).

Here: the limits of a value and the walk over nested values. Not here: which key names are secret
(`privacy/key_names.py`), secrets inside text (`privacy/patterns.py`), and when redaction runs
(`client/snapshot.py`).
Guarantee: total. Any input gives a result or `InvalidEvent` in time proportional to the limits;
a value that is deep, cyclic or huge is refused, never walked to its end. Redacting twice changes
nothing.

Source: security design, S20 and S21. A session id is a credential, but `context.session_id` also
groups what happened in one session: it becomes a fingerprint, equal for equal ids.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from typing import Final, Never, cast
from uuid import UUID

from audit_platform.errors import InvalidEvent
from audit_platform.privacy.key_names import KeyVerdict, judge_key, normalise_key
from audit_platform.privacy.patterns import (
    REDACTED,
    SHORTEST_SECRET,
    has_card_shape,
    is_suspicious,
    redact_text,
)

_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{16}")
_SMALLEST_CARD: Final = 10**11

_MAX_CACHED: Final = 4_096
_MAX_CACHED_LENGTH: Final = 256
# Types whose JSON cannot hold a secret; whole numbers may be card numbers and are looked at.
_INERT: Final = frozenset({bool, type(None)})
# What `_inspect` may meet in plain JSON; the loops see to scalars themselves.
_NESTING: Final = frozenset({dict, list, tuple, str})
_INERT_TEXT: Final = frozenset({datetime, date, time, UUID})


class Look:
    """A walk over one value: what it may still visit, and what is known of all seen so far.

    Spending from one budget bounds the work, also where one list is contained many times.
    """

    __slots__ = ("characters", "field", "is_clean", "is_plain", "keys")

    def __init__(self, field: str, characters: int, keys: int) -> None:
        self.field, self.characters, self.keys = field, characters, keys
        self.is_clean = True
        """Whether it surely holds no secret."""
        self.is_plain = True
        """Whether all of it is exactly what JSON knows: no subclass, no datetime, no NaN."""


class Redactor:
    """Finds secrets by key name and by pattern; safe to share between threads.

    Verdicts on key names and on texts without secrets are kept, since an application repeats them.
    """

    def __init__(
        self,
        *,
        secret_keys: Iterable[str] = (),
        max_depth: int = 32,
        max_keys: int = 256,
        max_characters: int = 65_536,
    ) -> None:
        """Take further secret names and the limits of one value.

        Args:
            secret_keys: Names in any spelling, beside the built-in ones.
            max_depth: Deepest nesting, the value itself included.
            max_keys: Most keys in all mappings together.
            max_characters: Most characters of all texts, two added per item.
        """
        self._own_names = frozenset(map(normalise_key, secret_keys))
        self._max_depth, self._max_keys, self._max_characters = max_depth, max_keys, max_characters
        self._clean_keys: set[object] = set()
        self._clean_texts: set[str] = set()

    def is_clean(self, value: object, *, field: str) -> bool:
        """Whether a value surely holds no secret; enforces the limits in the same walk.

        Args:
            value: Anything. Only plain JSON types, datetimes and UUIDs can be clean.
            field: Name of the value, for the error.

        Returns:
            False asks for `redact`, which may still find nothing to replace.

        Raises:
            InvalidEvent: Too deep (or containing itself), too many keys, too large.
        """
        return self.look(value, field=field).is_clean

    def look(self, value: object, *, field: str) -> Look:
        """Say what is known of a value: `is_clean` and `is_plain`; see there.

        Raises:
            InvalidEvent: As `is_clean`.
        """
        walk = Look(field, self._max_characters, self._max_keys)
        if type(value) is dict:
            self._inspect_mapping(cast("dict[object, object]", value), 1, walk)
        else:
            self._inspect(value, 1, walk)
        if walk.characters < 0:
            self._refuse(1, walk)
        return walk

    def is_clean_text(self, text: str) -> bool:
        """Whether one text surely holds no secret."""
        if len(text) < SHORTEST_SECRET or text in self._clean_texts:
            return True
        if is_suspicious(text):
            return False
        if len(text) <= _MAX_CACHED_LENGTH:
            if len(self._clean_texts) >= _MAX_CACHED:
                self._clean_texts.clear()
            self._clean_texts.add(text)
        return True

    def redact(self, value: object, *, field: str) -> object:
        """Replace secrets in a value of JSON types; the value itself is never modified.

        Returns:
            `value` itself if it is clean, otherwise a copy.

        Raises:
            InvalidEvent: Too deep (or containing itself), too many keys, too large.
        """
        return value if self.is_clean(value, field=field) else self._rebuild(value)

    def _inspect(self, value: object, depth: int, walk: Look) -> None:
        if type(value) is float:
            # JSON has no word for what is not finite: the encoder shall say so.
            walk.is_plain = walk.is_plain and value - value == 0
            return
        walk.is_plain = walk.is_plain and type(value) in _NESTING
        if type(value) in _INERT_TEXT:
            return
        if isinstance(value, dict):
            self._inspect_mapping(cast("dict[object, object]", value), depth, walk)
        elif isinstance(value, list | tuple):
            self._inspect_items(cast("Sequence[object]", value), depth, walk)
        elif isinstance(value, Mapping):
            walk.is_clean = False
            self._inspect_mapping(cast("Mapping[object, object]", value), depth, walk)
        elif isinstance(value, AbstractSet):
            walk.is_clean = False
            self._inspect_items(tuple(cast("AbstractSet[object]", value)), depth, walk)
        elif isinstance(value, str):
            walk.characters -= len(value)
            walk.is_clean = walk.is_clean and self.is_clean_text(value)
        else:
            walk.is_clean = False

    def _inspect_mapping(self, value: Mapping[object, object], depth: int, walk: Look) -> None:
        """Look at one mapping. Scalars are handled in line: this loop is most of the cost."""
        size = len(value)
        # An item needs two characters of JSON at least.
        walk.characters -= 2 * size
        walk.keys -= size
        if depth > self._max_depth or walk.characters < 0 or walk.keys < 0:
            self._refuse(depth, walk)
        clean_keys = self._clean_keys
        for key, item in value.items():
            if key not in clean_keys and not self._is_clean_key(key):
                walk.is_clean = False
            if type(item) is str:
                length = len(item)
                walk.characters -= length
                if length >= SHORTEST_SECRET and not self.is_clean_text(item):
                    walk.is_clean = False
            elif type(item) is int:
                if item >= _SMALLEST_CARD:
                    walk.is_clean = False
            elif type(item) is dict:
                self._inspect_mapping(cast("dict[object, object]", item), depth + 1, walk)
            elif type(item) not in _INERT and (type(item) is not float or item - item != 0):
                self._inspect(item, depth + 1, walk)

    def _inspect_items(self, value: Sequence[object], depth: int, walk: Look) -> None:
        walk.characters -= 2 * len(value)
        if depth > self._max_depth or walk.characters < 0:
            self._refuse(depth, walk)
        for item in value:
            if type(item) is int:
                walk.is_clean = walk.is_clean and item < _SMALLEST_CARD
            elif type(item) is dict:
                self._inspect_mapping(cast("dict[object, object]", item), depth + 1, walk)
            elif type(item) not in _INERT and (type(item) is not float or item - item != 0):
                self._inspect(item, depth + 1, walk)

    def _refuse(self, depth: int, walk: Look) -> Never:
        problem, remedy = (
            f"is larger than {self._max_characters} characters",
            "store it elsewhere and log its address",
        )
        if depth > self._max_depth:
            problem = f"is nested deeper than {self._max_depth} levels or contains itself"
            remedy = "flatten it"
        elif walk.keys < 0:
            problem, remedy = f"has more than {self._max_keys} keys", "log fewer keys, or a list"
        raise InvalidEvent(field=walk.field, problem=problem, remedy=remedy)

    def _is_clean_key(self, key: object) -> bool:
        if not isinstance(key, str):
            # Other keys become text in JSON: `redact` sees that text.
            return False
        if judge_key(key, self._own_names) or not self.is_clean_text(key):
            return False
        if len(self._clean_keys) < _MAX_CACHED and len(key) <= _MAX_CACHED_LENGTH:
            self._clean_keys.add(key)
        return True

    def _rebuild(self, value: object) -> object:
        if isinstance(value, Mapping):
            mapping = cast("Mapping[object, object]", value)
            return {self._text(key): self._below(key, item) for key, item in mapping.items()}
        if isinstance(value, list | tuple | AbstractSet):
            return [self._rebuild(item) for item in cast("Sequence[object]", value)]
        if type(value) is int:
            return REDACTED if value >= _SMALLEST_CARD and has_card_shape(str(value)) else value
        return self._text(value)

    def _below(self, key: object, item: object) -> object:
        verdict = judge_key(key, self._own_names) if isinstance(key, str) else KeyVerdict.KEEP
        return _mask(item, verdict) if verdict else self._rebuild(item)

    def _text(self, value: object) -> object:
        if not isinstance(value, str) or self.is_clean_text(value):
            return value
        return redact_text(value)


def _mask(value: object, verdict: KeyVerdict) -> object:
    """Mask a value but keep the shape of containers, so that old and new stay side by side."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {
            key: _mask(item, verdict)
            for key, item in cast("Mapping[object, object]", value).items()
        }
    if isinstance(value, list | tuple | AbstractSet):
        return [_mask(item, verdict) for item in cast("Sequence[object]", value)]
    if verdict is KeyVerdict.FINGERPRINT and isinstance(value, str | int):
        return _fingerprint(str(value))
    return REDACTED


def _fingerprint(text: str) -> str:
    if _FINGERPRINT.fullmatch(text):
        return text
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
