"""What people see of a demo: progress bars, the table of figures, what to try next.

Here: rich renderables made from plain values. Not here: when they are shown (`cli/demo.py`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from audit_platform.local.traffic.faults import FAULTS
from audit_platform.local.traffic.run import Position, Report

_MANY: Final = 10


class Bars:
    """Two bars: accepted by the queue, and found its place in the database."""

    def __init__(self, console: Console, *, total: int) -> None:
        """Show nothing yet.

        Args:
            console: Where to.
            total: Events of the whole run.
        """
        self._progress = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._accepted = self._progress.add_task("accepted", total=total)
        self._settled = self._progress.add_task("stored", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()

    def show(self, position: Position) -> None:
        """Move the bars."""
        self._progress.update(self._accepted, completed=position.accepted)
        self._progress.update(self._settled, completed=position.settled)


@contextmanager
def file_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Show a bar for files while a block runs; gives what moves it: files done, files in all."""
    progress = Progress(
        TextColumn("importing"), BarColumn(bar_width=40), MofNCompleteColumn(), console=console
    )
    with progress:
        task = progress.add_task("files", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def report_table(report: Report) -> RenderableType:
    """One table with everything that happened."""
    balance, ledger = report.balance, report.ledger
    table = Table(title="What became of the events", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("accepted", _count(balance.accepted_count), _of_files(report.imported_count))
    table.add_row("stored", _count(balance.stored_count), "rows of audit.event")
    table.add_row("late", _count(balance.late_count), "older than any partition; found by search")
    table.add_row("dead letters", _count(balance.dead_count), "kept with their bytes, encrypted")
    for reason, count in sorted(report.dead_by_reason.items()):
        table.add_row(f"  {reason}", _count(count), _kinds(reason))
    table.add_row(
        "duplicates absorbed",
        _count(ledger.duplicate_count),
        f"{report.accepted.resent_count:,} events were sent twice on purpose, broken ones too",
    )
    table.add_section()
    table.add_row("rate", f"{report.events_per_s:,.0f}/s", "first event sent to last commit")
    table.add_row("lag p50", _seconds(report.lag.lag_p50_s), "taken by the queue → stored")
    table.add_row("lag p99", _seconds(report.lag.lag_p99_s), "from the first event on")
    table.add_row(
        "Dagster runs",
        _count(ledger.run_count),
        f"transactions: {ledger.batch_count:,}, each with its ledger row",
    )
    return table


def verdict(report: Report) -> RenderableType:
    """Whether every id is accounted for; names those that are not."""
    if report.balance.is_even:
        sentence = (
            f"Balance by sets of ids: {report.balance.accepted_count:,} accepted = stored + late + "
            "dead letters; 0 missing, 0 unexpected, 0 twice."
        )
        return Text(sentence, style="green")
    lines = [Text("Balance by sets of ids: NOT even.", style="bold red")]
    lines += [Text(line, style="red") for line in report.balance.differences()]
    return Group(*lines)


def next_steps(data_dir: Path, ui_url: str, program: str) -> str:
    """URLs and commands to try while the demo runs; long lines, so that they can be copied.

    Args:
        data_dir: Of the demo.
        ui_url: Of its Dagster UI.
        program: How this command line is called.
    """
    attack = f"{program} search --tenant polar-bank --status failure --limit 5"
    history = f"{program} search --tenant fern-retail --entity contact --show action,user_label"
    return "\n".join(
        (
            "",
            "Look at it",
            f"  {ui_url}/assets/audit_event   the event table, numbers plotted",
            f"  {ui_url}/jobs   the ingest job and its runs",
            f"  {ui_url}/automation   sensors and schedules",
            "Try it, in another terminal",
            f"  export AUDIT_DATA_DIR={_relative(data_dir)}",
            f"  {attack}   # somebody guesses passwords",
            f"  {history}",
            f"  {program} search --where geo.country=JP --limit 5",
            f"  {program} tail   # what happens now",
            f"  {program} status",
            "",
        )
    )


def _kinds(reason: str) -> str:
    kinds = [kind for kind, fault in FAULTS.items() if fault.reason == reason]
    return f"sent on purpose: {', '.join(kinds)}" if kinds else "not sent on purpose"


def _of_files(count: int) -> str:
    return f"{count:,} of them from CloudTrail files" if count else "by the queue"


def _count(number: int) -> str:
    return f"{number:,}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value * 1000:,.0f} ms" if value < _MANY else f"{value:,.1f} s"


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
