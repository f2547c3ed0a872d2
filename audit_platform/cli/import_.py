"""`audit-platform import`: files of history into the log.

Here: options, the progress bar, the report, exit codes. Not here: services
(`cli/import_session.py`) and the import (`imports/file_import.py`).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer

from audit_platform.cli.terminal_text import visible
from audit_platform.errors import UnreadableFile
from audit_platform.imports.file_format import FileFormat

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from audit_platform.cli.import_session import ImportSession
    from audit_platform.imports.file_import import FileImport
    from audit_platform.imports.report import FileReport, ImportProgress, Rejection

NOTHING_IMPORTED: Final = 1
SOME_REJECTED: Final = 3
_SHOWN_REJECTIONS: Final = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def import_(
    *,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Files, or folders to search for files.")
    ],
    file_format: Annotated[
        FileFormat | None,
        typer.Option("--format", help="Format of the files; default: detected."),
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="cloudtrail, generic, github, kubernetes, or a mapping file of your own; "
            "default: cloudtrail for CloudTrail files, generic for all others.",
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Send files again that were imported; adds what is missing."),
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(help="File that rejected records are appended to, one JSON object per line."),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="End when everything is sent, not when it is stored.")
    ] = False,
) -> None:
    """Import NDJSON, CSV, Parquet, JSON and AWS CloudTrail files, plain or gzip.

    Records go through the queue and the ingest job like any event; a platform must be running.
    The same file twice adds nothing. A killed import continues where it was. Exit code: 0 all
    imported, 1 nothing could be imported, 2 wrong use, 3 some records or files were refused.
    """
    from audit_platform.cli.import_session import choose_mapping, import_session
    from audit_platform.imports.files import find_files
    from audit_platform.settings import load_settings

    if mapping is not None:
        choose_mapping(mapping, file_format or FileFormat.NDJSON)
    files, passed = find_files(paths)
    if not files:
        raise UnreadableFile(
            f"no file to import below {', '.join(map(str, paths))} ({len(passed)} passed over)"
        )
    with import_session(load_settings()) as session, _opened_rejects(rejects) as sink:
        run = _Run(
            session=session, file_format=file_format, mapping=mapping, is_repeat=again, sink=sink
        )
        with _progress_bar() as bar:
            run.send(files, bar)
            if not no_wait:
                run.settle(bar)
    raise typer.Exit(run.finish(len(passed)))


@dataclass(slots=True, kw_only=True)
class _Run:
    """One call of the command: what it was told, and what it saw."""

    session: "ImportSession"
    file_format: FileFormat | None
    mapping: str | None
    is_repeat: bool
    sink: IO[str] | None
    sent: list["FileImport"] = field(default_factory=list["FileImport"])
    reports: list["FileReport"] = field(default_factory=list["FileReport"])
    unreadable: list[str] = field(default_factory=list[str])
    rejected: int = 0

    def send(self, files: list[Path], bar: "Progress") -> None:
        """Send file by file; a file that cannot be read does not keep the others back."""
        from audit_platform.imports.report import FileOutcome

        sizes = {path: path.stat().st_size for path in files}
        task = bar.add_task("sending", total=max(sum(sizes.values()), 1))
        done = 0
        for path in files:
            with self._reported():
                moving = self._prepare(path, bar, task, done)
                report = moving.send(is_repeat=self.is_repeat)
                self.reports.append(report)
                if report.outcome is FileOutcome.SENT:
                    self.sent.append(moving)
            done += sizes[path]
            bar.update(task, completed=done)

    def settle(self, bar: "Progress") -> None:
        """Wait for the ledger, after all files were sent: the drain stores them together."""
        self.reports = [report for report in self.reports if report.outcome != "sent"]
        task = bar.add_task("storing", total=max(len(self.sent), 1))
        for moving in self.sent:
            with self._reported():
                self.reports.append(moving.settle())
            bar.advance(task)

    def _prepare(self, path: Path, bar: "Progress", task: "TaskID", done: int) -> "FileImport":
        def show(progress: "ImportProgress") -> None:
            if progress.phase != "storing":
                bar.update(task, completed=done + progress.offset, description=_describe(progress))

        return self.session.prepare(
            path,
            file_format=self.file_format,
            mapping=self.mapping,
            on_progress=show,
            on_rejection=self._reject,
        )

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except UnreadableFile as exc:
            self.unreadable.append(exc.message)
            typer.echo(f"audit-platform: {visible(exc.message)}", err=True)

    def _reject(self, rejection: "Rejection") -> None:
        self.rejected += 1
        if self.sink is not None:
            self.sink.write(_reject_line(rejection))
            self.sink.flush()
        if self.rejected <= _SHOWN_REJECTIONS:
            typer.echo(visible(f"{_place(rejection)}: {rejection.problem}"), err=True)

    def finish(self, passed: int) -> int:
        """Print the report; returns the exit code."""
        hidden = self.rejected - _SHOWN_REJECTIONS
        if hidden > 0:
            typer.echo(f"… and {hidden:,} more rejected; --rejects FILE keeps them all", err=True)
        if passed:
            typer.echo(f"{_counted(passed, 'file')} without a known suffix passed over", err=True)
        for line in _summary(self.reports):
            typer.echo(line)
        if not any(report.sent or not report.records for report in self.reports):
            return NOTHING_IMPORTED
        dead = sum(report.dead for report in self.reports)
        refused = self.unreadable or dead or any(report.rejected for report in self.reports)
        return SOME_REJECTED if refused else 0


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _summary(reports: list["FileReport"]) -> Iterator[str]:
    from audit_platform.imports.report import FileOutcome, count_total

    known = [report for report in reports if report.outcome is FileOutcome.ALREADY_IMPORTED]
    for report in known[:_SHOWN_REJECTIONS]:
        yield visible(
            f"{report.path.name}: already imported, adds nothing ({report.sent:,} events); "
            "--again sends it once more"
        )
    if len(known) > _SHOWN_REJECTIONS:
        yield f"… and {len(known) - _SHOWN_REJECTIONS} more files already imported"
    fresh = [report for report in reports if report.outcome is not FileOutcome.ALREADY_IMPORTED]
    if not fresh:
        return
    total = dict(count_total(fresh))
    yield (
        f"{_counted(len(fresh), 'file')}, {_counted(total['records'], 'record')}: "
        f"{total['sent']:,} sent, "
        f"{total['rejected']:,} rejected"
    )
    if all(report.outcome is FileOutcome.STORED for report in fresh):
        yield (
            f"stored: {total['new']:,} new, {total['duplicates']:,} duplicates, "
            f"{total['late']:,} late, {total['dead']:,} dead letters"
        )
    else:
        yield "the ingest job stores them; the same command without --no-wait tells when it has"


def _describe(progress: "ImportProgress") -> str:
    name = visible(progress.path.name)[-40:]
    waiting = ", queue full, waiting for the ingest job" if progress.phase == "queue full" else ""
    return f"{name}: {progress.records:,} records{waiting}"


def _place(rejection: "Rejection") -> str:
    record = rejection.record
    place = f"record {record.number}" if record.line is None else f"line {record.line}"
    return f"{rejection.path.name}, {place}"


def _reject_line(rejection: "Rejection") -> str:
    record, problem = rejection.record, rejection.problem
    content = {
        "file": str(rejection.path),
        "record": record.number,
        "line": record.line,
        "field": problem.field,
        "problem": problem.problem,
        "remedy": problem.remedy,
        "raw": record.raw.decode(errors="replace"),
    }
    return json.dumps(content) + "\n"


@contextmanager
def _opened_rejects(path: Path | None) -> Iterator[IO[str] | None]:
    if path is None:
        yield None
        return
    try:
        stream = path.open("a", encoding="utf-8")
    except OSError as exc:
        raise typer.BadParameter(f"{path}: {exc.strerror}", param_hint="--rejects") from exc
    with stream:
        yield stream


def _progress_bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
