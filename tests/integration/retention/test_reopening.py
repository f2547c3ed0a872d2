"""Sealed partitions opened again: the next generation, and what the former one held."""

from datetime import timedelta

import psycopg
import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.errors import (
    SealRefused,
)
from audit_platform.events.identity import mint
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_generations import list_generations, mark_reopened
from audit_platform.retention.partition_table import read_groups
from audit_platform.retention.seal import unseal
from tests.conftest import Database
from tests.integration.retention.sealing import (
    DAY,
    DUE,
    put,
    record_of,
    seal_day,
    store_rows,
)

pytestmark = pytest.mark.integration

NOON = DAY.lo + timedelta(hours=12)


def test_reopened_partition_takes_rows_and_is_sealed_as_the_next_generation(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 40)
    seal_day(maint)
    first = record_of(maint)

    with as_owner(maint):
        assert mark_reopened(maint, first, now=DUE)
        unseal(maint, DAY.name)
    put(admin, NOON)
    second = seal_day(maint, now=DUE + timedelta(hours=1))

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        put(admin, NOON)
    row = record_of(maint)
    (former,) = list_generations(maint, DAY.name)
    assert (row.generation, row.n, second.n) == (2, 41, 41)
    assert (former.generation, former.n, former.root) == (1, 40, first.root)
    assert sum(one.n for one in read_groups(maint, DAY.name, 1)) == 40
    assert sum(one.n for one in read_groups(maint, DAY.name, 2)) == 41


def test_reopening_of_what_was_read_before_somebody_else_did_changes_nothing(
    database: Database, maint: Connection
) -> None:
    store_rows(database, 5)
    seal_day(maint)
    stale = record_of(maint)
    assert mark_reopened(maint, stale, now=DUE)

    assert not mark_reopened(maint, stale, now=DUE)
    assert record_of(maint).generation == 2


def test_opening_an_open_partition_again_is_a_mistake(
    database: Database, maint: Connection
) -> None:
    store_rows(database, 5)

    with pytest.raises(ValueError, match="is open"):
        mark_reopened(maint, record_of(maint), now=DUE)


def test_partition_without_a_root_is_reopened_without_a_former_generation(
    database: Database, maint: Connection, admin: Connection
) -> None:
    """A refused seal proved nothing that could be kept."""
    store_rows(database, 0)
    put(admin, NOON, event_id=mint(0, 5))
    with pytest.raises(SealRefused):
        seal_day(maint)

    with as_owner(maint):
        assert mark_reopened(maint, record_of(maint), now=DUE)
        unseal(maint, DAY.name)

    assert list_generations(maint, DAY.name) == []
    put(admin, NOON)


def test_reader_in_the_middle_of_a_day_does_not_keep_it_from_being_reopened(
    database: Database, maint: Connection, admin: Connection
) -> None:
    """DROP TRIGGER would wait for it, and every new reader would wait for DROP TRIGGER."""
    store_rows(database, 5)
    seal_day(maint)
    with connected(database.admin_url, application="reader") as reader, reader.transaction():
        assert reader.execute(f"select count(*) from audit.{DAY.name}".encode()).fetchone() == (5,)

        unseal(maint, DAY.name)
        put(admin, NOON)

    unseal(maint, DAY.name)  # a repeat changes nothing
    put(admin, NOON)


def test_table_without_triggers_needs_none_taken_away(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 5)

    unseal(maint, DAY.name)

    put(admin, NOON)
