"""The text filter of a search as a pattern for archived text (pure).

Here: which characters of a stored text count as which character of the filter. Not here: which
columns are searched (`search/cold_filter.py`), how PostgreSQL is asked (`search/query.py`).
Guarantee: the pattern is found in a text exactly where PostgreSQL finds the filter with
`strpos(translate(lower(text), fold_from, fold_to), filter) > 0`, `lower` being that of the
C locale, which the embedded server has: it changes the letters of ASCII only.
"""

import string
from typing import Final

from audit_platform.search.query import text_parameters

_LOWER: Final = {ord(upper): upper.lower() for upper in string.ascii_uppercase}


def text_pattern(text: str) -> str | None:
    """Write the filter as a regular expression of one class of characters after the other.

    Args:
        text: The filter, not empty.

    Returns:
        A pattern in the notation of Rust's `regex`; None if no stored text can match.
    """
    given = text_parameters(text)
    wanted, upper, lower = (given[name] or "" for name in ("text", "fold_from", "fold_to"))
    # translate() takes the first of several entries for one character.
    folds = dict(reversed(list(zip(upper, lower, strict=True))))
    classes: dict[str, str] = {}
    for character in dict.fromkeys(wanted):
        candidates = {character, character.upper(), *upper}
        stored = [c for c in sorted(candidates) if len(c) == 1 and _folded(c, folds) == character]
        if not stored:
            return None
        classes[character] = "".join(f"\\x{{{ord(c):x}}}" for c in stored)
    return "".join(f"[{classes[character]}]" for character in wanted)


def _folded(character: str, folds: dict[str, str]) -> str:
    lower = character.translate(_LOWER)
    return folds.get(lower, lower)
