"""Partitions on a real server: created once, whole, linked, and never over what is sealed."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.errors import DatabaseError, PermissionRefused
from audit_platform.retention.lifecycle import (
    ensure_ahead,
    ensure_partitions,
    find_granted,
    read_partitions,
    read_runway,
)
from audit_platform.retention.partition import DAY, HOT_INDEXES, bounds_between, bounds_for, due
from tests.conftest import Database
from tests.integration.retention.creation import FAR, days, insert, tables

pytestmark = pytest.mark.integration

MICROSECOND = timedelta(microseconds=1)


def test_new_partition_carries_exactly_the_indexes_of_the_parent(
    maint: Connection, admin: Connection
) -> None:
    """ATTACH itself would build an index that HOT_INDEXES lacks, locked and with another name."""
    (name,) = ensure_partitions(maint, days(1))

    rows = admin.execute(
        """select child.relname, parent.relname
           from pg_index as i
           join pg_class as child on child.oid = i.indexrelid
           left join pg_inherits as h on h.inhrelid = i.indexrelid
           left join pg_class as parent on parent.oid = h.inhparent
           where i.indrelid = %s::regclass""",
        [f"audit.{name}"],
    ).fetchall()
    linked = dict(rows)
    expected = {f"{name}_{index.suffix}": f"event_{index.suffix}" for index in HOT_INDEXES}
    assert linked == {**expected, f"{name}_pkey": "event_pkey"}


def test_hot_indexes_equal_those_of_the_migration(admin: Connection) -> None:
    rows = admin.execute(
        "select indexname from pg_indexes where schemaname = 'audit' and tablename = 'event'"
    ).fetchall()

    assert {row[0] for row in rows} == {
        "event_pkey",
        *(f"event_{index.suffix}" for index in HOT_INDEXES),
    }


def test_new_partition_keeps_the_checks_and_drops_the_helper(
    maint: Connection, admin: Connection
) -> None:
    (name,) = ensure_partitions(maint, days(1))

    rows = admin.execute(
        "select conname from pg_constraint where conrelid = %s::regclass and contype = 'c'",
        [f"audit.{name}"],
    ).fetchall()
    assert {row[0] for row in rows} == {"event_lengths"}


@pytest.mark.parametrize(
    ("interval", "moment"),
    [
        ("hour", datetime(2031, 12, 31, 23, 30, tzinfo=UTC)),
        ("day", datetime(2032, 2, 29, 12, tzinfo=UTC)),
        ("week", datetime(2032, 12, 31, 12, tzinfo=UTC)),
        ("month", datetime(2031, 12, 15, tzinfo=UTC)),
    ],
)
def test_rows_at_both_edges_of_a_partition_are_stored(
    maint: Connection, database: Database, admin: Connection, interval: str, moment: datetime
) -> None:
    bounds = bounds_for(moment, interval)
    ensure_partitions(maint, [bounds])

    with connected(database.writer_url, application="test") as writer:
        insert(writer, bounds.lo)
        insert(writer, bounds.hi - MICROSECOND)
        for outside in (bounds.lo - MICROSECOND, bounds.hi):
            with pytest.raises(psycopg.errors.CheckViolation):
                insert(writer, outside)
    stored = admin.execute(f"select count(*) from only audit.{bounds.name}".encode()).fetchone()
    assert stored == (2,)


def test_repeat_creates_nothing_and_says_so(maint: Connection) -> None:
    first = ensure_partitions(maint, days(3))

    assert first == ("event_20310301", "event_20310302", "event_20310303")
    assert ensure_partitions(maint, days(3)) == ()
    assert ensure_partitions(maint, days(4)) == ("event_20310304",)


def test_history_of_many_days_is_opened_in_one_call(maint: Connection) -> None:
    history = bounds_between(
        datetime(2023, 7, 10, tzinfo=UTC), datetime(2023, 10, 7, tzinfo=UTC), "day"
    )

    assert len(ensure_partitions(maint, history)) == 90


def test_empty_table_left_by_somebody_is_replaced(maint: Connection, admin: Connection) -> None:
    admin.execute("create table audit.event_20310301 (like audit.event)")
    admin.execute("alter table audit.event_20310301 owner to audit_owner")

    assert ensure_partitions(maint, days(1)) == ("event_20310301",)
    assert read_partitions(maint)[-1].takes_rows


def test_table_with_rows_left_by_somebody_is_kept_and_named(
    maint: Connection, admin: Connection
) -> None:
    admin.execute("create table audit.event_20310301 as select 1 as kept")
    admin.execute("alter table audit.event_20310301 owner to audit_owner")

    with pytest.raises(DatabaseError, match="event_20310301 exists, holds rows"):
        ensure_partitions(maint, days(1))
    assert admin.execute("select kept from audit.event_20310301").fetchone() == (1,)


def test_open_partition_without_its_table_is_made_again(
    maint: Connection, admin: Connection
) -> None:
    ensure_partitions(maint, days(2))
    admin.execute("drop table audit.event_20310301")

    assert ensure_partitions(maint, days(2)) == ("event_20310301",)


def test_sealed_range_is_never_created_again(maint: Connection, admin: Connection) -> None:
    """Its rows are late: a new table in its place would hide the archive."""
    ensure_partitions(maint, days(1))
    admin.execute("update audit.partition set state = 'sealed' where name = 'event_20310301'")
    admin.execute("drop table audit.event_20310301")

    assert ensure_partitions(maint, days(1)) == ()


def test_partition_of_another_interval_is_filled_around(maint: Connection) -> None:
    ensure_partitions(maint, [bounds_for(FAR, "day")])

    created = ensure_partitions(maint, [bounds_for(FAR, "month")])
    assert created == tuple(bounds.name for bounds in days(31)[1:])


def test_default_privileges_that_open_partitions_are_refused(
    maint: Connection, admin: Connection
) -> None:
    admin.execute(
        "alter default privileges for role audit_owner in schema audit "
        "grant select on tables to audit_reader"
    )

    with pytest.raises(PermissionRefused, match="ALTER DEFAULT PRIVILEGES"):
        ensure_partitions(maint, days(1))
    assert tables(admin, "event_2031") == set()


def test_granted_partition_is_found(maint: Connection, admin: Connection) -> None:
    (name,) = ensure_partitions(maint, days(1))
    assert find_granted(maint) == []

    admin.execute(f"grant select on audit.{name} to audit_reader".encode())

    assert find_granted(maint) == [name]


def test_ahead_reports_what_it_created_and_how_far_it_reaches(maint: Connection) -> None:
    now = FAR + timedelta(hours=6)

    report = ensure_ahead(maint, now=now, ahead=7, interval="day")

    assert report.created == tuple(bounds.name for bounds in due(now, 7, "day", []))
    assert (report.partitions_ahead, report.latest_hi) == (7, FAR + 8 * DAY)
    assert report.days_ahead == pytest.approx(7.75)
    assert ensure_ahead(maint, now=now, ahead=7, interval="day").created == ()


def test_runway_does_not_count_a_detached_partition(maint: Connection, admin: Connection) -> None:
    ensure_ahead(maint, now=FAR, ahead=7, interval="day")
    admin.execute("alter table audit.event detach partition audit.event_20310304")

    assert read_runway(maint, now=FAR).partitions == 2
