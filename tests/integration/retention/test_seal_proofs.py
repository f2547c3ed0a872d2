"""Rows that contradict each other stop a seal: counted, named, and sealed once they are right."""

import secrets
from datetime import timedelta

import psycopg
import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.errors import (
    SealRefused,
)
from audit_platform.events.event import timestamp_us
from audit_platform.events.identity import TAIL_BITS, mint
from audit_platform.retention.partition_states import State
from tests.conftest import Database
from tests.integration.retention.creation import insert
from tests.integration.retention.sealing import (
    DAY,
    leaves_in_sql,
    put,
    record_of,
    seal_day,
    store_rows,
)

pytestmark = pytest.mark.integration

NOON = DAY.lo + timedelta(hours=12)
MICROSECOND = timedelta(microseconds=1)


def test_id_of_another_millisecond_stops_the_seal_and_is_named(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 20)
    wrong = put(admin, NOON, event_id=mint(timestamp_us(NOON) + 1000, 7))

    with pytest.raises(SealRefused, match=wrong) as caught:
        seal_day(maint)

    row = record_of(maint)
    assert (caught.value.fields["bad_id"], caught.value.fields["dup_id"]) == (1, 0)
    assert (row.state, row.root, row.n) == (State.SEALED, None, None)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        put(admin, NOON)


def test_id_twice_in_one_millisecond_of_a_tenant_stops_the_seal(
    database: Database, maint: Connection, admin: Connection
) -> None:
    """Test R13: the primary key has the time in it and lets such a pair in."""
    store_rows(database, 20)
    twice = put(admin, NOON, tenant="acme")
    put(admin, NOON, tenant="globex", event_id=twice)
    put(admin, NOON + MICROSECOND, tenant="acme", event_id=twice)

    with pytest.raises(SealRefused, match=twice) as caught:
        seal_day(maint)

    assert (caught.value.fields["bad_id"], caught.value.fields["dup_id"]) == (0, 1)


def test_tenants_may_share_an_id(database: Database, maint: Connection, admin: Connection) -> None:
    store_rows(database, 0)
    shared = put(admin, NOON, tenant="acme")
    put(admin, NOON, tenant="globex", event_id=shared)

    assert seal_day(maint).n == 2
    assert record_of(maint).leaf_digest == leaves_in_sql(admin, DAY.name)[3]


def test_refused_seal_goes_on_once_the_rows_are_put_right(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 20)
    wrong = put(admin, NOON, event_id=mint(0, secrets.randbits(TAIL_BITS)))
    with pytest.raises(SealRefused):
        seal_day(maint)
    with admin.transaction():
        admin.execute("set local session_replication_role = replica")  # what only a superuser can
        admin.execute("delete from audit.event where id = %s", [wrong])

    assert seal_day(maint).n == 20


def test_many_contradictions_are_counted_and_some_named(
    database: Database, maint: Connection
) -> None:
    store_rows(database, 0)
    with connected(database.writer_url, application="test") as writer:
        for _ in range(25):
            insert(writer, NOON)  # a random id, not of its moment

    with pytest.raises(SealRefused) as caught:
        seal_day(maint)
    ids = caught.value.fields["ids"]
    assert caught.value.fields["bad_id"] == 25
    assert isinstance(ids, tuple)
    assert len(ids) == 10
