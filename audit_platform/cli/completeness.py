"""`audit-platform completeness`: is every event that was accepted accounted for.

Here: options, words, exit code. Not here: the accounts (`events/completeness.py`), their JSON form
(`events/certificate.py`).
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from audit_platform.events.completeness import Account, Completeness
    from audit_platform.events.number_ranges import Ranges
    from audit_platform.events.row_check import ArchiveReader
    from audit_platform.settings import Settings

_SHOWN_RANGES: Final = 8
_SHOWN_RUNS: Final = 20
_SLOTS: Final = 1_024
_COLUMNS: Final = (
    *("producer", "runs", "accepted", "stored", "late", "dead", "declared", "missing"),
    *("sampled", "dropped", "last seen"),
)

Producer = Annotated[
    str | None,
    typer.Option("--producer", help="Only this producer: its number, or its AUDIT_PRODUCER_NAME."),
]
Since = Annotated[
    datetime | None,
    typer.Option("--since", help="Only producers heard of since then, UTC.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, every run of each producer.")]
OnlyIncomplete = Annotated[
    bool, typer.Option("--only-incomplete", help="Only producers with missing numbers.")
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Also read every row, of PostgreSQL and of the archive, and compare: takes as long as "
        "that takes.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("completeness")(completeness)


def completeness(
    *,
    producer: Producer = None,
    since: Since = None,
    as_json: AsJson = False,
    only_incomplete: OnlyIncomplete = False,
    verify: Verify = False,
) -> None:
    """Say what became of every number that producers gave.

    accepted = stored + late + dead + declared + missing. The exit code is 1 if a number is missing
    that nobody declared, or if --verify finds rows and ledger apart.

    Rows that retention deleted took their numbers with them. With --verify numbers without a row
    are excused while they are no more than those rows, of all producers; beyond that it fails. A
    row that somebody removed can hide behind a deleted one: the report says how many there are.
    An archive file without a good copy ends the command with its name.
    """
    from audit_platform.db.pool import OWNER_ROLE, connected
    from audit_platform.events.certificate import certificate_of
    from audit_platform.events.completeness import read_completeness
    from audit_platform.events.watermark import read_identity
    from audit_platform.settings import load_settings

    moment = None if since is None else since.replace(tzinfo=since.tzinfo or UTC)
    settings = load_settings()
    url = settings.database_url_of("maint")
    with connected(url, application="completeness", role=OWNER_ROLE) as connection:
        found = read_completeness(
            connection,
            producer_ids=_ids_of(producer),
            since=moment,
            is_verified=verify,
            archive=_archive(settings) if verify else None,
        )
        database = read_identity(connection)
    shown = _incomplete(found) if only_incomplete else found
    if as_json:
        now = datetime.now(UTC)
        certificate = certificate_of(shown, since=moment, made_at=now, database=database)
        typer.echo(json.dumps(certificate, indent=2))
    else:
        _print(shown)
    if not found.is_complete:
        raise typer.Exit(1)


def _archive(settings: "Settings") -> "ArchiveReader":
    from audit_platform.retention.lifecycle_settings import open_archive
    from audit_platform.search.cold_numbers import ColdNumbers

    stores = [store for store in open_archive(settings) if store is not None]
    return ColdNumbers(stores=stores, tenant_id=settings.tenant_id)


def _ids_of(producer: str | None) -> list[int] | None:
    """Numbers of a producer: as given, or those of every process slot of a name."""
    from audit_platform.client.core import producer_id_of

    if producer is None:
        return None
    if producer.isdecimal() and int(producer) < 1 << 31:
        return [int(producer)]
    return [producer_id_of(producer, slot) for slot in range(_SLOTS)]


def _incomplete(found: "Completeness") -> "Completeness":
    from dataclasses import replace

    return replace(found, accounts=[one for one in found.accounts if not one.is_complete])


def _print(found: "Completeness") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    if not found.accounts:
        typer.echo("no producer that gives numbers" + _unstamped(found))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in _COLUMNS:
        is_text = title in {"producer", "runs", "last seen"}
        table.add_column(title, justify="left" if is_text else "right", no_wrap=True)
    for accounts in _by_producer(found.accounts):
        table.add_row(*_cells(accounts, found))
    console.print(table)
    for line in report_lines(found):
        typer.echo(line)


def _by_producer(accounts: Iterable["Account"]) -> list[list["Account"]]:
    groups: dict[int, list[Account]] = {}
    for account in accounts:
        groups.setdefault(account.producer_id, []).append(account)
    return list(groups.values())


def _cells(accounts: Sequence["Account"], found: "Completeness") -> list[str]:
    from audit_platform.cli.terminal_text import visible

    first = accounts[0]
    left_out = found.left_out.get(first.producer_id, {})
    numbers = [
        sum(one.accepted for one in accounts),
        sum(one.stored for one in accounts),
        sum(one.late for one in accounts),
        sum(one.dead for one in accounts),
        sum(one.declared_count for one in accounts),
        sum(one.missing_count for one in accounts),
        left_out.get("sampled", 0),
        left_out.get("dropped", 0),
    ]
    return [
        visible(first.name or str(first.producer_id)),
        _runs(accounts),
        *(f"{number:,}" for number in numbers),
        f"{max(one.seen_at for one in accounts):%Y-%m-%d %H:%M}Z",
    ]


def _runs(accounts: Sequence["Account"]) -> str:
    from collections import Counter

    states = Counter(one.state.value for one in accounts)
    return ", ".join(f"{number} {state}" for state, number in sorted(states.items()))


def report_lines(found: "Completeness") -> list[str]:
    """Write what is wrong, run by run, and the sum."""
    incomplete = [one for one in found.accounts if not one.is_complete]
    lines = [_finding(one) for one in incomplete[:_SHOWN_RUNS]]
    if len(incomplete) > _SHOWN_RUNS:
        lines.append(f"and {len(incomplete) - _SHOWN_RUNS} more runs; --json lists all")
    totals = found.totals()
    sums = ", ".join(
        f"{totals[name]:,} {name}"
        for name in ("accepted", "stored", "late", "dead", "declared", "missing")
    )
    verdict = "every number is accounted for" if found.is_complete else "numbers are missing"
    return [*lines, *_excused(found), f"{verdict}: {sums}{_unstamped(found)}"]


def _excused(found: "Completeness") -> list[str]:
    """Say what nobody can prove any more: numbers of rows that retention deleted."""
    from audit_platform.events.number_ranges import count

    if found.deleted is None or not found.deleted.rows:
        return []
    checks = [one.check for one in found.accounts if one.check is not None]
    without_row = sum(count(check.without_row) for check in checks)
    late = f" ({found.deleted.late:,} of them late ones)" if found.deleted.late else ""
    line = (
        f"{without_row:,} numbers without a row, at most {found.deleted.rows:,} of them deleted by "
        f"retention: it deleted {found.deleted.rows:,} rows{late}, of any producer, and which "
        "numbers they had is unknown"
    )
    return [line]


def _unstamped(found: "Completeness") -> str:
    if not found.unstamped:
        return ""
    return f"; {found.unstamped:,} events came without a number, for which no gap can be seen"


def _finding(account: "Account") -> str:
    from audit_platform.events.completeness import count

    parts: list[str] = []
    if account.missing:
        young = account.missing_count - count(account.settled_missing)
        note = f" ({young:,} of them for less than 15 minutes)" if young else ""
        parts.append(f"missing {_shown(account.missing)}{note}")
    if account.check and account.check.without_row:
        parts.append(f"without a row {_shown(account.check.without_row)}")
    if account.check and account.check.without_ledger:
        parts.append(f"not in the ledger {_shown(account.check.without_ledger)}")
    return f"{account.producer_id}:{account.epoch} ({account.state}): {'; '.join(parts)}"


def _shown(ranges: "Ranges") -> str:
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    more = len(parts) - _SHOWN_RANGES
    return ", ".join(parts[:_SHOWN_RANGES]) + (f" and {more} more ranges" if more > 0 else "")
