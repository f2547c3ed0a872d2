"""The Dagster code location: everything that Dagster shows and runs, listed by name.

Here: explicit lists. Not here: any body; the dbt models, which have a location of their own
because importing dagster_dbt would delay every run by 1.7 s.
Guarantee: loading it reads no setting and opens no connection.
"""

from collections.abc import Mapping

import dagster as dg

from audit_platform.assets.archive_care import CARE_ASSETS
from audit_platform.assets.audit_event import EVENT_ASSETS
from audit_platform.assets.checks import (
    ledger_conservation,
    partition_runway,
    partitions_owner_only,
)
from audit_platform.assets.completeness_check import sequence_gaps
from audit_platform.assets.lifecycle_checks import (
    archive_re_read,
    archive_unchanged,
    ledger_equals_rows,
    not_held,
    not_held_hot,
    on_time,
)
from audit_platform.assets.partition_lifecycle import LIFECYCLE_ASSETS
from audit_platform.assets.search_exports import EXPORT_ASSET
from audit_platform.assets.storage_sizes import STORAGE_ASSET
from audit_platform.assets.table_partitions import table_partitions
from audit_platform.jobs.ingest import ingest
from audit_platform.jobs.janitor import janitor
from audit_platform.jobs.lifecycle import (
    advance_partition,
    archive_partitions,
    detach_partitions,
    drill_restore,
    drop_partitions,
    expire_archive,
    merge_late_rows,
)
from audit_platform.jobs.maintenance import (
    check_completeness,
    check_ledger,
    check_partitions,
    create_partitions,
)
from audit_platform.jobs.observe_storage import observe_storage
from audit_platform.jobs.search_export import search_export
from audit_platform.resources import platform_resources
from audit_platform.schedules import (
    archive_nightly,
    completeness_daily,
    detach_daily,
    drill_weekly,
    drop_daily,
    expiry_daily,
    janitor_hourly,
    ledger_hourly,
    merge_nightly,
    partitions_daily,
    runway_hourly,
    storage_every_six_hours,
)
from audit_platform.sensors.reaper import reaper
from audit_platform.sensors.stream_backlog import stream_backlog


def build_defs(overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """Make a fresh code location.

    Args:
        overrides: Resources by name that replace those of the platform; for tests.
    """
    return dg.Definitions(
        assets=[
            *EVENT_ASSETS,
            table_partitions,
            *LIFECYCLE_ASSETS,
            *CARE_ASSETS,
            STORAGE_ASSET,
            EXPORT_ASSET,
        ],
        asset_checks=[
            partition_runway,
            partitions_owner_only,
            ledger_conservation,
            sequence_gaps,
            ledger_equals_rows,
            archive_re_read,
            archive_unchanged,
            not_held_hot,
            not_held,
            on_time,
        ],
        jobs=[
            ingest,
            create_partitions,
            check_partitions,
            check_ledger,
            check_completeness,
            merge_late_rows,
            archive_partitions,
            detach_partitions,
            drop_partitions,
            advance_partition,
            expire_archive,
            drill_restore,
            observe_storage,
            search_export,
            janitor,
        ],
        sensors=[stream_backlog, reaper],
        schedules=[
            partitions_daily,
            runway_hourly,
            ledger_hourly,
            completeness_daily,
            merge_nightly,
            archive_nightly,
            detach_daily,
            drop_daily,
            expiry_daily,
            drill_weekly,
            storage_every_six_hours,
            janitor_hourly,
        ],
        resources={**platform_resources(), **(overrides or {})},
        # Runs launched from the asset page too: a process per step costs more than the steps.
        executor=dg.in_process_executor,
    )


defs = build_defs()
