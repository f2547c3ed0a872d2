"""Exports of searches, as an external asset: the page that shows their progress.

Here: what it is, for people. Not here: the run that writes them (`jobs/search_export.py`).
"""

from typing import Final

import dagster as dg

from audit_platform.assets.audit_event import AUDIT_EVENT, AUDIT_EVENT_LATE, OWNERS
from audit_platform.assets.columns import EVENT_COLUMNS
from audit_platform.assets.table_partitions import STORAGE_GROUP
from audit_platform.exports.cells import COLUMNS

SEARCH_EXPORT: Final = "search_export"

_TEXT: Final = """
Files with what a search found, in `AUDIT_EXPORT_DIR`: CSV, NDJSON or Parquet, with checksums and a
manifest, which is written last. The job `search_export` writes them, and `audit-platform export`
does the same from a terminal. Who exported what is in the log: actions `audit.log.export.begin`
and `audit.log.export.end`.

**Observations** while an export runs:

| name | meaning |
|---|---|
| `rows`, `bytes`, `files` | written so far |
| `rows_per_s` | since this run began |
| `percent` | of the period, where the search has a beginning |
| `reached` | time of the last event written; they come newest first |
| `archive_files_opened`, `archive_files_skipped` | archived files read, and ruled out |
"""

EXPORT_ASSET: Final = dg.AssetSpec(
    SEARCH_EXPORT,
    deps=[AUDIT_EVENT, AUDIT_EVENT_LATE],
    description=_TEXT,
    group_name=STORAGE_GROUP,
    owners=OWNERS,
    kinds={"csv", "json", "parquet"},
    tags={"audit/path": "event", "audit/personal-data": "yes"},
    metadata={
        "dagster/table_name": "audit.event_all",
        "dagster/column_schema": dg.TableSchema(
            columns=[column for column in EVENT_COLUMNS if column.name in COLUMNS]
        ),
    },
)
