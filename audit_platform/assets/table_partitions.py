"""The partitions of `audit.event`, kept ready ahead of time.

Here: the asset that creates them on its schedule. Not here: what is due and how it is created
(`retention/`), the check on the runway (`assets/checks.py`).
"""

from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg

from audit_platform.assets.audit_event import OWNERS, TABLE_PARTITIONS
from audit_platform.assets.columns import PARTITION_COLUMNS
from audit_platform.failures import dagster_failures
from audit_platform.resources import DatabaseResource, SettingsResource
from audit_platform.retention.lifecycle import RunwayReport, ensure_ahead

STORAGE_GROUP: Final = "storage"

_TEXT: Final = """
Partitions of `audit.event`, listed in `audit.partition`.

Each run creates what is missing so that `AUDIT_PARTITIONS_AHEAD` partitions (7) follow the present
one. A partition is built beside the table and then attached, so that writers never wait. A repeat
creates nothing. Without a partition for its time an event is not lost: it goes to
`audit.event_late`.
"""


@dg.asset(
    key=TABLE_PARTITIONS,
    description=_TEXT,
    group_name=STORAGE_GROUP,
    owners=OWNERS,
    kinds={"postgres"},
    tags={"audit/path": "event"},
    metadata={
        "dagster/table_name": "audit.partition",
        "dagster/column_schema": dg.TableSchema(columns=list(PARTITION_COLUMNS)),
    },
    retry_policy=dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL),
)
def table_partitions(
    settings: SettingsResource, database: DatabaseResource
) -> dg.MaterializeResult[Any]:
    """Create the partitions that are due."""
    values = settings.load()
    with dagster_failures(), database.owner("partitions") as conn:
        report = ensure_ahead(
            conn,
            now=datetime.now(UTC),
            ahead=values.partitions_ahead,
            interval=values.partition_interval,
        )
    return dg.MaterializeResult(metadata=_metadata(report))


def _metadata(report: RunwayReport) -> dict[str, dg.MetadataValue]:
    latest = report.latest_hi
    found: dict[str, dg.MetadataValue] = {
        "created": dg.MetadataValue.int(len(report.created)),
        "created names": dg.MetadataValue.json(list(report.created)),
        "partitions ahead": dg.MetadataValue.int(report.partitions_ahead),
        "days ahead": dg.MetadataValue.float(round(report.days_ahead, 2)),
    }
    if latest is not None:
        found["latest bound"] = dg.MetadataValue.timestamp(latest)
    return found
