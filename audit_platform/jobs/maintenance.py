"""Jobs that keep the tables well: partitions ahead, and the checks.

Here: which assets and checks run together. Not here: when (`schedules.py`), what they do
(`assets/`). All run in one process: their work is a few statements.
"""

from typing import Final

import dagster as dg

from audit_platform.assets.checks import (
    ledger_conservation,
    partition_runway,
    partitions_owner_only,
)
from audit_platform.assets.completeness_check import sequence_gaps
from audit_platform.assets.lifecycle_checks import on_time
from audit_platform.assets.table_partitions import table_partitions
from audit_platform.jobs.coordinator import LANE_TAG
from audit_platform.jobs.ingest import MAX_RUNTIME_TAG

_TAGS: Final = {LANE_TAG: "maintenance", MAX_RUNTIME_TAG: "600"}

create_partitions = dg.define_asset_job(
    "create_partitions",
    selection=dg.AssetSelection.assets(table_partitions),
    description="Create the partitions that are due, then check the runway.",
    executor_def=dg.in_process_executor,
    tags=_TAGS,
)

check_partitions = dg.define_asset_job(
    "check_partitions",
    selection=dg.AssetSelection.checks(partition_runway, partitions_owner_only, on_time),
    description=(
        "Check that enough partitions exist, that nobody may touch them directly, and that every "
        "step of their life was taken in its time."
    ),
    executor_def=dg.in_process_executor,
    tags=_TAGS,
)

check_ledger = dg.define_asset_job(
    "check_ledger",
    selection=dg.AssetSelection.checks(ledger_conservation),
    description="Compare the newest ledger rows with the rows stored under their batch ids.",
    executor_def=dg.in_process_executor,
    tags=_TAGS,
)

check_completeness = dg.define_asset_job(
    "check_completeness",
    selection=dg.AssetSelection.checks(sequence_gaps),
    description="Look for numbers of producers that never came; write the day's certificate.",
    executor_def=dg.in_process_executor,
    tags=_TAGS,
)
