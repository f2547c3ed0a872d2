"""`audit-platform deadletter`: events that could not be stored, and what becomes of them.

Here: options, confirmation, exit codes. Not here: tables and bytes on a terminal
(`cli/deadletter_output.py`), services (`cli/deadletter_session.py`), the acts
(`events/redrive.py`), repairs (`imports/repair.py`).
"""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from audit_platform.cli.deadletter_output import LetterOutput
from audit_platform.errors import InvalidQuery

if TYPE_CHECKING:
    from audit_platform.events.dead_letter_rows import LetterFilter, Selection
    from audit_platform.events.redrive import Actor

NOTHING_DONE: Final = 1
SOME_LEFT: Final = 3
_LONGEST_REASON: Final = 500
_HELP = "Look at events that were not stored; repair, discard."

group = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

Ids = Annotated[
    list[int] | None, typer.Argument(metavar="ID", help="Numbers as `list` shows them.")
]
Code = Annotated[
    str | None, typer.Option("--reason", metavar="CODE", help="Only this reason: invalid_json, …")
]
Since = Annotated[
    str | None, typer.Option(help="First seen since: 2h, 7d, 2026-01-31 or an ISO 8601 time.")
]
Until = Annotated[str | None, typer.Option(help="First seen before; as --since.")]
All = Annotated[bool, typer.Option("--all", help="All open ones.")]
Again = Annotated[bool, typer.Option("--again", help="Also those resolved already.")]
User = Annotated[str | None, typer.Option(help="Who acts, for the log; default: the system user.")]
Output = Annotated[
    LetterOutput, typer.Option("--output", "-o", help="table; json: one object per line.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="deadletter")


@group.command("list")
def list_(
    *,
    reason: Code = None,
    since: Since = None,
    until: Until = None,
    state: Annotated[str, typer.Option(help="open, resolved or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Letters of one page.")] = 50,
    before: Annotated[
        int | None, typer.Option(metavar="ID", help="Next page: only older ones than this number.")
    ] = None,
    by_reason: Annotated[
        bool, typer.Option("--by-reason", help="Count per reason instead of listing.")
    ] = False,
    output: Output = LetterOutput.TABLE,
) -> None:
    """List dead letters, newest first, without their content."""
    from audit_platform.cli.deadletter_output import show_counts, show_letters
    from audit_platform.cli.deadletter_session import opened_table
    from audit_platform.events.dead_letter_rows import LetterState

    if state not in set(LetterState):
        raise InvalidQuery(f"--state {state[:20]!r} is unknown; use {', '.join(LetterState)}")
    where = _filter(reason, since, until)
    with opened_table() as table:
        if by_reason:
            show_counts(table.count(where), output)
            return
        letters = table.find(where, LetterState(state), limit=limit, before_id=before)
    show_letters(letters, output)
    if not letters:
        typer.echo("no dead letters match", err=True)
    elif len(letters) == limit:
        typer.echo(f"more with --before {letters[-1].dead_id}", err=True)


@group.command("show")
def show(
    *,
    dead_id: Annotated[int, typer.Argument(metavar="ID", help="Number as `list` shows it.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Only the bytes, exactly; not to a terminal.")
    ] = False,
    user: User = None,
    output: Output = LetterOutput.TABLE,
) -> None:
    """Show one dead letter with its content.

    That somebody looked is logged. Characters that could steer the terminal are spelled out. To
    work on the content, write it to a file: `deadletter show 7 --raw > 7.json`.
    """
    from audit_platform.cli.deadletter_output import show_opened
    from audit_platform.cli.deadletter_session import acting_edges
    from audit_platform.events.redrive import SHOW_ACTION

    if raw and sys.stdout.isatty():
        raise InvalidQuery("--raw writes bytes as they are; send them to a file or a program")
    with acting_edges() as edges:
        found = edges.table.read(dead_id)
        if found is None:
            raise InvalidQuery(f"there is no dead letter {dead_id}; see `deadletter list`")
        # Nothing is shown unless the log takes note of it (security design, S70).
        edges.record(SHOW_ACTION, [dead_id], _actor(user))
    if not raw:
        show_opened(found, output)
        return
    if found.raw is None:
        raise InvalidQuery(
            f"dead letter {dead_id} was made with another key: {found.letter.key_id}"
        )
    sys.stdout.buffer.write(found.raw)
    sys.stdout.flush()


@group.command("redrive")
def redrive(
    *,
    ids: Ids = None,
    reason: Code = None,
    is_all: All = False,
    since: Since = None,
    until: Until = None,
    mapping: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Map each record first: cloudtrail, generic, github, kubernetes, or a file.",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Set a value before: severity=3, metadata.plan=pro; null takes it away. Repeat.",
        ),
    ] = None,
    again: Again = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be sent and what still is bad.")
    ] = False,
    user: User = None,
) -> None:
    """Send dead letters again, as they were or repaired.

    Each is judged first as the ingest job would; what it would refuse stays open. Sending one
    twice stores it once. Exit code: 0 all sent, 1 none, 2 wrong use, 3 some stay open.
    """
    from audit_platform.cli.deadletter_output import RedriveReport
    from audit_platform.cli.deadletter_session import acting_edges, make_repair
    from audit_platform.events import redrive as acts

    selection = _selection(ids, reason, since, until, is_all=is_all, is_again=again)
    repair = make_repair(changes or [], mapping)
    actor = _actor(
        user,
        reason=reason,
        mapping=repair.mapping and repair.mapping.key,
        set=[change.name for change in repair.changes],
    )
    report = RedriveReport(is_dry_run=dry_run)
    with acting_edges() as edges:
        counts = acts.redrive(
            edges, selection, repair, actor=None if dry_run else actor, hear=report.hear
        )
    report.finish(counts)
    sent = counts[acts.Verdict.READY]
    if sent < counts.total():
        raise typer.Exit(SOME_LEFT if sent else NOTHING_DONE)
    if not sent:
        raise typer.Exit(NOTHING_DONE)


@group.command("discard")
def discard(
    *,
    ids: Ids = None,
    why: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the log.")],
    code: Annotated[
        str | None,
        typer.Option("--code", metavar="CODE", help="All open ones of this reason code."),
    ] = None,
    is_all: All = False,
    since: Since = None,
    until: Until = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    user: User = None,
) -> None:
    """Close dead letters that nobody needs.

    The rows stay, with the reason; the log says who did it. `redrive ID --again` takes such a
    decision back. Exit code: 0 done, 1 nothing to discard or not confirmed, 2 wrong use.
    """
    from audit_platform.cli.deadletter_session import acting_edges
    from audit_platform.events import redrive as acts

    if not why.strip() or len(why) > _LONGEST_REASON or not why.isprintable():
        raise InvalidQuery(f"--reason needs a sentence of at most {_LONGEST_REASON} characters")
    selection = _selection(ids, code, since, until, is_all=is_all, is_again=False)
    if not yes:
        typer.confirm(f"Discard {_described(selection)}?", abort=True, err=True)
    with acting_edges() as edges:
        closed = acts.discard(
            edges,
            selection,
            actor=_actor(user, reason=why, code=code),
            resolution=f"discarded: {why}",
        )
    typer.echo(f"{len(closed):,} discarded")
    if not closed:
        raise typer.Exit(NOTHING_DONE)


def _filter(reason: str | None, since: str | None, until: str | None) -> "LetterFilter":
    from audit_platform.events.dead_letter_rows import LetterFilter
    from audit_platform.events.reject import RejectReason
    from audit_platform.search.query import parse_moment

    if reason is not None and reason not in set(RejectReason):
        known = ", ".join(RejectReason)
        raise InvalidQuery(f"the reason {reason[:40]!r} is unknown; use one of {known}")
    now = datetime.now(UTC)
    return LetterFilter(
        reason=reason,
        since=parse_moment(since, now=now, option="--since") if since else None,
        until=parse_moment(until, now=now, option="--until") if until else None,
    )


def _selection(
    ids: list[int] | None,
    reason: str | None,
    since: str | None,
    until: str | None,
    *,
    is_all: bool,
    is_again: bool,
) -> "Selection":
    from audit_platform.events.dead_letter_rows import Selection

    is_filtered = bool(reason or is_all)
    if bool(ids) == is_filtered:
        raise InvalidQuery("name the letters: either their numbers, or a reason code, or --all")
    if ids and (since or until):
        raise InvalidQuery("--since and --until go with a reason code or --all, not with numbers")
    if is_again and not ids:
        raise InvalidQuery("--again goes with numbers: nobody wants all of the past once more")
    if ids and not all(0 < one < 1 << 63 for one in ids):
        raise InvalidQuery("a number is out of range; `deadletter list` shows them")
    return Selection(where=_filter(reason, since, until), ids=ids or None, is_again=is_again)


def _described(selection: "Selection") -> str:
    if selection.ids is not None:
        return f"dead letter {', '.join(map(str, selection.ids))}"
    where = selection.where
    kind = f"with reason {where.reason}" if where.reason else "of every reason"
    period = "" if where.since is None and where.until is None else ", in that period"
    return f"all open dead letters {kind}{period}"


def _actor(user: str | None, **details: object) -> "Actor":
    from audit_platform.cli.deadletter_session import system_user
    from audit_platform.events.redrive import Actor

    known = {name: value for name, value in details.items() if value}
    return Actor(name=user or system_user(), details=known)
