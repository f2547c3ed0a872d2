"""Columns of an exported event, their text, and text made safe for spreadsheets (pure).

Here: what a cell holds. Not here: files (`exports/formats.py`), tables on a terminal
(`cli/event_output.py`).
Source: security design, S23.
"""

from datetime import datetime
from typing import Final

from audit_platform.events.event import EVENT_FIELDS, format_timestamp

COLUMNS: Final = (
    *(spec.name for spec in EVENT_FIELDS),
    "producer_id",
    "producer_epoch",
    "producer_seq",
    "batch_id",
    "received_at",
    "ingested_at",
)
"""Everything a search returns, in order: what the producer sent, then what we added."""

# Beyond S23: a line feed, which some programs skip, and the full-width forms, which some take for
# the plain ones.
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")


def cell_text(value: object) -> str:
    """Text of one stored value; empty for null. JSON columns are their stored text."""
    if value is None:
        return ""
    return format_timestamp(value) if isinstance(value, datetime) else str(value)


def spreadsheet_safe(text: str) -> str:
    """Prefix `'` to a cell that a spreadsheet would run as a formula; lossy, as documented."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
