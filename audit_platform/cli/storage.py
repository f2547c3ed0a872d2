"""`audit-platform storage`: what takes room, what is bloated, which indexes nobody reads.

Here: options and tables. Not here: reading the sizes (`retention/sizes.py`), what is remarkable
(`retention/size_findings.py`).
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from audit_platform.retention.sizes import StorageReport, TableSize

_TABLE_TITLES: Final = (
    *("table", "state", "rows", "dead", "total", "heap", "long values", "indexes", "bloat"),
    *("index scans", "table scans", "vacuumed", "analyzed"),
)
_WRITE_TITLES: Final = ("table", "inserted", "updated", "deleted")
_INDEX_TITLES: Final = (*("index", "kind", "number", "size", "scans", "rows read", "last used"),)
_FULL_WIDTH: Final = 240
_TEXT_TITLES: Final = frozenset({"table", "state", "index", "kind", "vacuumed", "analyzed"})


class StorageOutput(StrEnum):
    """How sizes are printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[
    StorageOutput, typer.Option("--output", "-o", help="table; json: everything, in bytes.")
]
Indexes = Annotated[
    bool, typer.Option("--indexes", help="Also each kind of index: size, use, last use.")
]
Writes = Annotated[
    bool, typer.Option("--writes", help="Also rows written since the statistics began.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("storage")(storage)


def storage(
    *,
    indexes: Indexes = False,
    writes: Writes = False,
    output: Output = StorageOutput.TABLE,
) -> None:
    """Show how large tables and indexes are, dead rows, bloat, index use, last vacuum.

    Bloat is an estimate from the statistics of the server, without any extension: some per cent
    mean nothing. Ends with what somebody should look at.
    """
    from audit_platform.db.pool import OWNER_ROLE, connected
    from audit_platform.retention.sizes import read_storage
    from audit_platform.settings import load_settings

    url = load_settings().database_url_of("maint")
    with connected(url, application="storage", role=OWNER_ROLE) as connection:
        report = read_storage(connection, now=datetime.now(UTC))
    if output is StorageOutput.JSON:
        typer.echo(json.dumps(storage_record(report), indent=2))
        return
    for line in _head(report):
        typer.echo(line)
    _print(_TABLE_TITLES, [_table_cells(one) for one in [*report.partitions, *report.others]])
    if writes:
        _print(_WRITE_TITLES, _write_cells(report))
    if indexes:
        _print(_INDEX_TITLES, _index_cells(report))
    for line in _tail(report):
        typer.echo(line)


def storage_record(report: "StorageReport") -> dict[str, Any]:
    """Give a report as JSON holds it: sizes in bytes, times in ISO 8601."""
    from dataclasses import asdict

    from audit_platform.retention.size_findings import findings

    return _plain(
        {
            "at": report.at,
            "database": asdict(report.database),
            "tables": [asdict(one) for one in [*report.partitions, *report.others]],
            "indexes": [asdict(one) for one in report.indexes],
            "index_families": [asdict(one) for one in report.families()],
            "findings": findings(report),
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        # A trailing underscore only keeps a name apart from one of Python.
        return {str(name).removesuffix("_"): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _head(report: "StorageReport") -> list[str]:
    from audit_platform.retention.size_findings import readable_size

    database = report.database
    since = f"since {database.wal_since:%Y-%m-%d %H:%M}Z" if database.wal_since else "so far"
    log = [f"write-ahead log: {readable_size(database.wal_bytes)} {since}"]
    if database.wal_directory_bytes is not None:
        size = readable_size(database.wal_directory_bytes)
        log.append(f"{size} on disk in {database.wal_files:,} files")
    if database.slot_bytes is not None:
        log.append(f"{readable_size(database.slot_bytes)} kept for replication slots")
    name = f"database {database.name}, PostgreSQL {database.server_version}"
    return [f"{name}: {readable_size(database.bytes_)}", ", ".join(log), ""]


def _tail(report: "StorageReport") -> list[str]:
    from audit_platform.retention.size_findings import findings, readable_size

    partitions = report.partitions
    total = readable_size(sum(one.total_bytes for one in partitions))
    indexes = readable_size(sum(one.index_bytes for one in partitions))
    rows = sum(one.live_rows for one in partitions)
    sums = f"{len(partitions):,} partitions, {rows:,} rows, {total}, {indexes} of it indexes"
    found = findings(report)
    return ["", sums, *(found or ["nothing to look at"])]


def _table_cells(table: "TableSize") -> list[str]:
    from audit_platform.retention.size_findings import readable_size

    bloat = "?" if table.bloat_bytes is None else readable_size(table.bloat_bytes)
    sizes = (table.total_bytes, table.heap_bytes, table.toast_bytes, table.index_bytes)
    return [
        table.name,
        table.state or "",
        f"{table.live_rows:,}",
        f"{table.dead_rows:,}",
        *(readable_size(size) for size in sizes),
        bloat,
        f"{table.index_scans:,}",
        f"{table.table_scans:,}",
        _moment(table.vacuumed_at),
        _moment(table.analyzed_at),
    ]


def _write_cells(report: "StorageReport") -> list[list[str]]:
    return [
        [one.name, f"{one.inserted:,}", f"{one.updated:,}", f"{one.deleted:,}"]
        for one in [*report.partitions, *report.others]
        if one.inserted or one.updated or one.deleted
    ]


def _index_cells(report: "StorageReport") -> list[list[str]]:
    from audit_platform.retention.size_findings import readable_size

    return [
        [
            family.name,
            family.method,
            f"{family.indexes:,}",
            readable_size(family.bytes_),
            f"{family.scans:,}",
            f"{family.rows_fetched:,}",
            _moment(family.used_at),
        ]
        for family in report.families()
    ]


def _print(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from audit_platform.cli.terminal_text import visible

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        justify = "left" if title in _TEXT_TITLES else "right"
        table.add_column(title, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*map(visible, row))
    # A cut figure is a wrong figure: in a narrow terminal lines run over instead.
    width = max(Console().width, _FULL_WIDTH)
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    console.print(table, soft_wrap=True)


def _moment(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}Z"
