"""Events as a table, as NDJSON or as CSV.

Here: columns, cells, escaping. Not here: which events (`search/`), options (`cli/events.py`).
Guarantee: NDJSON gives JSON columns byte by byte as stored; a table shows no character that could
steer the terminal; CSV holds no cell that a spreadsheet would run.
"""

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from audit_platform.cli.terminal_text import visible
from audit_platform.errors import InvalidQuery
from audit_platform.events.event import JSON_FIELDS
from audit_platform.exports.cells import COLUMNS, cell_text, spreadsheet_safe

if TYPE_CHECKING:
    from audit_platform.search.hot import EventRow

_TABLE_FIELDS: Final = ("timestamp", "action", "status", "user", "entity", "description")
_NARROW_COLUMNS: Final = 100
_GAP: Final = 2
_MIN_WIDTH: Final = 8
_COMPOSED: Final = ("user", "entity")
_STATUS_STYLES: Final = {"failure": "red", "denied": "red", "pending": "yellow"}


class OutputFormat(StrEnum):
    """How events are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class EventPrinter(Protocol):
    """Prints events as they come, any number of times."""

    def show(self, rows: Sequence["EventRow"]) -> None:
        """Print some events."""
        ...


def make_printer(
    output: OutputFormat, show: Sequence[str], *, is_operator: bool, width: int | None = None
) -> EventPrinter:
    """Choose the printer.

    Args:
        output: Form.
        show: Columns, or paths such as `metadata.plan`; empty for the usual ones of the form.
        is_operator: Whether several tenants can occur.
        width: Columns of the terminal; None asks the terminal.

    Raises:
        InvalidQuery: A name is neither a column nor a path into a JSON column.
    """
    fields = [name for item in show for name in item.split(",") if name]
    for name in fields:
        _check_field(name)
    if output is OutputFormat.TABLE:
        return TablePrinter(fields, is_operator=is_operator, width=width)
    return JsonPrinter(fields) if output is OutputFormat.JSON else CsvPrinter(fields or COLUMNS)


class JsonPrinter:
    """One JSON object per line; nulls are left out, JSON columns are as stored."""

    def __init__(self, fields: Sequence[str]) -> None:
        """Print these fields, or all columns if there are none."""
        self._fields = fields or COLUMNS

    def show(self, rows: Sequence["EventRow"]) -> None:
        """Print some events."""
        from audit_platform.events.json_path import encode_object

        for row in rows:
            found = {name: _json_of(row, name) for name in self._fields}
            line = encode_object({name: raw for name, raw in found.items() if raw is not None})
            sys.stdout.write(line.decode() + "\n")
        sys.stdout.flush()


class CsvPrinter:
    """A header, then a row per event, every cell in quotes."""

    def __init__(self, fields: Sequence[str]) -> None:
        """Print these fields; the header comes with the first events."""
        self._fields = fields
        self._is_headed = False

    def show(self, rows: Sequence["EventRow"]) -> None:
        """Print some events."""
        out = io.StringIO()
        writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
        if not self._is_headed:
            writer.writerow(self._fields)
            self._is_headed = True
        for row in rows:
            writer.writerow([spreadsheet_safe(text_of(row, name)) for name in self._fields])
        sys.stdout.write(out.getvalue())
        sys.stdout.flush()


class TablePrinter:
    """A table that fits the terminal; long cells are cut, control characters spelled out."""

    def __init__(self, fields: Sequence[str], *, is_operator: bool, width: int | None) -> None:
        """Choose the columns: those asked for, or the usual ones that fit."""
        from rich.console import Console

        self._console = Console(width=width, highlight=False, markup=False, emoji=False)
        usual = ["timestamp", "tenant_id", *_TABLE_FIELDS[1:]] if is_operator else _TABLE_FIELDS
        if self._console.width < _NARROW_COLUMNS:
            usual = [name for name in usual if name != "description"]
        self._fields = fields or usual

    def show(self, rows: Sequence["EventRow"]) -> None:
        """Print some events as one table."""
        from rich.table import Table
        from rich.text import Text

        if not rows:
            return
        lines = [[visible(_cell(row, name)) for name in self._fields] for row in rows]
        titles = [visible(name.removesuffix("_id")) for name in self._fields]
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for title, width in zip(titles, self._widths([titles, *lines]), strict=True):
            table.add_column(title, no_wrap=True, overflow="ellipsis", width=width)
        for row, cells in zip(rows, lines, strict=True):
            style = _STATUS_STYLES.get(str(row["status"]), "")
            table.add_row(
                *(
                    Text(cell, style=style if name == "status" else "")
                    for name, cell in zip(self._fields, cells, strict=True)
                )
            )
        self._console.print(table)

    def _widths(self, lines: Sequence[Sequence[str]]) -> list[int]:
        """Width of each column: what it needs, the widest ones cut until the table fits."""
        from rich.cells import cell_len

        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        room = max(self._console.width - _GAP * len(widths), len(widths))
        # Times and outcomes are short and useless when cut; all others give way first.
        kept = {n for n, name in enumerate(self._fields) if name in ("timestamp", "status")}
        while sum(widths) > room:
            giving = [n for n in range(len(widths)) if n not in kept and widths[n] > _MIN_WIDTH]
            widest = max(giving or range(len(widths)), key=widths.__getitem__)
            widths[widest] -= min(sum(widths) - room, max(widths[widest] // 8, 1))
        return widths


def text_of(row: "EventRow", field: str) -> str:
    """Text of a column or of a path into a JSON column; empty for null."""
    if field in _COMPOSED:
        return _composed(row, field)
    if field not in COLUMNS:
        raw = _at_path(row, field)
        return "" if raw is None else _plain_json(raw)
    return cell_text(row[field])


def _cell(row: "EventRow", field: str) -> str:
    value = row.get(field)
    if field in COLUMNS and isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    return text_of(row, field)


def _composed(row: "EventRow", field: str) -> str:
    if field == "user":
        return row["user_label"] or row["user_id"] or ""
    parts: Iterable[str | None] = (row["entity_type"], row["entity_label"] or row["entity_id"])
    return " ".join(part for part in parts if part)


def _json_of(row: "EventRow", field: str) -> bytes | None:
    from audit_platform.events.json_path import encode_value

    if field not in COLUMNS and field not in _COMPOSED:
        return _at_path(row, field)
    value = _composed(row, field) if field in _COMPOSED else row[field]
    if value is None:
        return None
    if field in JSON_FIELDS:
        return str(value).encode()
    return encode_value(cell_text(value) if isinstance(value, datetime | UUID) else value)


def _at_path(row: "EventRow", field: str) -> bytes | None:
    from audit_platform.events.json_path import RawObject, parse_path

    column, *rest = parse_path(field)
    stored = row[str(column)]
    return None if stored is None else RawObject(str(stored).encode()).get(tuple(rest))


def _plain_json(raw: bytes) -> str:
    from audit_platform.events.json_path import decode_text

    text = decode_text(raw)
    return raw.decode() if text is None else text


def _check_field(name: str) -> None:
    from audit_platform.events.json_path import parse_path

    if name in COLUMNS or name in _COMPOSED:
        return
    try:
        column, *rest = parse_path(name)
    except ValueError as exc:
        raise InvalidQuery(f"--show {exc}") from None
    if column not in JSON_FIELDS or not rest:
        raise InvalidQuery(
            f"--show {visible(name)[:60]!r} is no column; use a column such as action, a path such "
            "as metadata.plan, or user and entity"
        )
