"""Dead letters on a terminal, as NDJSON, and the report of a redrive.

Here: columns, cells, escaping. Not here: which letters (`events/dead_letter_rows.py`), options
(`cli/deadletter.py`).
Guarantee: nothing of a letter steers the terminal: a table spells hostile characters out, and JSON
is pure ASCII.
"""

import base64
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import typer

from audit_platform.cli.terminal_text import visible
from audit_platform.events.event import format_timestamp

if TYPE_CHECKING:
    from audit_platform.events.dead_letter_rows import Letter, OpenedLetter, ReasonCount
    from audit_platform.events.redrive import Judged, Verdict

_SHOWN_PROBLEMS: Final = 10


class LetterOutput(StrEnum):
    """How dead letters are printed."""

    TABLE = "table"
    JSON = "json"


def show_letters(letters: Sequence["Letter"], output: LetterOutput) -> None:
    """Print letters without their content."""
    if output is LetterOutput.JSON:
        _print_json(_fields(letter) for letter in letters)
        return
    _print_table(
        ("id", "first seen", "reason", "state", "bytes", "entry", "detail"),
        [
            (
                str(letter.dead_id),
                f"{letter.first_seen:%Y-%m-%d %H:%M:%S}",
                letter.reason,
                letter.state,
                f"{letter.size_bytes:,}",
                _place(letter),
                letter.detail or "",
            )
            for letter in letters
        ],
    )


def show_counts(counts: Sequence["ReasonCount"], output: LetterOutput) -> None:
    """Print how many letters each reason has."""
    if output is LetterOutput.JSON:
        _print_json(
            {
                "reason": one.reason,
                "open": one.open_count,
                "resolved": one.resolved_count,
                "oldest_open": _moment(one.oldest_open),
            }
            for one in counts
        )
        return
    _print_table(
        ("reason", "open", "resolved", "oldest open"),
        [
            (
                one.reason,
                f"{one.open_count:,}",
                f"{one.resolved_count:,}",
                "" if one.oldest_open is None else f"{one.oldest_open:%Y-%m-%d %H:%M:%S}",
            )
            for one in counts
        ],
    )


def show_opened(opened: "OpenedLetter", output: LetterOutput) -> None:
    """Print one letter with its content."""
    if output is LetterOutput.JSON:
        _print_json([_fields(opened.letter) | _content(opened.raw)])
        return
    for name, value in _fields(opened.letter).items():
        if value is not None:
            typer.echo(f"{name:<12} {visible(str(value))}")
    typer.echo("")
    for line in _readable(opened):
        typer.echo(line)


@dataclass(slots=True)
class RedriveReport:
    """What a redrive says while it runs and at its end."""

    is_dry_run: bool
    _problems: int = field(default=0, init=False)

    def hear(self, judged: "Judged") -> None:
        """Print one letter: each in a dry run, otherwise the first that stay open."""
        from audit_platform.events.redrive import Verdict

        letter = judged.letter
        if judged.verdict is Verdict.READY:
            if self.is_dry_run:
                typer.echo(f"{letter.dead_id} ({letter.reason}): would be sent")
            return
        self._problems += 1
        if self._problems <= _SHOWN_PROBLEMS or self.is_dry_run:
            problem = visible(f"{judged.verdict}: {judged.detail}")
            typer.echo(f"{letter.dead_id} ({letter.reason}): {problem}", err=True)

    def finish(self, counts: Counter["Verdict"]) -> None:
        """Print the sums."""
        from audit_platform.events.redrive import Verdict

        if self._problems > _SHOWN_PROBLEMS and not self.is_dry_run:
            hidden = self._problems - _SHOWN_PROBLEMS
            typer.echo(f"… and {hidden:,} more; --dry-run shows all", err=True)
        if not counts.total():
            typer.echo("no open dead letters match", err=True)
            return
        verb = "would be sent" if self.is_dry_run else "sent"
        typer.echo(
            f"{counts[Verdict.READY]:,} {verb}, {counts[Verdict.STILL_BAD]:,} still bad, "
            f"{counts[Verdict.UNREADABLE]:,} unreadable"
        )
        if counts[Verdict.READY] and not self.is_dry_run:
            typer.echo("the ingest job stores them; `deadletter list` shows what it refuses")


def _fields(letter: "Letter") -> dict[str, object]:
    return {
        "dead_id": letter.dead_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "state": letter.state,
        "first_seen": _moment(letter.first_seen),
        "resolved_at": _moment(letter.resolved_at),
        "shard": letter.shard,
        "entry_id": letter.entry_id,
        "line_no": letter.line_no,
        "size_bytes": letter.size_bytes,
        "key_id": letter.key_id,
    }


def _content(raw: bytes | None) -> dict[str, object]:
    if raw is None:
        return {"raw": None}
    try:
        return {"raw": raw.decode()}
    except UnicodeDecodeError:
        return {"raw_base64": base64.b64encode(raw).decode()}


def _readable(opened: "OpenedLetter") -> Iterator[str]:
    """Content line by line; an entry by its fields."""
    from audit_platform.events.lines import unpack_fields

    letter, raw = opened.letter, opened.raw
    if raw is None:
        yield f"(made with key {letter.key_id}, not the present one, or changed since)"
        return
    if letter.line_no != 0:
        yield from _lines(raw)
        return
    try:
        fields = unpack_fields(raw)
    except ValueError:
        yield from _lines(raw)
        return
    for name, value in fields.items():
        yield f"{visible(_text(name))}:"
        yield from (f"  {line}" for line in _lines(value))


def _lines(raw: bytes) -> Iterator[str]:
    # Of all line breaks the plain one alone: the others could hide what they divide.
    return (visible(line) for line in _text(raw).split("\n"))


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _place(letter: "Letter") -> str:
    if letter.entry_id is None:
        return ""
    return letter.entry_id + (f" #{letter.line_no}" if letter.line_no else "")


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else format_timestamp(moment)


def _print_json(rows: "Iterator[Mapping[str, object]] | Sequence[Mapping[str, object]]") -> None:
    for row in rows:
        known = {name: value for name, value in row.items() if value is not None}
        # DEL is the one control character that JSON leaves as it is.
        sys.stdout.write(json.dumps(known).replace("\x7f", "\\u007f") + "\n")
    sys.stdout.flush()


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        is_last = title == titles[-1]
        table.add_column(title, no_wrap=True, overflow="ellipsis" if is_last else "fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    Console(highlight=False, markup=False, emoji=False).print(table)
