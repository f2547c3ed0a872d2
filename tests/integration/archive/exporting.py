"""One export with the parameters of a test, and what it left in the archive."""

import io
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from audit_platform.archive.export import ExportReport, export_partition
from audit_platform.archive.store import ArchiveStore, read_bytes
from audit_platform.db.pool import Connection
from audit_platform.retention.partition import PartitionBounds
from audit_platform.retention.partition_table import PartitionRow, read_groups
from tests.integration.retention.sealing import DAY, record_of

NOW = DAY.hi + timedelta(hours=50)


def table_of(store: ArchiveStore, path: str) -> pa.Table:
    return pq.read_table(io.BytesIO(read_bytes(store, path)))


def all_rows(store: ArchiveStore, report: ExportReport) -> pa.Table:
    return pa.concat_tables([table_of(store, entry.path) for entry in report.files])


def export(
    conn: Connection,
    store: ArchiveStore,
    copy_store: ArchiveStore | None = None,
    *,
    bounds: PartitionBounds = DAY,
    row: PartitionRow | None = None,
    own: Mapping[tuple[str, str], str] | None = None,
    rows_per_group: int = 100,
    file_bytes: int = 1 << 30,
) -> ExportReport:
    record = row or record_of(conn, bounds)
    own_files = own or {}
    return export_partition(
        conn,
        record,
        store,
        copy_store,
        groups=read_groups(conn, record.name, record.generation),
        file_tenant=lambda tenant, cls: own_files.get((tenant, cls)),
        rows_per_group=rows_per_group,
        file_bytes=file_bytes,
        now=NOW,
    )


def files_below(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*") if path.is_file())
