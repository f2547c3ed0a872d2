"""Foreign text for terminals and spreadsheets (pure).

Here: making characters visible that would steer a terminal or a reader, and cells that would be
formulas. Not here: which columns are shown (`cli/event_output.py`).
Source: security design, S22 and S23.
"""

import unicodedata
from typing import Final

_STEERING: Final = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"})
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """Spell out control, bidirectional, zero-width and unassigned characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spell(character) for character in text)


def spreadsheet_safe(text: str) -> str:
    """Prefix `'` to a cell that a spreadsheet would run as a formula; lossy, as documented."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _spell(character: str) -> str:
    if unicodedata.category(character) not in _STEERING:
        return character
    # The escapes of Python and JSON people know: \\n, \\x1b, \\u202e.
    return _SHORT.get(character) or character.encode("unicode_escape").decode("ascii")
