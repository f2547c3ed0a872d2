"""`audit-platform demo`: the whole platform with believable traffic, from nothing.

Here: options, the order of the demo, Ctrl-C. Not here: the platform (`local/supervisor.py`), the
traffic (`local/traffic/run.py`), the display (`local/traffic/display.py`).
"""

import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from audit_platform.local.supervisor import Platform
    from audit_platform.local.traffic.place import Place
    from audit_platform.local.traffic.run import TrafficRun
    from audit_platform.settings import Settings

_CLOUDTRAIL: Final = Path("../shared/data/cloudtrail")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    *,
    events: Annotated[
        int, typer.Option(min=200, help="Events to generate, broken and late ones included.")
    ] = 100_000,
    ends: Annotated[
        bool,
        typer.Option("--exit", help="End after the table: 0 if every id is accounted for, else 1."),
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Directory of the demo; default: .audit-platform/demo, or -2, -3, …"),
    ] = None,
    producers: Annotated[
        int, typer.Option(min=1, max=16, help="Applications that log through the SDK.")
    ] = 4,
    cloudtrail: Annotated[
        Path | None,
        typer.Option(
            help="Directory of AWS CloudTrail files to import; "
            f"default: {_CLOUDTRAIL} when it is there."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Number that fixes what is generated; default: random.")
    ] = None,
) -> None:
    """Start everything, with traffic; print what became of it.

    PostgreSQL, Redis and Dagster start in a data directory of their own; data of the last demo is
    removed first. Applications log a believable day in fast motion, older programs write to the
    queue directly, send bytes twice, too late, and broken. When all is stored, the ids that were
    accepted are compared with the ids that are in the database. Then a light traffic goes on until
    Ctrl-C.
    """
    from rich.console import Console

    from audit_platform.local.supervisor import Platform
    from audit_platform.local.traffic.place import claimed_place, demo_settings

    files = _files_of(cloudtrail)
    console, began_s = Console(), monotonic()
    with _interrupts(), claimed_place(data_dir) as place:
        console.print(f"Data of this demo: {place.data_dir}")
        if place.was_replaced:
            console.print("The data of the last demo was removed.")
        with (
            _says_goodbye(console),
            Platform(
                demo_settings(place), say=_plain(console), show=_troubles(console)
            ) as platform,
        ):
            console.print(f"Ready after {monotonic() - began_s:.0f} s: {platform.plan.ui_url}")
            stage = _Stage(console=console, platform=platform, place=place)
            is_even = stage.play(events=events, producers=producers, files=files, seed=seed)
            if not ends:
                stage.go_on()
    raise typer.Exit(0 if is_even else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """A demo whose platform is ready."""

    console: "Console"
    platform: "Platform"
    place: "Place"

    def play(self, *, events: int, producers: int, files: Path | None, seed: int | None) -> bool:
        """Import, generate, wait, print; returns whether every id is accounted for."""
        from audit_platform.local.traffic.display import report_table, verdict
        from audit_platform.local.traffic.plan import plan_traffic
        from audit_platform.local.traffic.run import TrafficRun

        seed = secrets.randbelow(1_000_000) if seed is None else seed
        plan = plan_traffic(
            event_count=events, application_count=producers, now=datetime.now(UTC), seed=seed
        )
        imported = self._import(files)
        self.console.print(
            f"{plan.event_count:,} events from {producers + 1} processes, seed {seed}"
        )
        with TrafficRun(plan, self.platform.running_settings, self.place.history_dir) as run:
            self._follow(run, total=plan.event_count)
            report = run.report(imported)
        self.console.print(report_table(report), verdict(report), sep="\n")
        return report.balance.is_even

    def _follow(self, run: "TrafficRun", *, total: int) -> None:
        from audit_platform.local.traffic.display import Bars
        from audit_platform.local.traffic.patience import Patience

        patience = Patience()
        with Bars(self.console, total=total) as bars:
            run.start()
            while not (position := run.position()).is_done:
                bars.show(position)
                patience.wait(position)
            bars.show(position)

    def _import(self, directory: Path | None) -> frozenset[str]:
        if directory is None:
            return frozenset()
        from audit_platform.local.traffic.cloudtrail import cloudtrail_files, event_ids
        from audit_platform.local.traffic.display import file_bar

        files = cloudtrail_files(directory)
        with file_bar(self.console) as advance:
            _send_and_settle(files, self.platform.running_settings, advance)
        imported = event_ids(files)
        self.console.print(f"{len(imported):,} events of AWS CloudTrail imported from {directory}")
        return imported

    def go_on(self) -> None:
        """Keep a light traffic until Ctrl-C."""
        from audit_platform.local.traffic.display import next_steps
        from audit_platform.local.traffic.run import live_traffic

        steps = next_steps(self.place.data_dir, self.platform.plan.ui_url, _program())
        self.console.print(steps, markup=False, highlight=False, soft_wrap=True)
        with (
            live_traffic(self.platform.running_settings, self.place.history_dir),
            suppress(KeyboardInterrupt),
        ):
            self.console.print("A light traffic goes on. Ctrl-C stops everything; data stays.")
            Event().wait()


def _send_and_settle(
    files: Sequence[Path], settings: "Settings", advance: Callable[[int, int], None]
) -> None:
    from audit_platform.cli.import_session import import_session
    from audit_platform.local.traffic.cloudtrail import MAPPING
    from audit_platform.local.traffic.patience import Patience

    patience = Patience()
    with import_session(settings) as session:
        imports = [
            session.prepare(
                path,
                file_format=None,
                mapping=MAPPING,
                on_progress=lambda progress: patience.wait(progress, pause_s=0),
                on_rejection=lambda _rejection: None,
            )
            for path in files
        ]
        # All are sent before the first is awaited: a wait per file would cost a flush each.
        for number, one in enumerate(imports, start=1):
            one.send(is_repeat=False)
            advance(number, len(imports))
        for one in imports:
            one.settle()


def _program() -> str:
    """Spell this command line as somebody in the present directory would call it."""
    path, here = Path(sys.argv[0]).absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _files_of(cloudtrail: Path | None) -> Path | None:
    if cloudtrail is not None and not cloudtrail.is_dir():
        raise typer.BadParameter(f"{cloudtrail} is no directory", param_hint="--cloudtrail")
    found = cloudtrail or _CLOUDTRAIL
    return found if found.is_dir() else None


@contextmanager
def _interrupts() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM unwind the demo, and nothing disturb the unwinding."""

    def interrupt(number: int, _frame: object) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    handled = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _says_goodbye(console: "Console") -> Iterator[None]:
    try:
        yield
    finally:
        console.print("Stopped; the data of the demo is kept until the next one.")


def _plain(console: "Console") -> Callable[[str], None]:
    return lambda sentence: console.print(sentence, markup=False, highlight=False)


def _troubles(console: "Console") -> Callable[[str, str, bool], None]:
    def show(name: str, line: str, is_trouble: bool) -> None:
        if is_trouble:
            console.print(f"{name}: {line}", markup=False, highlight=False, style="yellow")

    return show
