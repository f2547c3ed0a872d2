"""`audit-platform hold`: legal holds, which stop every deletion of what they cover.

Here: options, words, exit codes. Not here: what a hold does (`retention/holds.py`), connections and
the second person (`cli/acting.py`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import typer

from audit_platform.cli.listing import ListOutput, print_json, print_table
from audit_platform.errors import InvalidQuery

if TYPE_CHECKING:
    from audit_platform.approval import Wanted
    from audit_platform.cli.acting import Acting
    from audit_platform.retention.holds import Hold, HoldScope

_HELP = "Hold rows for a legal case; release with two persons."
_COLUMNS: Final = ("hold", "case", "tenant", "about", "period", "hot", "state", "reason")
_PLACE: Final = "audit.hold.place"
_RELEASE: Final = "audit.hold.release"

group = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

User = Annotated[str | None, typer.Option(help="Who acts, for the log; default: the system user.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="hold")


@group.command("place")
def place(
    *,
    case: Annotated[str, typer.Argument(metavar="CASE", help="Case that asks for it.")],
    tenant: Annotated[str, typer.Option(help="Tenant whose events stay; '*' for all.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for people.")],
    entity: Annotated[
        str | None, typer.Option(metavar="TYPE[:ID]", help="About this record, or kind of record.")
    ] = None,
    of_user: Annotated[
        str | None, typer.Option("--of-user", metavar="ID", help="About what this user did.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From then on: 90d, 2026-01-31 or an ISO 8601 time.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Before then; as --since.")] = None,
    keep_hot: Annotated[
        bool, typer.Option("--keep-hot", help="Rows also stay in PostgreSQL.")
    ] = False,
    user: User = None,
) -> None:
    """Place a hold; it acts at once.

    It covers every partition and archive file that may contain such rows: they are not dropped and
    not deleted, with --keep-hot not even moved to the archive. A case has any number of holds.
    """
    from audit_platform.cli.acting import acting
    from audit_platform.retention import holds
    from audit_platform.retention.lifecycle import as_owner
    from audit_platform.retention.partition_table import list_partitions

    scope = _scope(tenant, entity, of_user, since, until, keep_hot=keep_hot)
    with acting("hold", user) as act:
        try:
            with as_owner(act.conn):
                made = holds.place(
                    act.conn,
                    hold_id=act.new_id(),
                    case_id=case,
                    scope=scope,
                    reason=reason,
                    placed_by=act.person,
                    now=act.now,
                )
                act.record(
                    _PLACE,
                    entity_type="legal_hold",
                    entity_id=str(made.hold_id),
                    description=f"Place a legal hold for case {case}",
                    metadata=_metadata(made),
                )
        except ValueError as exc:
            raise InvalidQuery(str(exc)) from None
        covered = [
            row.name for row in list_partitions(act.conn) if row.lo < scope.hi and scope.lo < row.hi
        ]
    typer.echo(f"{made.hold_id}: placed; covers {len(covered):,} partitions now")


@group.command("release")
def release(
    *,
    what: Annotated[
        str, typer.Argument(metavar="CASE|HOLD", help="A case with all its holds, or one hold.")
    ],
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why, to ask for the release.")
    ] = None,
    approve: Annotated[
        str | None, typer.Option(metavar="REQUEST", help="Approve what another person asked for.")
    ] = None,
    user: User = None,
) -> None:
    """Release holds; it takes two persons.

    One asks with --reason, another approves with --approve. What other holds cover stays. Exit
    code: 0 released, 2 wrong use, 3 asked for.
    """
    from audit_platform.cli.acting import ASKED, acting
    from audit_platform.retention import holds
    from audit_platform.retention.lifecycle import as_owner

    with acting("hold", user) as act, as_owner(act.conn):
        found = _find(act, what)
        wanted = _wanted(what, found)
        is_due = act.may_act(wanted, reason=reason, request=approve, delay=timedelta())
        if is_due:
            released = holds.release(
                act.conn, [one.hold_id for one in found], released_by=act.person, now=act.now
            )
            act.record(
                _RELEASE,
                entity_type="legal_hold",
                entity_id=None if len(found) > 1 else str(found[0].hold_id),
                description=f"Release {_count(len(released))} of {_cases(found)}",
                metadata={"holds": [str(one) for one in released], "request": approve},
            )
    if not is_due:
        raise typer.Exit(ASKED)
    typer.echo(f"{_count(len(found))} released")


@group.command("list")
def list_(
    *,
    case: Annotated[str | None, typer.Argument(metavar="[CASE]", help="Only this case.")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Also released ones.")] = False,
    output: Annotated[
        ListOutput, typer.Option("--output", "-o", help="table; json: one object per line.")
    ] = ListOutput.TABLE,
) -> None:
    """List holds in the order in which they were placed, and releases that wait for a person."""
    from audit_platform.approval import TwoPersonAct
    from audit_platform.cli.acting import looking, open_requests
    from audit_platform.retention.holds import list_holds

    with looking("hold") as (conn, _):
        found = list_holds(conn, case_id=case, with_released=is_all)
        waiting = open_requests(conn, TwoPersonAct.RELEASE_HOLD, now=datetime.now(UTC))
    if output is ListOutput.JSON:
        print_json(_fields(one) for one in found)
    else:
        print_table(_COLUMNS, [_cells(one) for one in found])
    for line in waiting:
        typer.echo(line, err=True)
    if not found:
        typer.echo("no holds", err=True)


def _scope(
    tenant: str,
    entity: str | None,
    of_user: str | None,
    since: str | None,
    until: str | None,
    *,
    keep_hot: bool,
) -> "HoldScope":
    from audit_platform.retention.holds import BEGINNING, END, HoldScope
    from audit_platform.search.query import parse_entity, parse_moment

    now = datetime.now(UTC)
    entity_type, entity_id = parse_entity(entity) if entity else (None, None)
    try:
        return HoldScope(
            tenant_id=tenant,
            lo=parse_moment(since, now=now, option="--since") if since else BEGINNING,
            hi=parse_moment(until, now=now, option="--until") if until else END,
            entity_type=entity_type,
            entity_id=entity_id,
            user_id=of_user,
            keep_hot=keep_hot,
        )
    except ValueError as exc:
        raise InvalidQuery(str(exc)) from None


def _find(act: "Acting", what: str) -> "list[Hold]":
    """Active holds of a case, or the one hold of that id."""
    from audit_platform.retention.holds import list_holds

    active = list_holds(act.conn)
    found = [one for one in active if one.case_id == what]
    if not found:
        found = [one for one in active if one.hold_id == _id_or_none(what)]
    if not found:
        raise InvalidQuery(f"no active hold has the case or id {what[:100]!r}; see `hold list`")
    return found


def _id_or_none(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _wanted(what: str, found: "Sequence[Hold]") -> "Wanted":
    from audit_platform.approval import TwoPersonAct, Wanted

    return Wanted(
        act=TwoPersonAct.RELEASE_HOLD,
        target=f"release {_count(len(found))} ({what})",
        # The holds themselves: one that is placed under the case meanwhile is not released.
        args={"holds": sorted(str(one.hold_id) for one in found)},
    )


def _count(number: int) -> str:
    return "1 hold" if number == 1 else f"{number:,} holds"


def _cases(found: "Sequence[Hold]") -> str:
    return ", ".join(sorted({f"case {one.case_id}" for one in found}))


def _about(hold: "Hold") -> str:
    scope = hold.scope
    parts = [scope.entity_type, scope.entity_id]
    about = ":".join(part for part in parts if part)
    return " ".join(part for part in (about, scope.user_id and f"user {scope.user_id}") if part)


def _period(hold: "Hold") -> str:
    from audit_platform.retention.holds import BEGINNING, END

    scope = hold.scope
    first = "" if scope.lo == BEGINNING else f"{scope.lo:%Y-%m-%d %H:%M}"
    last = "" if scope.hi == END else f"{scope.hi:%Y-%m-%d %H:%M}"
    return "all time" if not first and not last else f"{first} – {last}".strip()


def _cells(hold: "Hold") -> tuple[str, ...]:
    state = (
        f"since {hold.placed_at:%Y-%m-%d} by {hold.placed_by}"
        if hold.released_at is None
        else f"released {hold.released_at:%Y-%m-%d} by {hold.released_by}"
    )
    return (
        str(hold.hold_id),
        hold.case_id,
        hold.scope.tenant_id,
        _about(hold) or "everything",
        _period(hold),
        "yes" if hold.scope.keep_hot else "",
        state,
        hold.reason,
    )


def _metadata(hold: "Hold") -> dict[str, object]:
    fields = _fields(hold)
    return {name: fields[name] for name in fields if name not in {"hold_id", "placed_at"}}


def _fields(hold: "Hold") -> dict[str, object]:
    from audit_platform.events.event import format_timestamp

    scope = hold.scope
    return {
        "hold_id": str(hold.hold_id),
        "case": hold.case_id,
        "tenant": scope.tenant_id,
        "entity_type": scope.entity_type,
        "entity_id": scope.entity_id,
        "user_id": scope.user_id,
        "lo": format_timestamp(scope.lo),
        "hi": format_timestamp(scope.hi),
        "keep_hot": scope.keep_hot,
        "reason": hold.reason,
        "placed_by": hold.placed_by,
        "placed_at": format_timestamp(hold.placed_at),
        "released_by": hold.released_by,
        "released_at": None if hold.released_at is None else format_timestamp(hold.released_at),
    }
