"""Seals on a real server: nothing gets in any more, and the root says what is inside."""

from datetime import timedelta

import psycopg
import pytest

from audit_platform.db.pool import Connection
from audit_platform.errors import (
    PartitionLost,
    StepRefused,
)
from audit_platform.retention.partition import PartitionInterval, bounds_for
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import read_groups
from tests.conftest import Database
from tests.factories import event
from tests.integration.events.store import frame_of, open_writer
from tests.integration.retention.sealing import (
    DAY,
    DUE,
    by_action,
    groups_by_hand,
    leaves_in_sql,
    put,
    record_of,
    root_by_hand,
    seal_day,
    store_rows,
)

pytestmark = pytest.mark.integration

NOON = DAY.lo + timedelta(hours=12)
MICROSECOND = timedelta(microseconds=1)
EMPTY_SHA256 = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def test_seal_records_what_the_rows_come_to(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 500)

    report = seal_day(maint, class_of=by_action)

    row = record_of(maint)
    groups = groups_by_hand(admin, DAY.name, by_action)
    assert (row.n, row.min_id, row.max_id, row.leaf_digest) == leaves_in_sql(admin, DAY.name)
    assert row.root == root_by_hand(groups)
    assert [
        (one.tenant_id, one.retention_class, one.n, one.root)
        for one in read_groups(maint, DAY.name, 1)
    ] == [(one.tenant_id, one.retention_class, one.n, one.root) for one in groups]
    assert (report.n, report.root, report.leaf_digest) == (row.n, row.root, row.leaf_digest)
    assert (row.state, row.sealed_at, row.seal_checked_at) == (State.SEALED, DUE, DUE)


def test_classes_are_kept_as_they_were_at_the_seal(database: Database, maint: Connection) -> None:
    """The export asks the record: rules that change in between would make other groups."""
    store_rows(database, 50)

    seal_day(maint, class_of=by_action)

    row = record_of(maint)
    assert row.classes == {
        ("admin", "user.login"): "security",
        ("admin", "order.create"): "billing",
    }
    assert row.class_of("admin", "user.login") == "security"
    assert row.class_of("admin", "user.suspend") == "standard"


@pytest.mark.parametrize(
    "statement",
    [
        "update audit.{table} set action = 'x'",
        "delete from audit.{table}",
        "truncate audit.{table}",
        "delete from audit.event where \"timestamp\" < '2026-01-01'",
        "insert into audit.{table} select * from audit.event limit 1",
    ],
)
def test_sealed_partition_refuses_every_change_also_of_a_superuser(
    database: Database, maint: Connection, admin: Connection, statement: str
) -> None:
    store_rows(database, 5)
    put(admin, NOON)
    seal_day(maint)

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is sealed"):
        admin.execute(statement.format(table=DAY.name).encode())
    assert leaves_in_sql(admin, DAY.name)[0] == 6


def test_event_for_a_sealed_day_is_stored_as_late(database: Database, maint: Connection) -> None:
    store_rows(database, 5)
    writer = open_writer(database.writer_url)
    seal_day(maint)

    counts = writer.save(frame_of([event(timestamp=NOON), event()]))

    assert (counts.n_new, counts.n_late) == (1, 1)
    writer.connection.close()


def test_repeated_seal_changes_nothing(database: Database, maint: Connection) -> None:
    store_rows(database, 20)
    first = seal_day(maint)
    before = record_of(maint)

    again = seal_day(maint, now=DUE + timedelta(days=1), class_of=by_action)

    assert record_of(maint) == before
    assert (again.n, again.root, again.leaf_digest) == (first.n, first.root, first.leaf_digest)


def test_partition_is_not_sealed_before_its_time(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 5)
    due = DAY.hi + timedelta(hours=48)

    with pytest.raises(StepRefused, match="late producers"):
        seal_day(maint, now=due - MICROSECOND)
    put(admin, NOON)
    assert seal_day(maint, now=due).n == 6


def test_empty_partition_has_a_seal_too(database: Database, maint: Connection) -> None:
    store_rows(database, 0)

    report = seal_day(maint)

    row = record_of(maint)
    assert (report.n, report.min_id, report.max_id) == (0, None, None)
    assert (row.root, row.leaf_digest) == (EMPTY_SHA256, EMPTY_SHA256)
    assert read_groups(maint, DAY.name, 1) == ()


@pytest.mark.parametrize("interval", list(PartitionInterval))
def test_partition_of_every_interval_is_sealed(
    database: Database, maint: Connection, interval: PartitionInterval
) -> None:
    bounds = bounds_for(NOON, interval)
    store_rows(database, 30, bounds=bounds)

    assert seal_day(maint, bounds=bounds).n == 30


def test_unknown_partition_is_named(maint: Connection) -> None:
    with pytest.raises(PartitionLost, match=f"no partition {DAY.name}"):
        seal_day(maint)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("drop table audit.{table}", "is gone"),
        ("alter table audit.event detach partition audit.{table}", "attach it with its bounds"),
    ],
)
def test_partition_that_readers_do_not_see_is_not_sealed(
    database: Database, maint: Connection, admin: Connection, statement: str, message: str
) -> None:
    store_rows(database, 5)
    admin.execute(statement.format(table=DAY.name).encode())

    with pytest.raises(PartitionLost, match=message):
        seal_day(maint)
    assert record_of(maint).state is State.OPEN


def test_triggers_that_somebody_removed_are_set_before_the_root(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 5)
    admin.execute("update audit.partition set state = 'sealed' where name = %s", [DAY.name])
    put(admin, NOON)

    assert seal_day(maint).n == 6
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        put(admin, NOON)
