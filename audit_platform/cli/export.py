"""`audit-platform export`: everything a search finds, as files.

Here: options, the line of progress, the summary. Not here: filters (`exports/order.py`), the steps
(`exports/search_export.py`), the same as a job (`jobs/search_export.py`).
"""

import secrets
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from audit_platform.events.event import ActorType, EventStatus

_TOLD_EVERY_S: Final = 1.0

if TYPE_CHECKING:
    from audit_platform.exports.manifest import FinishedExport
    from audit_platform.exports.order import ExportFormat
    from audit_platform.exports.progress import ExportProgress


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def export(
    *,
    form: Annotated[
        str, typer.Option("--format", "-f", metavar="FORMAT", help="csv, ndjson or parquet.")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URL",
            help="Directory or s3:// URL; default: AUDIT_EXPORT_DIR.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Directory of the export below it; default: made from the time. The same name "
            "and filters again go on with an interrupted export.",
            show_default=False,
        ),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Only this tenant; default: all, as operator.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="2h, 7d, 2026-01-31 or 2026-01-31T12:00:00Z; inclusive.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="As --since; exclusive; default: now.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only events of this user id.")] = None,
    entity: Annotated[
        str | None,
        typer.Option("--entity", metavar="TYPE[:ID]", help="Only this record, or all of a type."),
    ] = None,
    action: Annotated[
        str | None, typer.Option("--action", help="Exact action, or a prefix: 'user.*'.")
    ] = None,
    status: Annotated[EventStatus | None, typer.Option(help="Only this outcome.")] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    correlation: Annotated[
        str | None, typer.Option(help="Only events of this business operation.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Found in action, description or entity label.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="PATH=VALUE", help="Value in metadata; repeat for more."),
    ] = None,
    rows_per_file: Annotated[
        int | None, typer.Option(metavar="ROWS", help="A file ends here; default: 250,000.")
    ] = None,
    most: Annotated[
        int | None,
        typer.Option("--most", metavar="ROWS", min=1, help="The export ends here; default: all."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line of progress.")] = False,
) -> None:
    """Write every event that a search finds to files, newest first, with a manifest.

    Searches PostgreSQL and the archive, as reader of --tenant or, without it, as operator. CSV
    cells that a spreadsheet would run as a formula get a leading '; ndjson and parquet hold exact
    values. That somebody exported is logged. Interrupted, the same command with the same --name
    goes on after the last complete file.
    """
    from audit_platform.archive.store import open_store
    from audit_platform.cli.deadletter_session import system_user
    from audit_platform.exports.order import (
        ROWS_PER_FILE,
        ExportOrder,
        SearchWords,
        query_of,
    )
    from audit_platform.exports.services import Requester, export_search
    from audit_platform.settings import load_settings

    now = datetime.now(UTC)
    words = SearchWords(
        tenant=tenant,
        since=since,
        until=until,
        user=user,
        entity=entity,
        action=action,
        status=status,
        source=source,
        correlation=correlation,
        text=text,
        where=tuple(where or ()),
    )
    order = ExportOrder(
        name=name or f"export-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}",
        format=_format(form),
        query=query_of(words, now=now),
        rows_per_file=ROWS_PER_FILE if rows_per_file is None else rows_per_file,
        most_rows=most,
    )
    settings = load_settings()
    store = open_store(_url(to) if to else settings.export_place().absolute().as_uri())
    line = _ProgressLine(is_quiet=quiet)
    try:
        done = export_search(
            settings,
            order,
            store=store,
            requester=Requester(name=system_user(), actor_type=ActorType.ADMIN),
            now=now,
            report=line.report,
        )
    except BaseException:
        line.end()
        if line.has_begun:
            typer.echo(
                f"not finished; go on with the same options and --name {order.name}", err=True
            )
        raise
    line.end()
    _say_result(done, store.url)


def _format(name: str) -> "ExportFormat":
    from audit_platform.errors import InvalidQuery
    from audit_platform.exports.order import ExportFormat

    try:
        return ExportFormat(name.lower())
    except ValueError:
        raise InvalidQuery(
            f"--format {name[:20]!a} is unknown; use {', '.join(ExportFormat)}"
        ) from None


def _url(to: str) -> str:
    return to if "://" in to else Path(to).absolute().as_uri()


class _ProgressLine:
    """One line on stderr that is written over, only where somebody looks.

    Attributes:
        has_begun: Whether anything was exported.
    """

    def __init__(self, *, is_quiet: bool) -> None:
        self.has_begun = False
        self._is_shown = sys.stderr.isatty() and not is_quiet
        self._told_s = time.monotonic()
        self._has_text = False

    def report(self, progress: "ExportProgress") -> None:
        """Take a report; show it if it is time."""
        self.has_begun = True
        if not self._is_shown or time.monotonic() - self._told_s < _TOLD_EVERY_S:
            return
        self._told_s, self._has_text = time.monotonic(), True
        share = "" if progress.share is None else f", {progress.share:.0%}"
        reached = "" if progress.reached is None else f", {progress.reached:%Y-%m-%d %H:%M}Z"
        text = f"{progress.rows:,} events in {progress.files} files{share}{reached}"
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the terminal as it was."""
        if self._has_text:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _say_result(done: "FinishedExport", url: str) -> None:
    from audit_platform.retention.size_findings import readable_size

    files = "1 file" if len(done.files) == 1 else f"{len(done.files):,} files"
    typer.echo(f"{done.rows:,} events in {files}, {readable_size(done.size_bytes)}")
    for file in done.files:
        typer.echo(f"{url}/{file.path}  {file.rows:,} events  sha256 {file.sha256}")
    typer.echo(f"{url}/{done.manifest_path}  sha256 {done.manifest_sha256}")
    if done.has_more:
        typer.echo("more events match; raise --most", err=True)
