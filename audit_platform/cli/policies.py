"""`audit-platform policies`: looks at policies files.

Here: options and the table. Not here: the form of a file and its errors (`client/policy_file.py`),
which rule applies (`events/policy_rules.py`).
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit_platform.cli.terminal_text import visible

if TYPE_CHECKING:
    from audit_platform.events.policy_rules import PolicyRule, PolicyRules

_HELP = "Check policies files of producers."

group = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="policies")


@group.command("check")
def check(
    *,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Policies file; default: AUDIT_POLICIES_FILE."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Show the rule for events of this source.")
    ] = None,
    action: Annotated[
        str | None, typer.Option(help="Show the rule for events of this action.")
    ] = None,
) -> None:
    """Check a policies file and print its rules in order; the first that matches wins.

    With --source and --action only the rule that wins for such an event is printed. Exit code 2
    if the file breaks a rule; the message names rule, line, field and remedy.
    """
    from audit_platform.client.policy_file import read_policies

    path = _chosen(file)
    rules = read_policies(path)
    if source is None and action is None:
        _show(rules, path)
        return
    if source is None or action is None:
        raise typer.BadParameter("give both, for example --source web --action page.view")
    _show_winner(rules, source, action)


@group.command("example")
def example() -> None:
    """Print a commented policies file without rules.

    Start with it: `audit-platform policies example > policies.yaml`.
    """
    from audit_platform.client.policy_file import example_text

    sys.stdout.write(example_text())


def _chosen(file: Path | None) -> Path:
    from audit_platform.settings import load_settings

    path = file or load_settings().policies_file
    if path is None:
        raise typer.BadParameter("name a file, or set AUDIT_POLICIES_FILE", param_hint="FILE")
    return path


def _show(rules: "PolicyRules", path: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rules.rules:
        typer.echo(f"{visible(path.name)}: no rules, every event is kept as it is")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("rule", "source", "action", "effect"):
        table.add_column(title, overflow="fold")
    for number, rule in enumerate(rules.rules, 1):
        cells = (str(number), rule.source, rule.action, ", ".join(_effects(rule)))
        table.add_row(*(Text(visible(cell)) for cell in cells))
    Console(highlight=False, markup=False, emoji=False).print(table)
    for later, earlier in rules.shadowed():
        typer.echo(f"rule {later} never applies: rule {earlier} takes all of its events", err=True)


def _show_winner(rules: "PolicyRules", source: str, action: str) -> None:
    event = visible(f"source {source}, action {action}")
    number = rules.winner(source, action)
    if number is None:
        typer.echo(f"{event}: no rule matches, the event is kept as it is")
        return
    rule = rules.rules[number - 1]
    pattern = visible(f"source {rule.source}, action {rule.action}")
    effects = visible(", ".join(_effects(rule)))
    typer.echo(f"{event}: rule {number} wins ({pattern}): {effects}")


def _effects(rule: "PolicyRule") -> Iterator[str]:
    if rule.drop:
        yield "dropped, counted only"
        return
    if rule.durability is not None:
        yield rule.durability
    if rule.sample_rate < 1:
        yield f"{rule.sample_rate:.6g} of the events are kept"
    if rule.severity is not None:
        yield f"severity {rule.severity}"
    if rule.redact:
        yield f"without {' '.join(rule.redact)}"
    if rule.retention_class is not None:
        yield f"retention class {rule.retention_class}"
    if rule == type(rule)(source=rule.source, action=rule.action):
        yield "kept as it is"
