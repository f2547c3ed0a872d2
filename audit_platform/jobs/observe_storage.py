"""Job `observe_storage`: looks at the sizes of tables and indexes and notes them.

Here: the op and the job. Not here: reading (`retention/sizes.py`), the observation
(`assets/storage_sizes.py`), when it runs (`schedules.py`).
"""

from datetime import UTC, datetime
from typing import Final

import dagster as dg

from audit_platform.assets.storage_sizes import observation_of, storage_metadata
from audit_platform.failures import dagster_failures
from audit_platform.jobs.coordinator import LANE_TAG
from audit_platform.jobs.ingest import MAX_RUNTIME_TAG
from audit_platform.resources import DatabaseResource
from audit_platform.retention.sizes import read_storage

OBSERVE_STORAGE_JOB: Final = "observe_storage"

_TEXT: Final = """
Notes how large tables and indexes are, how much of them is bloat and which indexes are read, as an
observation of the asset `storage_sizes`. Reads the catalog, no event; a repeat does no harm.
"""


@dg.op(name="observe_sizes", description="Read sizes and use from the catalog; note them.")
def observe_sizes(context: dg.OpExecutionContext, database: DatabaseResource) -> None:
    """Read the sizes and show them, on the page of the asset and on that of the run."""
    with dagster_failures(), database.owner("storage sizes") as conn:
        report = read_storage(conn, now=datetime.now(UTC))
    context.log_event(observation_of(report))
    context.add_output_metadata(storage_metadata(report))


@dg.job(
    name=OBSERVE_STORAGE_JOB,
    description=_TEXT,
    executor_def=dg.in_process_executor,
    tags={LANE_TAG: "maintenance", MAX_RUNTIME_TAG: "600"},
)
def observe_storage() -> None:
    """Note the sizes."""
    observe_sizes()
