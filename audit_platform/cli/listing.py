"""Lists on a terminal: a table for people, one JSON object per line for programs.

Here: columns, escaping. Not here: what is listed.
Guarantee: nothing of a record steers the terminal: a table spells hostile characters out, and JSON
is pure ASCII.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from audit_platform.cli.terminal_text import visible

_FULL_WIDTH: Final = 1_000


class ListOutput(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under titles; nothing without rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    # A cut id is a wrong one: in a narrow terminal lines run over instead.
    console = Console(width=_FULL_WIDTH, highlight=False, markup=False, emoji=False)
    console.print(table, soft_wrap=True)


def print_json(rows: Iterable[Mapping[str, object]]) -> None:
    """Print one object per line; fields without a value are left out."""
    for row in rows:
        known = {name: value for name, value in row.items() if value is not None}
        # DEL is the one control character that JSON leaves as it is.
        sys.stdout.write(json.dumps(known).replace("\x7f", "\\u007f") + "\n")
    sys.stdout.flush()
