"""Judges the JSON text of one event precisely: what PostgreSQL's `jsonb` would refuse (pure).

Here: well-formedness, depth, keys, duplicate keys, NUL, lone surrogates, numbers. Not here: what
the fields mean (`events/normalise.py`), and the cheap vectorised checks that decide which lines
come here at all (`events/screen.py`).
Guarantee: a text that passes can be cast to `jsonb`; nothing is changed, numbers stay text.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from audit_platform.events.reject import RejectReason, Unstorable

# PostgreSQL numeric: digits before and after the decimal point; measured on 18.4 by bisection:
# 1e131071 and 16383 decimals pass, one more fails with 22003.
MAX_DIGITS_BEFORE: Final = 131_072
MAX_DIGITS_AFTER: Final = 16_383
# Half of INT_MAX; beyond it even 0e… is refused.
_MAX_EXPONENT: Final = 1_073_741_822
_MAX_EXPONENT_DIGITS: Final = 10
# So few digits without an exponent are within the range wherever their point is.
_PLAIN_DIGITS: Final = 1_000

_WHOLE: Final = "event"
_BRACKET: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|([\[{])|([\]}])', re.DOTALL)
_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NUMBER: Final = re.compile(r"-?([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFacts:
    """What judging a text found out."""

    key_count: int
    """Keys of all objects at every level, the outermost included."""
    is_object: bool


def judge(text: str, *, max_depth: int) -> JsonFacts:
    """Refuse a text that is not JSON or that `jsonb` would refuse.

    Args:
        text: One JSON document.
        max_depth: Levels of nesting, the outermost value included.

    Raises:
        Unstorable: With the reason, and the first place found.
    """
    if "\0" in text:  # the parser would call it some control character
        raise _nul(f"at character {text.index(chr(0))}")
    # Depth next: the parser below recurses.
    _check_depth(text, max_depth)
    key_count = 0

    def count_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal key_count
        key_count += len(pairs)
        members = dict(pairs)
        if len(members) != len(pairs):
            _refuse_duplicate([name for name, _ in pairs])
        return members

    try:
        value = json.loads(
            text,
            object_pairs_hook=count_keys,
            parse_float=_check_number,
            parse_int=_check_number,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as exc:
        raise Unstorable(
            RejectReason.INVALID_JSON,
            _WHOLE,
            f"is not JSON: {exc.msg} at character {exc.pos}",
            "send one JSON object per event",
        ) from exc
    _check_characters(text)
    return JsonFacts(key_count=key_count, is_object=isinstance(value, dict))


def _check_depth(text: str, max_depth: int) -> None:
    if text.count("{") + text.count("[") <= max_depth:
        return
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += (match[1] is not None) - (match[2] is not None)
        if depth > max_depth:
            raise Unstorable(
                RejectReason.JSON_TOO_DEEP,
                _WHOLE,
                f"is nested deeper than {max_depth} levels at character {match.start()}",
                "flatten it, or send the inner part as text",
            )


def _refuse_duplicate(names: list[str]) -> NoReturn:
    twice = next(name for index, name in enumerate(names) if name in names[:index])
    raise Unstorable(
        RejectReason.DUPLICATE_KEY,
        _WHOLE,
        f"an object holds the key {twice[:100]!a} twice",
        "send each key once; which of the values is meant cannot be known",
    )


def _refuse_constant(name: str) -> NoReturn:
    raise Unstorable(
        RejectReason.INVALID_JSON, _WHOLE, f"holds {name}, which JSON has not", "send null or text"
    )


def _check_number(token: str) -> None:
    """Refuse what `numeric` cannot hold; the text itself is stored, never a float."""
    if len(token) <= _PLAIN_DIGITS and "e" not in token and "E" not in token:
        return
    match = _NUMBER.fullmatch(token)
    assert match is not None  # noqa: S101 - the parser hands over numbers of JSON's grammar
    whole, decimals = match[1], match[2] or ""
    exponent_digits = (match[4] or "").lstrip("0")
    is_in_range = len(exponent_digits) <= _MAX_EXPONENT_DIGITS
    if is_in_range:
        exponent = int(f"{match[3] or ''}{exponent_digits or '0'}")
        digits = whole + decimals
        significant = digits.lstrip("0")
        # Digits before the decimal point once the exponent is applied; zero has none.
        before = len(whole) - (len(digits) - len(significant)) + exponent if significant else 0
        is_in_range = (
            abs(exponent) <= _MAX_EXPONENT
            and before <= MAX_DIGITS_BEFORE
            and len(decimals) - exponent <= MAX_DIGITS_AFTER
        )
    if not is_in_range:
        raise Unstorable(
            RejectReason.NUMBER_OUT_OF_RANGE,
            _WHOLE,
            f"holds the number {token[:40]}, beyond {MAX_DIGITS_BEFORE} digits before or "
            f"{MAX_DIGITS_AFTER} after the decimal point",
            "send it as text",
        )


def _check_characters(text: str) -> None:
    if "\\u" not in text:
        return
    for match in _STRING.finditer(text):
        if "\\u" not in match[0]:
            continue
        string: str = json.loads(match[0])
        place = f"in the string at character {match.start()}"
        if "\0" in string:
            raise _nul(place)
        if _SURROGATE.search(string):
            raise Unstorable(
                RejectReason.LONE_SURROGATE,
                _WHOLE,
                f"holds half of a surrogate pair {place}",
                "do not cut text between the two halves; send UTF-8",
            )


def _nul(place: str) -> Unstorable:
    return Unstorable(
        RejectReason.NUL_CHARACTER,
        _WHOLE,
        f"holds a NUL character {place}",
        "remove it; PostgreSQL stores no NUL",
    )
