"""Partitions and checks as jobs on a real database."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from audit_platform.db.pool import Connection, connected
from tests.conftest import Database

pytestmark = [pytest.mark.dagster, pytest.mark.integration]


@pytest.fixture
def admin(database: Database) -> Iterator[Connection]:
    with connected(database.admin_url, application="test") as conn:
        yield conn


def run(
    location: dg.Definitions, name: str, instance: dg.DagsterInstance
) -> dg.ExecuteInProcessResult:
    return location.resolve_job_def(name).execute_in_process(
        instance=instance, raise_on_error=False
    )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


def drop_partitions(admin: Connection, *, ahead: int) -> None:
    """Remove what lies further ahead, tables and records; the template may be of yesterday."""
    names = admin.execute(
        """select name from audit.partition
           where lo > date_trunc('day', now(), 'UTC') + make_interval(days => %s)""",
        [ahead],
    ).fetchall()
    for (name,) in names:
        admin.execute(f"drop table audit.{name}".encode())
        admin.execute("delete from audit.partition where name = %s", [name])


def store(admin: Connection, *, promised: int, stored: int) -> str:
    """Write a ledger row and rows that carry its batch id."""
    batch_id = str(uuid4())
    admin.execute(
        """insert into audit.ingest_batch
             (batch_id, shard, n_read, n_new, n_dup, n_late, n_bad)
           values (%s, 0, %s, %s, 0, 0, 0)""",
        [batch_id, promised, promised],
    )
    admin.execute(
        """insert into audit.event (id, "timestamp", received_at, ingested_at, batch_id,
             actor_type, source, action, leaf_hash)
           select gen_random_uuid(), now(), now(), now(), %s,
             'user', 'test', 'test.insert', sha256('x')
           from generate_series(1, %s)""",
        [batch_id, stored],
    )
    return batch_id


def test_daily_job_creates_what_is_due_and_checks_the_runway(
    location: dg.Definitions, instance: dg.DagsterInstance, admin: Connection
) -> None:
    drop_partitions(admin, ahead=1)

    result = run(location, "create_partitions", instance)

    assert result.success
    (made,) = result.asset_materializations_for_node("table_partitions")
    metadata: dict[str, Any] = {name: value.value for name, value in made.metadata.items()}
    assert metadata["created"] == len(metadata["created names"]) == 6
    assert metadata["partitions ahead"] == 7
    assert 7 <= metadata["days ahead"] <= 8
    assert "latest bound" in metadata
    found = checks(result)
    assert found["partition_runway"].passed
    assert found["partitions_owner_only"].passed


def test_repeat_of_the_daily_job_creates_nothing(
    location: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    run(location, "create_partitions", instance)

    result = run(location, "create_partitions", instance)

    assert result.success
    (made,) = result.asset_materializations_for_node("table_partitions")
    assert made.metadata["created"].value == 0


def test_short_runway_is_an_error_with_a_remedy_and_fails_the_run(
    location: dg.Definitions, instance: dg.DagsterInstance, admin: Connection
) -> None:
    drop_partitions(admin, ahead=2)

    result = run(location, "check_partitions", instance)

    assert not result.success
    found = checks(result)["partition_runway"]
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert found.description.startswith("2 partitions ahead, alarm below 3; materialize")
    assert found.metadata["partitions ahead"].value == 2


def test_granted_partition_is_an_error_that_names_it(
    location: dg.Definitions, instance: dg.DagsterInstance, admin: Connection
) -> None:
    row = admin.execute("select name from audit.partition order by lo limit 1").fetchone()
    assert row is not None
    admin.execute(f"grant select on audit.{row[0]} to audit_reader".encode())

    found = checks(run(location, "check_partitions", instance))["partitions_owner_only"]

    assert not found.passed
    assert row[0] in found.description


def test_ledger_that_equals_the_rows_passes(
    location: dg.Definitions, instance: dg.DagsterInstance, admin: Connection
) -> None:
    store(admin, promised=30, stored=30)
    store(admin, promised=0, stored=0)

    found = checks(run(location, "check_ledger", instance))["ledger_conservation"]

    assert found.passed
    assert (found.metadata["rows"].value, found.metadata["batches"].value) == (30, 2)


@pytest.mark.parametrize("stored", [29, 31])
def test_ledger_with_other_rows_fails_and_names_the_batch(
    location: dg.Definitions, instance: dg.DagsterInstance, admin: Connection, stored: int
) -> None:
    store(admin, promised=5, stored=5)
    broken = store(admin, promised=30, stored=stored)

    found = checks(run(location, "check_ledger", instance))["ledger_conservation"]

    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert broken in found.description
    assert found.metadata["rows missing"].value == 30 - stored


def test_rows_of_an_import_of_history_are_found_in_their_old_partitions(
    location: dg.Definitions, instance: dg.DagsterInstance, admin: Connection
) -> None:
    admin.execute(
        """create table audit.event_history partition of audit.event
           for values from ('2020-01-01') to ('2021-01-01')"""
    )
    batch_id = store(admin, promised=3, stored=2)
    admin.execute(
        """insert into audit.event (id, "timestamp", received_at, ingested_at, batch_id,
             actor_type, source, action, leaf_hash)
           values (gen_random_uuid(), '2020-06-01', now(), now(), %s,
             'user', 'test', 'test.insert', sha256('x'))""",
        [batch_id],
    )

    assert checks(run(location, "check_ledger", instance))["ledger_conservation"].passed


@pytest.mark.parametrize(("sealed", "passed"), [("after", True), ("before", False)])
def test_rows_that_were_archived_since_their_import_are_not_missing(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    admin: Connection,
    sealed: str,
    passed: bool,
) -> None:
    """Only a partition that was sealed after the batch can hold its rows."""
    store(admin, promised=30, stored=28)
    admin.execute(
        """insert into audit.partition (name, lo, hi, state, n, root, leaf_digest,
             manifest_sha256, sealed_at, verified_at, verified_by, detached_at)
           values ('event_20200601', '2020-06-01', '2020-06-02', 'detached', 2, ''::bytea,
             ''::bytea, ''::bytea, now() + %s::interval, now(), 'test', now())""",
        ["1 minute" if sealed == "after" else "-1 hour"],
    )

    found = checks(run(location, "check_ledger", instance))["ledger_conservation"]

    assert found.passed == passed
    assert found.metadata["batches that reach into the archive"].value == int(passed)
    if passed:
        assert found.description == (
            "0 rows of 0 batches are all there; 1 further batches reach into the archive"
        )


def test_empty_ledger_passes(location: dg.Definitions, instance: dg.DagsterInstance) -> None:
    assert checks(run(location, "check_ledger", instance))["ledger_conservation"].passed
