"""Sizes and use of the tables and indexes, as observations of an external asset.

Here: the asset, and a report as its observation. Not here: reading the sizes
(`retention/sizes.py`), the run that does it (`jobs/observe_storage.py`), the same for a terminal
(`cli/storage.py`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import dagster as dg

from audit_platform.assets.audit_event import AUDIT_EVENT, OWNERS, TABLE_PARTITIONS
from audit_platform.assets.table_partitions import STORAGE_GROUP
from audit_platform.retention.size_findings import findings
from audit_platform.retention.sizes import IndexFamily, StorageReport, TableSize

STORAGE_SIZES: Final = "storage_sizes"
_SHOWN_PARTITIONS: Final = 60
"""The newest; a table of metadata of thousands of hours would make each observation large."""

_TEXT: Final = """
How large the tables and indexes of schema `audit` are, how much of them is bloat, and which indexes
are read. The job `observe_storage` looks every six hours; it reads the catalog, no event.

**Observations**: numbers are plotted, the tables show each partition and each kind of index.

| name | meaning |
|---|---|
| `database_bytes`, `hot_bytes` | the whole database; all partitions with indexes and long values |
| `index_bytes`, `bloat_bytes` | of the partitions; bloat is an estimate |
| `dead_rows` | of all tables; many of them, while little is changed, mean that vacuum is held up |
| `wal_bytes` | write-ahead log written since the statistics began |
| `wal_directory_bytes` | on disk; missing when the role may not look (`pg_monitor`) |
| `findings` | what somebody should look at; `audit-platform storage` says the same |
"""

STORAGE_COLUMNS: Final = (
    dg.TableColumn("partition", "text", "Table in schema audit"),
    dg.TableColumn("state", "text", "State in the life cycle"),
    dg.TableColumn("rows", "int", "Living rows, as PostgreSQL counts along"),
    dg.TableColumn("dead rows", "int", "Rows that vacuum has not removed"),
    dg.TableColumn("heap bytes", "int", "Rows"),
    dg.TableColumn("toast bytes", "int", "Long values stored aside"),
    dg.TableColumn("index bytes", "int", "Indexes"),
    dg.TableColumn("bloat bytes", "int", "Estimate; -1: never analyzed"),
    dg.TableColumn("index scans", "int", "Since the statistics began"),
    dg.TableColumn("table scans", "int", "Since the statistics began"),
    dg.TableColumn("vacuumed", "text", "Last vacuum, by hand or automatic"),
    dg.TableColumn("analyzed", "text", "Last analyze, by hand or automatic"),
)

STORAGE_ASSET: Final = dg.AssetSpec(
    STORAGE_SIZES,
    deps=[AUDIT_EVENT, TABLE_PARTITIONS],
    description=_TEXT,
    group_name=STORAGE_GROUP,
    owners=OWNERS,
    kinds={"postgres"},
    tags={"audit/path": "event"},
    metadata={
        "dagster/table_name": "audit.event",
        "dagster/column_schema": dg.TableSchema(columns=list(STORAGE_COLUMNS)),
    },
)


def observation_of(report: StorageReport) -> dg.AssetObservation:
    """Write a report as one observation."""
    return dg.AssetObservation(asset_key=STORAGE_SIZES, metadata=storage_metadata(report))


def storage_metadata(report: StorageReport) -> dict[str, Any]:
    """Give the numbers to plot and the tables to read."""
    database, partitions = report.database, report.partitions
    found = findings(report)
    metadata: dict[str, Any] = {
        "database_bytes": database.bytes_,
        "hot_bytes": sum(one.total_bytes for one in partitions),
        "index_bytes": sum(one.index_bytes for one in partitions),
        "bloat_bytes": sum(one.bloat_bytes or 0 for one in partitions),
        "rows": sum(one.live_rows for one in partitions),
        "dead_rows": sum(one.dead_rows for one in report.tables),
        "partitions": len(partitions),
        "wal_bytes": database.wal_bytes,
        "findings": len(found),
        "what to look at": dg.MetadataValue.md(_list(found)),
    }
    if database.wal_directory_bytes is not None:
        metadata["wal_directory_bytes"] = database.wal_directory_bytes
    if partitions:
        newest = [_partition_record(one) for one in partitions[-_SHOWN_PARTITIONS:]]
        metadata["by partition"] = _table(newest, STORAGE_COLUMNS)
    families = report.families()
    if families:
        metadata["by index"] = _table([_index_record(one) for one in families], _INDEX_COLUMNS)
    return metadata


_INDEX_COLUMNS: Final = (
    dg.TableColumn("index", "text", "Index of the parent, for all partitions"),
    dg.TableColumn("method", "text"),
    dg.TableColumn("indexes", "int"),
    dg.TableColumn("bytes", "int"),
    dg.TableColumn("scans", "int", "Since the statistics began"),
    dg.TableColumn("rows fetched", "int"),
    dg.TableColumn("last used", "text"),
)


def _partition_record(table: TableSize) -> Mapping[str, str | int]:
    return {
        "partition": table.name,
        "state": table.state or "",
        "rows": table.live_rows,
        "dead rows": table.dead_rows,
        "heap bytes": table.heap_bytes,
        "toast bytes": table.toast_bytes,
        "index bytes": table.index_bytes,
        "bloat bytes": -1 if table.bloat_bytes is None else table.bloat_bytes,
        "index scans": table.index_scans,
        "table scans": table.table_scans,
        "vacuumed": _text(table.vacuumed_at),
        "analyzed": _text(table.analyzed_at),
    }


def _index_record(family: IndexFamily) -> Mapping[str, str | int]:
    return {
        "index": family.name,
        "method": family.method,
        "indexes": family.indexes,
        "bytes": family.bytes_,
        "scans": family.scans,
        "rows fetched": family.rows_fetched,
        "last used": _text(family.used_at),
    }


def _table(
    rows: Sequence[Mapping[str, str | int]], columns: Sequence[dg.TableColumn]
) -> dg.MetadataValue:
    return dg.MetadataValue.table(
        records=[dg.TableRecord(dict(row)) for row in rows],
        schema=dg.TableSchema(columns=list(columns)),
    )


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) or "nothing"


def _text(moment: datetime | None) -> str:
    return "never" if moment is None else moment.isoformat(timespec="seconds")
