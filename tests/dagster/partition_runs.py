"""Runs of the partitions' life for tests: a location with two archives, jobs at a moment.

Here: what the tests of the life cycle share. Rows are stored by the real consumer transaction, so
that ledger and partitions agree as in production.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from audit_platform.assets.partition_keys import PARTITIONS
from audit_platform.assets.partition_pages import STEPS_OF_ASSET
from audit_platform.db.pool import Connection
from audit_platform.retention.partition_table import PartitionRow, read_partition
from audit_platform.settings import Settings
from tests.dagster.location import location_of

OP_OF_JOB = {
    "archive_partitions": "archive_due",
    "detach_partitions": "detach_due",
    "drop_partitions": "drop_due",
    "merge_late_rows": "late_merge",
    "expire_archive": "archive_expiry",
    "drill_restore": "restore_drill",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Nights:
    """A code location and an instance, at any moment."""

    location: dg.Definitions
    instance: dg.DagsterInstance

    def run(self, job: str, now: datetime | str, **config: Any) -> dg.ExecuteInProcessResult:
        """Run a job as the schedule does, but at a moment; failed runs are returned."""
        given = {"now": now if isinstance(now, str) else now.isoformat(), **config}
        return self.location.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            run_config={"ops": {OP_OF_JOB[job]: {"config": given}}},
            raise_on_error=False,
        )

    def by_hand(self, name: str, now: datetime) -> dg.ExecuteInProcessResult:
        """Advance one partition, as an operator does from the asset page."""
        if not self.instance.has_dynamic_partition(str(PARTITIONS.name), name):
            self.instance.add_dynamic_partitions(str(PARTITIONS.name), [name])
        given = {"config": {"now": now.isoformat()}}
        return self.location.resolve_job_def("advance_partition").execute_in_process(
            instance=self.instance,
            partition_key=name,
            run_config={"ops": dict.fromkeys(STEPS_OF_ASSET, given)},
            raise_on_error=False,
        )

    def materialized(self, asset: str) -> set[str]:
        """Partitions that Dagster shows as materialized."""
        return set(self.instance.get_materialized_partitions(dg.AssetKey(asset)))


def nights_of(settings: Settings, instance: dg.DagsterInstance, place: Path) -> Nights:
    """Make the location whose archive and second copy lie in `place`."""
    location = location_of(
        settings,
        archive_url=(place / "archive").as_uri(),
        archive_copy_url=(place / "copy").as_uri(),
    )
    return Nights(location=location, instance=instance)


def shown(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, dict[str, Any]]:
    """Metadata of the materializations of an asset in a run, by partition."""
    made = [
        event.step_materialization_data.materialization
        for event in result.all_events
        if event.is_step_materialization
    ]
    return {
        str(one.partition): _values(one.metadata)
        for one in made
        if one.asset_key == dg.AssetKey(asset)
    }


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """Evaluations of a run by name of the check."""
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


def sums(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Metadata of the end of a walk, whether it failed or not."""
    for event in result.all_events:
        if event.is_successful_output:
            return _values(event.step_output_data.metadata)
    return _values(failure_of(result).metadata)


def failure_of(result: dg.ExecuteInProcessResult) -> Any:
    """What a failed step says of its failure: description and metadata."""
    for event in result.all_events:
        if event.is_step_failure:
            return event.step_failure_data.user_failure_data
    raise AssertionError("no step failed")


def record(conn: Connection, name: str) -> PartitionRow:
    """The record of a partition."""
    row = read_partition(conn, name)
    assert row is not None
    return row


def _values(metadata: Mapping[str, dg.MetadataValue]) -> dict[str, Any]:
    """Plain values; a table as a list of its records."""
    return {
        name: [record.data for record in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        for name, value in metadata.items()
    }
