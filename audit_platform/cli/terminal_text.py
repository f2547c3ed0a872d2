"""Foreign text for terminals (pure).

Here: making characters visible that would steer a terminal or a reader. Not here: cells of
spreadsheets (`exports/cells.py`), which columns are shown (`cli/event_output.py`).
Source: security design, S22.
"""

import unicodedata
from typing import Final

_STEERING: Final = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"})
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """Spell out control, bidirectional, zero-width and unassigned characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spell(character) for character in text)


def _spell(character: str) -> str:
    if unicodedata.category(character) not in _STEERING:
        return character
    # The escapes of Python and JSON people know: \\n, \\x1b, \\u202e.
    return _SHORT.get(character) or character.encode("unicode_escape").decode("ascii")
