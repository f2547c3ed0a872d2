"""The daily check for missing numbers: alarm, grace, certificate, as Dagster shows them."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.settings import Settings
from tests.conftest import Database

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

AN_HOUR_AGO = timedelta(hours=1)


@pytest.fixture
def admin(database: Database) -> Iterator[Connection]:
    with connected(database.admin_url, application="test") as conn:
        yield conn


def arrived(
    admin: Connection, got: str, *, epoch: int = 1, declared: str = "{}", age: timedelta
) -> None:
    """Write a folded account that was last heard of some time ago."""
    admin.execute(
        "insert into audit.producer_epoch (producer_id, epoch, known, updated_at)"
        " values (17, %s, %s::int8multirange + %s::int8multirange, %s)",
        [epoch, got, declared, datetime.now(UTC) - age],
    )
    for kind, numbers in (("got", got), ("declared", declared)):
        admin.execute(
            "insert into audit.producer_numbers (producer_id, epoch, kind, part, r)"
            " values (17, %s, %s, 0, %s)",
            [epoch, kind, numbers],
        )


def check(location: dg.Definitions, instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    job = location.resolve_job_def("check_completeness")
    (found,) = job.execute_in_process(instance=instance).get_asset_check_evaluations()
    return found


def values(found: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in found.metadata.items()}


def test_complete_accounts_pass_with_a_certificate(
    location: dg.Definitions, instance: dg.DagsterInstance, admin: Connection, settings: Settings
) -> None:
    arrived(admin, "{[1,9)}", declared="{[9,11)}", age=AN_HOUR_AGO)

    found = check(location, instance)

    assert found.passed
    assert found.description == "10 numbers of 1 run are all accounted for"
    shown = values(found)
    assert (shown["accepted"], shown["stored"], shown["declared"], shown["missing"]) == (
        10,
        8,
        2,
        0,
    )
    path = Path(shown["certificate"])
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert path == settings.data_dir / "certificates" / f"completeness-{yesterday}.json"
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == shown["certificate sha256"]
    assert json.loads(content)["accounts"][0]["accepted"] == 10


def test_a_gap_that_settled_is_an_error_that_names_its_run(
    location: dg.Definitions, instance: dg.DagsterInstance, admin: Connection
) -> None:
    arrived(admin, "{[1,5),[7,8),[9,11)}", age=AN_HOUR_AGO)

    found = check(location, instance)

    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert found.description is not None
    assert found.description.startswith("3 of 10 numbers are missing, in 1 run (17:1)")
    table = found.metadata["missing numbers"]
    assert isinstance(table, dg.TableMetadataValue)
    (record,) = table.records
    assert record.data == {
        "producer": "17",
        "run": "17:1",
        "state": "open",
        "missing": 3,
        "numbers": "5-6, 8",
    }


def test_a_young_gap_is_no_alarm(
    location: dg.Definitions, instance: dg.DagsterInstance, admin: Connection
) -> None:
    arrived(admin, "{[1,5),[7,9)}", age=timedelta(minutes=5))

    found = check(location, instance)

    assert found.passed
    shown = values(found)
    assert (shown["missing"], shown["missing for less than 15 minutes"]) == (0, 2)


def test_producers_of_earlier_days_are_left_to_their_own_certificate(
    location: dg.Definitions, instance: dg.DagsterInstance, admin: Connection
) -> None:
    arrived(admin, "{[5,9)}", age=timedelta(days=3))

    found = check(location, instance)

    assert found.passed
    assert values(found)["runs of producers"] == 0


def test_a_certificate_that_cannot_be_written_fails_the_check(
    location: dg.Definitions, instance: dg.DagsterInstance, settings: Settings
) -> None:
    (settings.data_dir / "certificates").write_text("in the way")

    found = check(location, instance)

    assert not found.passed
    assert found.description is not None
    assert "the certificate was not written (file exists)" in found.description
