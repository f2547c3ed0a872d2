"""`audit-platform partitions`: where every partition stands in its life.

Here: options, columns, words. Not here: what is known of a partition (`retention/overview.py`),
the steps of its life (`jobs/lifecycle.py` runs them), sizes of indexes (`cli/storage.py`).
Guarantee: it only looks; nothing of a record steers the terminal.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from audit_platform.cli.terminal_text import visible
from audit_platform.errors import InvalidQuery

if TYPE_CHECKING:
    from audit_platform.retention.overview import PartitionOverview

_COLUMNS: Final = (
    *("partition", "state", "gen", "rows", "table", "archive", "files", "root", "holds"),
    *("next step", "due", "file", "note"),
)
_NUMBERS: Final = frozenset({"gen", "rows", "table", "archive", "files", "holds"})
_ROOT_DIGITS: Final = 12
_STATE_STYLES: Final = {"detach_started": "yellow", "dropped": "dim"}
_FULL_WIDTH: Final = 1_000


class PartitionOutput(StrEnum):
    """How partitions are printed."""

    TABLE = "table"
    JSON = "json"


States = Annotated[
    list[str] | None,
    typer.Option(
        "--state", help="Only partitions in this state; may be repeated.", show_default=False
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        help="Only those that end after this: 90d, 2026-01-31 or an ISO 8601 time.",
        show_default=False,
    ),
]
Until = Annotated[
    str | None,
    typer.Option(help="Only those that begin before this; as --since.", show_default=False),
]
Due = Annotated[
    bool, typer.Option("--due", help="Only partitions whose next step is due or failed.")
]
Held = Annotated[bool, typer.Option("--held", help="Only partitions that a legal hold covers.")]
Output = Annotated[
    PartitionOutput,
    typer.Option("--output", "-o", help="table; json: one object per line, every file and hold."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("partitions")(partitions)


def partitions(
    *,
    state: States = None,
    since: Since = None,
    until: Until = None,
    due: Due = False,
    held: Held = False,
    output: Output = PartitionOutput.TABLE,
) -> None:
    """Show every partition: state, rows, bytes, root, files, legal holds, what comes next.

    Rows with ~ are the planner's estimate: they are counted when the partition is sealed. Table and
    archive are sizes; root shows the first 12 digits, file the first of the files: json has all.
    The exit code is 1 if a step of a shown partition failed and was not taken since.
    """
    from audit_platform.db.pool import OWNER_ROLE, connected
    from audit_platform.retention.lifecycle_settings import read_lifecycle_rules
    from audit_platform.retention.overview import read_overview
    from audit_platform.search.query import parse_moment
    from audit_platform.settings import load_settings

    _check_states(state or [])
    now = datetime.now(UTC)
    after = parse_moment(since, now=now, option="--since") if since else None
    before = parse_moment(until, now=now, option="--until") if until else None
    settings = load_settings()
    url = settings.database_url_of("maint")
    with connected(url, application="partitions", role=OWNER_ROLE) as connection:
        found = read_overview(connection, rules=read_lifecycle_rules(connection, settings))
    shown = [
        one
        for one in found
        if (not state or one.row.state in state)
        and (after is None or one.row.hi > after)
        and (before is None or one.row.lo < before)
        and (not due or one.is_due(now) or one.row.last_error is not None)
        and (not held or one.holds)
    ]
    if output is PartitionOutput.JSON:
        _print_json(shown)
    else:
        _print_table(shown, now=now)
    if any(one.row.last_error is not None for one in shown):
        raise typer.Exit(1)


def fields_of(one: "PartitionOverview") -> dict[str, object]:
    """Everything that is known of a partition, as JSON takes it; hashes in hexadecimal."""
    row = one.row
    return {
        "partition": row.name,
        "lo": _moment(row.lo),
        "hi": _moment(row.hi),
        "state": row.state.value,
        "generation": row.generation,
        "rows": one.rows,
        "rows_are_estimated": one.is_estimate,
        "table_bytes": one.table_bytes,
        "archive_bytes": one.archive_bytes,
        "root": _hex(row.root),
        "leaf_digest": _hex(row.leaf_digest),
        "manifest_sha256": _hex(row.manifest_sha256),
        "verified_by": row.verified_by,
        "files": [entry.to_row() for entry in row.files],
        "holds": [
            {
                "hold_id": str(hold.hold_id),
                "case": hold.case_id,
                "tenant": hold.scope.tenant_id,
                "keep_hot": hold.scope.keep_hot,
            }
            for hold in one.holds
        ],
        "next_step": one.next_step,
        "due_at": _moment(one.due_at),
        "held_step": one.held_step,
        "last_error": row.last_error,
        "reopened_at": _moment(one.reopened_at),
        "restored_as": row.restored_as,
        **{
            name: _moment(getattr(row, name))
            for name in (
                *("opened_at", "sealed_at", "seal_checked_at", "indexed_at", "exported_at"),
                *("verified_at", "detached_at", "dropped_at", "restored_at"),
            )
        },
    }


def cells_of(one: "PartitionOverview", *, now: datetime) -> list[str]:
    """The cells of a table row, in the order of the columns."""
    row = one.row
    rows = "" if one.rows is None else f"{'~' if one.is_estimate else ''}{one.rows:,}"
    return [
        row.name,
        row.state.value,
        str(row.generation),
        rows,
        size_text(one.table_bytes),
        size_text(one.archive_bytes or None),
        str(len(row.files) or ""),
        (_hex(row.root) or "")[:_ROOT_DIGITS],
        str(len(one.holds) or ""),
        "" if one.next_step is None else one.next_step.value,
        _due_text(one, now),
        visible(row.files[0].path) if row.files else "",
        visible(_note(one)),
    ]


def size_text(size_bytes: int | None) -> str:
    """Bytes for people, in powers of 1,024; empty for None."""
    if size_bytes is None:
        return ""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1_024:  # noqa: PLR2004 - the step between two units
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1_024
    return f"{size:.1f} TiB"


def _check_states(states: Sequence[str]) -> None:
    from audit_platform.retention.partition_states import State

    known = [state.value for state in State]
    for state in states:
        if state not in known:
            raise InvalidQuery(f"--state {visible(state)[:30]!r}: use one of {', '.join(known)}")


def _print_json(shown: Sequence["PartitionOverview"]) -> None:
    for one in shown:
        known = {name: value for name, value in fields_of(one).items() if value is not None}
        # DEL is the one control character that JSON leaves as it is.
        sys.stdout.write(json.dumps(known).replace("\x7f", "\\u007f") + "\n")
    sys.stdout.flush()


def _print_table(shown: Sequence["PartitionOverview"], *, now: datetime) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not shown:
        typer.echo("no partition matches", err=True)
        return
    lines = [cells_of(one, now=now) for one in shown]
    # A column without a value says nothing; a fresh platform has no archive.
    used = [n for n, title in enumerate(_COLUMNS) if n == 0 or any(line[n] for line in lines)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for n in used:
        justify = "right" if _COLUMNS[n] in _NUMBERS else "left"
        table.add_column(_COLUMNS[n], justify=justify, no_wrap=True)
    for one, line in zip(shown, lines, strict=True):
        style = "red" if one.row.last_error else _STATE_STYLES.get(one.row.state.value, "")
        table.add_row(*(Text(line[n], style=style) for n in used))
    # A cut name or figure is a wrong one: in a narrow terminal lines run over instead.
    console = Console(width=_FULL_WIDTH, highlight=False, markup=False, emoji=False)
    console.print(table, soft_wrap=True)
    typer.echo(_summary(shown))
    for line in _failures(shown):
        typer.echo(line)


def _failures(shown: Sequence["PartitionOverview"]) -> list[str]:
    """One line for each reason; a full disk fails every partition for the same one."""
    names: dict[str, list[str]] = {}
    for one in shown:
        if one.row.last_error is not None:
            names.setdefault(one.row.last_error, []).append(one.row.name)
    return [
        f"failed: {failed[0]}{f' and {len(failed) - 1} more' if failed[1:] else ''}: "
        f"{visible(reason)}"
        for reason, failed in names.items()
    ]


def _summary(shown: Sequence["PartitionOverview"]) -> str:
    states = Counter(one.row.state.value for one in shown)
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    tables = sum(one.table_bytes or 0 for one in shown)
    archive = sum(one.archive_bytes for one in shown)
    return (
        f"{len(shown)} partition{'' if len(shown) == 1 else 's'} ({counted}); "
        f"{size_text(tables)} in PostgreSQL, {size_text(archive)} in the archive"
    )


def _due_text(one: "PartitionOverview", now: datetime) -> str:
    if one.due_at is None:
        return ""
    if one.held_step is not None:
        return "held"
    return "now" if one.is_due(now) else f"{one.due_at:%Y-%m-%d %H:%M}Z"


def _note(one: "PartitionOverview") -> str:
    row = one.row
    notes: list[str] = []
    if row.restored_as is not None:
        notes.append(f"restored as {row.restored_as}")
    if one.held_step is not None:
        cases = ", ".join(sorted({hold.case_id for hold in one.holds}))
        notes.append(f"{one.held_step} is held by case {cases}")
    if one.expired_files:
        notes.append(f"{one.expired_files} of {len(row.files)} files expired")
    if row.last_error is not None:
        notes.append("failed, see below")
    return "; ".join(notes)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
