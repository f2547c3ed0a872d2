"""The job `observe_storage` on a real instance: numbers to plot, tables to read."""

from typing import Any

import dagster as dg
import psycopg
import pytest

from audit_platform.assets.storage_sizes import STORAGE_SIZES
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.dagster.location import location_of

pytestmark = [pytest.mark.dagster, pytest.mark.integration]


def observed(instance: dg.DagsterInstance) -> dict[str, Any]:
    (record,) = instance.fetch_observations(dg.AssetKey(STORAGE_SIZES), limit=5).records
    assert record.asset_observation is not None
    return {name: one.value for name, one in record.asset_observation.metadata.items()}


def test_run_observes_sizes_and_shows_each_partition(
    database: Database, settings: Settings, instance: dg.DagsterInstance
) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute("analyze audit.ingest_batch")
        names = [
            row[0]
            for row in connection.execute("select name from audit.partition order by lo").fetchall()
        ]

    result = (
        location_of(settings)
        .resolve_job_def("observe_storage")
        .execute_in_process(instance=instance)
    )

    assert result.success
    shown = observed(instance)
    assert shown["partitions"] == len(names)
    assert shown["database_bytes"] > shown["hot_bytes"] > 0
    records = [record.data for record in shown["by partition"].records]
    assert [record["partition"] for record in records] == names
    assert {record["state"] for record in records} == {"open"}
    families = {record.data["index"] for record in shown["by index"].records}
    assert {"event_pkey", "event_user", "event_entity"} <= families
    assert shown["findings"] == 0
    assert shown["what to look at"] == "nothing"


def test_silent_database_fails_the_run_with_a_remedy(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    job = location_of(settings, maint_url="postgresql://nobody@127.0.0.1:1/x").resolve_job_def(
        "observe_storage"
    )

    result = job.execute_in_process(instance=instance, raise_on_error=False)

    failure = result.failure_data_for_node("observe_sizes")
    assert "DatabaseUnavailable" in str(failure)
