"""`audit-platform doctor`: the self-checks, one line each.

Here: words and exit code. Not here: the checks (`selfcheck.py`).
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit_platform.selfcheck import CheckResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    *,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Data directory; default: AUDIT_DATA_DIR or .audit-platform.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check whether the platform is safe and well.

    Each line says ok, warn or fail with its remedy; the exit code is 1 if a check fails.
    """
    from audit_platform.selfcheck import Outcome, run_checks
    from audit_platform.settings import load_settings

    settings = load_settings(**({} if data_dir is None else {"data_dir": data_dir}))
    results = run_checks(settings, clock=lambda: datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps([asdict(result) for result in results], indent=2))
    else:
        typer.echo(report_text(results))
    if any(result.outcome is Outcome.FAIL for result in results):
        raise typer.Exit(1)


def report_text(results: "Sequence[CheckResult]") -> str:
    """Write one line per check: verdict, name, finding, remedy."""
    width = max(len(result.name) for result in results)
    return "\n".join(
        f"{result.outcome.upper():<5} {result.name:<{width}}  {result.finding}"
        + (f" – {result.remedy}" if result.remedy else "")
        for result in results
    )
