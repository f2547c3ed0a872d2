"""`audit-platform search` and `tail`: stored events on the command line.

Here: options and the loop of `tail`. Not here: filters (`search/query.py`), the searches
(`search/everywhere.py`; `tail` looks in PostgreSQL only: `search/hot.py`), printing
(`cli/event_output.py`).
"""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from audit_platform.cli.event_output import OutputFormat
from audit_platform.events.event import EventStatus

if TYPE_CHECKING:
    from audit_platform.db.pool import Connection
    from audit_platform.search.hot import ArchiveUse, Page, Searcher
    from audit_platform.search.query import EventQuery
    from audit_platform.settings import Settings

_POLL_S: Final = 1.0
_TAIL_LIMIT: Final = 1_000

Tenant = Annotated[
    str | None, typer.Option("--tenant", help="Only this tenant; default: all, as operator.")
]
User = Annotated[str | None, typer.Option("--user", help="Only events of this user id.")]
Entity = Annotated[
    str | None,
    typer.Option("--entity", metavar="TYPE[:ID]", help="Only this record, or all of a type."),
]
Action = Annotated[
    str | None, typer.Option("--action", help="Exact action, or a prefix: user.suspend, 'user.*'.")
]
Status = Annotated[EventStatus | None, typer.Option("--status", help="Only this outcome.")]
Source = Annotated[str | None, typer.Option("--source", help="Only this source.")]
Correlation = Annotated[
    str | None, typer.Option("--correlation", help="Only events of this business operation.")
]
Text = Annotated[
    str | None,
    typer.Option("--text", help="Found in action, description or entity label, whatever the case."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="PATH=VALUE",
        help="Value in metadata: plan=pro, items[0].sku=A-1. Repeat for more; all must match.",
    ),
]
Output = Annotated[
    OutputFormat,
    typer.Option(
        "--output", "-o", help="table; json: one object per line, as stored; csv: see below."
    ),
]
Show = Annotated[
    list[str] | None,
    typer.Option(
        "--show",
        metavar="FIELD",
        help="Columns to print, such as action,metadata.plan,context.ip; repeat or use commas.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("search")(search)
    app.command("tail")(tail)


def search(
    *,
    tenant: Tenant = None,
    since: Annotated[
        str | None, typer.Option(help="2h, 7d, 2026-01-31 or 2026-01-31T12:00:00Z; inclusive.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="As --since; exclusive.")] = None,
    user: User = None,
    entity: Entity = None,
    action: Action = None,
    status: Status = None,
    source: Source = None,
    correlation: Correlation = None,
    text: Text = None,
    where: Where = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Events of one page.")] = 50,
    cursor: Annotated[
        str | None, typer.Option(help="Next page: as printed by the page before, same filters.")
    ] = None,
    output: Output = OutputFormat.TABLE,
    show: Show = None,
) -> None:
    """Find stored events, newest first, in PostgreSQL and in the archive.

    With --tenant the search runs as reader of that tenant; without, as operator over all. CSV
    cells that a spreadsheet would run as a formula get a leading '; use json for exact values. A
    search ends after AUDIT_SEARCH_TIMEOUT_S (10); export takes as long as it takes.
    """
    from audit_platform.search.cold import Archive
    from audit_platform.search.cursor import resume
    from audit_platform.search.everywhere import Everywhere
    from audit_platform.search.query import parse_moment

    now = datetime.now(UTC)
    query = _query(
        tenant, user, entity, action, status, source, correlation, text, where,
        since=parse_moment(since, now=now, option="--since") if since else None,
        until=parse_moment(until, now=now, option="--until") if until else None,
        limit=limit,
        period=(since, until),
    )  # fmt: skip
    settings = _settings()
    if cursor is not None:
        query = resume(query, cursor, key=_key(settings), now=now)
    printer = _printer(output, show, tenant)
    archive = Archive([url for url in (settings.archive_place(), settings.archive_copy_url) if url])
    with Everywhere.opened(_searcher(settings, tenant), archive) as everywhere:
        page = everywhere.search(query, now=now)
    printer.show(page.rows)
    _say_archive(page.archive)
    _say_next(page, query, settings, now)


def tail(
    *,
    tenant: Tenant = None,
    user: User = None,
    entity: Entity = None,
    action: Action = None,
    status: Status = None,
    source: Source = None,
    correlation: Correlation = None,
    text: Text = None,
    where: Where = None,
    output: Output = OutputFormat.TABLE,
    show: Show = None,
) -> None:
    """Print events as they are stored, oldest first; Ctrl-C ends.

    Looks once a second. Not shown: events that arrive more than 10 minutes after their own time,
    and in a burst all but the newest 1,000 of one look; both can be found with search.
    """
    query = _query(
        tenant, user, entity, action, status, source, correlation, text, where, limit=_TAIL_LIMIT
    )
    printer = _printer(output, show, tenant)
    searcher = _searcher(_settings(), tenant)
    with searcher.connected() as connection:
        try:
            _follow(searcher, connection, query, printer)
        except KeyboardInterrupt:
            # Ctrl-C is how a tail ends, not an error.
            raise typer.Exit from None


def _follow(
    searcher: "Searcher", connection: "Connection", query: "EventQuery", printer: Any
) -> None:
    from threading import Event

    from audit_platform.search.follow import Follower

    never = Event()
    follower = Follower(started_at=datetime.now(UTC))
    is_first = True
    while True:
        now = datetime.now(UTC)
        page = searcher.search(connection, _replace(query, since=follower.since(now)), now=now)
        fresh = follower.take_new(page.rows, now=now)
        # The first look only learns what is there already.
        if fresh and not is_first:
            printer.show(fresh)
            if page.next_position is not None and len(fresh) == query.limit:
                typer.echo(
                    f"more than {query.limit:,} events at once; find the others with search",
                    err=True,
                )
        is_first = False
        never.wait(_POLL_S)


def _query(
    tenant: str | None,
    user: str | None,
    entity: str | None,
    action: str | None,
    status: EventStatus | None,
    source: str | None,
    correlation: str | None,
    text: str | None,
    where: list[str] | None,
    **more: Any,
) -> "EventQuery":
    from audit_platform.search.query import EventQuery, parse_entity, parse_metadata

    entity_type, entity_id = parse_entity(entity) if entity is not None else (None, None)
    return EventQuery(
        tenant_id=tenant,
        user_id=user,
        entity_type=entity_type,
        entity_id=entity_id,
        action=action,
        status=status,
        source=source,
        correlation_id=correlation,
        text=text,
        metadata=parse_metadata(where or []),
        **more,
    )


def _replace(query: "EventQuery", **changes: Any) -> "EventQuery":
    from dataclasses import replace

    return replace(query, **changes)


def _settings() -> "Settings":
    from audit_platform.settings import load_settings

    return load_settings()


def _key(settings: "Settings") -> bytes:
    import base64

    from audit_platform.errors import InvalidSetting

    if settings.cursor_key is None:
        raise InvalidSetting(
            "AUDIT_CURSOR_KEY is not set; the platform makes one at its first start"
        )
    return base64.b64decode(settings.cursor_key.get_secret_value())


def _printer(output: OutputFormat, show: list[str] | None, tenant: str | None) -> Any:
    from audit_platform.cli.event_output import make_printer

    return make_printer(output, show or [], is_operator=tenant is None)


def _searcher(settings: "Settings", tenant: str | None) -> "Searcher":
    from audit_platform.search.hot import Searcher

    is_operator = tenant is None
    return Searcher(
        url=settings.database_url_of("maint" if is_operator else "reader"),
        is_operator=is_operator,
        timeout_s=settings.search_timeout_s,
    )


def _say_archive(use: "ArchiveUse") -> None:
    """Tell on stderr what an answer cost that PostgreSQL alone could not give."""
    if use.opened or use.skipped or use.expired:
        expired = f", {use.expired} expired" if use.expired else ""
        typer.echo(f"archive files: {use.opened} read, {use.skipped} ruled out{expired}", err=True)


def _say_next(page: "Page", query: "EventQuery", settings: "Settings", now: datetime) -> None:
    """Tell on stderr how to go on, so that stdout holds events only."""
    from audit_platform.search.cursor import sign_cursor

    if not page.rows:
        typer.echo("no events match", err=True)
    if page.next_position is None or settings.cursor_key is None:
        return
    cursor = sign_cursor(query, page.next_position, key=_key(settings), now=now)
    typer.echo(f"more with --cursor {cursor}", err=True)
    sys.stderr.flush()
