"""`audit-platform retention`: how long events are kept.

Here: options, words, exit codes. Not here: which class events have (`cli/retention_class.py`),
what a rule means (`retention/rules.py`), what counts as shorter (`retention/rule_changes.py`),
connections and the second person (`cli/acting.py`).
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from audit_platform.cli import retention_class as classes_of_events
from audit_platform.cli.listing import ListOutput, print_json, print_table
from audit_platform.errors import InvalidQuery

if TYPE_CHECKING:
    from audit_platform.retention.rules import RetentionRule
    from audit_platform.retention.span import Span

_HELP = "How long events are kept: rules, presets, classes."
_EVERYBODY: Final = "*"
_STANDARD: Final = "standard"
_SET: Final = "audit.retention.set"

group = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

Class = Annotated[str, typer.Argument(metavar="CLASS", help="Retention class: standard, pci, …")]
Tenant = Annotated[str, typer.Option(help="Only this tenant; '*': all without an own rule.")]
Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Why; needed to ask for a shorter time.")
]
Approve = Annotated[
    str | None, typer.Option(metavar="REQUEST", help="Approve what another person asked for.")
]
User = Annotated[str | None, typer.Option(help="Who acts, for the log; default: the system user.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="retention")


group.add_typer(classes_of_events.group, name="class")


@group.command("list")
def list_(
    *,
    output: Annotated[
        ListOutput, typer.Option("--output", "-o", help="table; json: one object per line.")
    ] = ListOutput.TABLE,
) -> None:
    """Show rules and classes, and changes that wait for a second person.

    All times count from the end of a partition. `deleted after` is the longest of `keep` and of the
    time that partitions are hot, plus the grace before a table is dropped.
    """
    from audit_platform.approval import TwoPersonAct
    from audit_platform.cli import retention_output as shown
    from audit_platform.cli.acting import looking, open_requests
    from audit_platform.retention.classes import read_classes
    from audit_platform.retention.rules import read_rules

    now = datetime.now(UTC)
    with looking("retention") as (conn, settings):
        book = read_rules(conn, preset=settings.retention_preset, hot_days=settings.hot_days)
        classes = read_classes(conn)
        waiting = open_requests(conn, TwoPersonAct.SHORTEN_RETENTION, now=now)
    grace = timedelta(days=settings.grace_days)
    rules = list(shown.rule_rows(book, classes, grace=grace, now=now))
    patterns = sorted(classes.patterns, key=lambda one: (one.source, one.action))
    fields = [shown.class_fields(one) for one in patterns]
    if output is ListOutput.JSON:
        print_json(dict(zip(shown.RULE_COLUMNS, row, strict=True)) for row in rules)
        print_json(fields)
    else:
        print_table(shown.RULE_COLUMNS, rules)
        if fields:
            typer.echo("")
        print_table(shown.CLASS_COLUMNS, [tuple(one.values()) for one in fields])
    for line in waiting:
        typer.echo(line, err=True)


@group.command("set")
def set_(
    *,
    retention_class: Class,
    keep: Annotated[str, typer.Option(metavar="SPAN", help="In all: 90d, 6mo, 7y.")],
    hot: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="At least so long in PostgreSQL; part of --keep."),
    ] = None,
    tenant: Tenant = _EVERYBODY,
    reason: Reason = None,
    approve: Approve = None,
    user: User = None,
) -> None:
    """Set how long events of a class are kept.

    A rule of a tenant's own applies to days archived from then on, which get files of their own. A
    shorter time takes two persons and 48 hours: one asks with --reason, another repeats the command
    with --approve. Exit code: 0 done, 2 wrong use, 3 asked for.
    """
    from audit_platform.retention.rules import RetentionRule

    rule = RetentionRule(
        keep=_span("--keep", keep), hot=None if hot is None else _span("--hot", hot)
    )
    _change(retention_class, tenant, rule, reason=reason, approve=approve, user=user)


@group.command("preset")
def preset(
    *,
    name: Annotated[str, typer.Argument(metavar="PRESET", help="default, pci, hipaa or short.")],
    retention_class: Annotated[str, typer.Option("--class", help="Retention class.")] = _STANDARD,
    tenant: Tenant = _EVERYBODY,
    reason: Reason = None,
    approve: Approve = None,
    user: User = None,
) -> None:
    """Set the figures of a preset for a class.

    default: 1 year in all; pci: 3 months hot, 12 months in all; hipaa: 6 years; short: 7 days. A
    rule that is set wins over AUDIT_RETENTION_PRESET. Shorter times: see `retention set`.
    """
    from audit_platform.retention.rules import PRESETS, Preset

    if name not in frozenset(Preset):
        raise InvalidQuery(f"preset {name[:40]!r} is unknown; use one of {', '.join(Preset)}")
    rule = PRESETS[Preset(name)]
    _change(retention_class, tenant, rule, reason=reason, approve=approve, user=user)


@group.command("unset")
def unset(
    *,
    retention_class: Class,
    tenant: Tenant = _EVERYBODY,
    reason: Reason = None,
    approve: Approve = None,
    user: User = None,
) -> None:
    """Remove a rule; what it hid applies again: that of all tenants, a preset, or for ever."""
    _change(retention_class, tenant, None, reason=reason, approve=approve, user=user)


def _change(
    retention_class: str,
    tenant: str,
    rule: "RetentionRule | None",
    *,
    reason: str | None,
    approve: str | None,
    user: str | None,
) -> None:
    from audit_platform.approval import DELETION_DELAY, TwoPersonAct, Wanted
    from audit_platform.cli.acting import ASKED, acting
    from audit_platform.retention import rules
    from audit_platform.retention.classes import read_classes
    from audit_platform.retention.lifecycle import as_owner
    from audit_platform.retention.rule_changes import is_rule_shorter

    _check(tenant, retention_class, rule)
    described = _described(tenant, retention_class, rule)
    args = {"tenant": tenant, "class": retention_class, **_figures(rule)}
    wanted = Wanted(act=TwoPersonAct.SHORTEN_RETENTION, target=described, args=args)
    key = {"tenant_id": tenant, "retention_class": retention_class}
    with acting("retention", user) as act, as_owner(act.conn):
        preset_name, hot_days = act.settings.retention_preset, act.settings.hot_days
        book = rules.read_rules(act.conn, preset=preset_name, hot_days=hot_days)
        if rule is None and (tenant, retention_class) not in book.stored:
            raise InvalidQuery("there is no such rule; see `retention list`")
        classes = read_classes(act.conn)
        needs_two = is_rule_shorter(act.conn, book, classes, **key, rule=rule, now=act.now)
        is_due = act.may_change(
            wanted, needs_two=needs_two, reason=reason, request=approve, delay=DELETION_DELAY
        )
        if is_due:
            if rule is None:
                rules.unset_rule(act.conn, **key)
            else:
                rules.set_rule(act.conn, **key, rule=rule)
            act.record(
                _SET,
                entity_type="retention_rule",
                entity_id=retention_class,
                description=described,
                metadata={**args, "reason": reason, "request": approve},
            )
    if not is_due:
        raise typer.Exit(ASKED)
    typer.echo(f"done: {described}")


def _span(option: str, text: str) -> "Span":
    from audit_platform.retention.span import Span

    try:
        return Span.parse(text)
    except ValueError as exc:
        raise InvalidQuery(f"{option}: {exc}") from None


def _check(tenant: str, retention_class: str, rule: "RetentionRule | None") -> None:
    from audit_platform.retention.classes import check_class
    from audit_platform.retention.rules import check_rule

    now = datetime.now(UTC)
    try:
        check_class(retention_class)
        if rule is not None:
            check_rule(tenant_id=tenant, retention_class=retention_class, rule=rule, now=now)
    except ValueError as exc:
        raise InvalidQuery(str(exc)) from None


def _described(tenant: str, retention_class: str, rule: "RetentionRule | None") -> str:
    whose = "all tenants" if tenant == _EVERYBODY else f"tenant {tenant}"
    if rule is None:
        return f"remove the rule of {whose} for class {retention_class}"
    hot = "" if rule.hot is None else f", {rule.hot} of it in PostgreSQL"
    return f"keep class {retention_class} of {whose} for {rule.keep}{hot}"


def _figures(rule: "RetentionRule | None") -> dict[str, str | None]:
    if rule is None:
        return {"keep": None, "hot": None}
    return {"keep": str(rule.keep), "hot": None if rule.hot is None else str(rule.hot)}
