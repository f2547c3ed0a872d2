"""`audit-platform retention class`: which retention class events have.

Here: options, words, exit codes. Not here: how a pattern matches (`retention/classes.py`), what
counts as shorter (`retention/rule_changes.py`), connections and the second person
(`cli/acting.py`).
"""

from datetime import timedelta
from typing import Annotated, Final

import typer

from audit_platform.errors import InvalidQuery

_STANDARD: Final = "standard"
_SET: Final = "audit.retention.class_set"

group = typer.Typer(
    help="Which class events have, by source and action.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Source of events; '*' for all.")]
Action = Annotated[
    str, typer.Argument(metavar="ACTION", help="Action, or its beginning with *: 'payment.*'.")
]
Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Why; needed to ask for a shorter time.")
]
Approve = Annotated[
    str | None, typer.Option(metavar="REQUEST", help="Approve what another person asked for.")
]
User = Annotated[str | None, typer.Option(help="Who acts, for the log; default: the system user.")]


@group.command("set")
def class_set(
    *,
    source: Source,
    action: Action,
    retention_class: Annotated[
        str, typer.Argument(metavar="CLASS", help="Retention class: standard, pci, …")
    ],
    reason: Reason = None,
    approve: Approve = None,
    user: User = None,
) -> None:
    """Give events of a source and action a class.

    The class of a day's events is decided when the day is sealed. Of several patterns that match,
    an exact source wins, then the longest action. A class that is kept for a shorter time takes two
    persons: one asks with --reason, another repeats the command with --approve. Exit code: 0 done,
    2 wrong use, 3 asked for.
    """
    _change(source, action, retention_class, reason=reason, approve=approve, user=user)


@group.command("unset")
def class_unset(
    *,
    source: Source,
    action: Action,
    reason: Reason = None,
    approve: Approve = None,
    user: User = None,
) -> None:
    """Remove the class of a source and action; wider patterns apply again."""
    _change(source, action, None, reason=reason, approve=approve, user=user)


def _change(
    source: str,
    action: str,
    retention_class: str | None,
    *,
    reason: str | None,
    approve: str | None,
    user: str | None,
) -> None:
    from audit_platform.approval import TwoPersonAct, Wanted
    from audit_platform.cli.acting import ASKED, acting
    from audit_platform.retention import classes
    from audit_platform.retention.lifecycle import as_owner
    from audit_platform.retention.rule_changes import is_class_shorter
    from audit_platform.retention.rules import read_rules

    try:
        pattern = classes.ClassPattern(
            source=source, action=action, retention_class=retention_class or _STANDARD
        )
    except ValueError as exc:
        raise InvalidQuery(str(exc)) from None
    described = f"class of source {source}, action {action}: {retention_class or 'none'}"
    args = {"source": source, "action": action, "class": retention_class}
    wanted = Wanted(act=TwoPersonAct.SHORTEN_RETENTION, target=described, args=args)
    with acting("retention", user) as act, as_owner(act.conn):
        settings = act.settings
        book = read_rules(act.conn, preset=settings.retention_preset, hot_days=settings.hot_days)
        known = classes.read_classes(act.conn)
        if retention_class is None and known.own_class(source, action) is None:
            raise InvalidQuery("there is no such pattern; see `retention list`")
        needs_two = is_class_shorter(
            act.conn,
            book,
            known,
            source=source,
            action=action,
            retention_class=retention_class,
            now=act.now,
        )
        is_due = act.may_change(
            wanted, needs_two=needs_two, reason=reason, request=approve, delay=timedelta()
        )
        if is_due:
            if retention_class is None:
                classes.unset_class(act.conn, source=source, action=action)
            else:
                classes.set_class(act.conn, pattern)
            act.record(
                _SET,
                entity_type="retention_class",
                entity_id=retention_class,
                description=f"Set the {described}",
                metadata={**args, "reason": reason, "request": approve},
            )
    if not is_due:
        raise typer.Exit(ASKED)
    typer.echo(f"done: {described}; it applies to days sealed from now on")
