"""`audit-platform`: the command line's entry point.

Here: the list of command groups, `--version`, errors into one line and an exit code. Not here: the
commands, one file per group.
Guarantee: a known error is one line on stderr, never a traceback; `--help` imports no server
library (under 0.5 s), because commands import what they need when they run.
"""

import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from audit_platform.cli import (
    completeness,
    deadletter,
    demo,
    doctor,
    events,
    export,
    hold,
    import_,
    partitions,
    policies,
    restore,
    retention,
    storage,
    up,
)
from audit_platform.errors import AuditPlatformError

_ORDER = (
    *("up", "status", "down", "reset", "config", "doctor"),
    *("import", "search", "tail", "export", "completeness", "deadletter", "policies"),
    *("partitions", "storage", "restore", "retention", "hold", "demo"),
)
"""As one meets them: run it, feed it, ask it, look after it."""


class _InOrder(TyperGroup):
    """Lists commands and groups of commands together; typer alone puts all groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        known = {name: number for number, name in enumerate(_ORDER)}
        return sorted(self.commands, key=lambda name: known.get(name, len(known)))


app = typer.Typer(
    name="audit-platform",
    cls=_InOrder,
    help="Audit log on one machine: start it, feed it, search it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"audit-platform {version('audit-platform')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    is_asked: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Audit log on one machine: start it, feed it, search it.

    Settings come from AUDIT_ variables, from .env, and from the running platform; `config` shows
    each with its origin.
    """
    del is_asked  # its callback acted


for group in (
    *(up, doctor, import_, events, export, completeness, deadletter, policies),
    *(partitions, storage, restore, retention, hold, demo),
):
    group.register(app)


def main() -> None:
    """Run the command line; the process ends here."""
    try:
        app()
    except AuditPlatformError as exc:
        typer.echo(f"audit-platform: {exc.message}", err=True)
        sys.exit(exc.exit_code)
