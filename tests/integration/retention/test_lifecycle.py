"""Partitions on a real server: created once, whole, linked, and without stopping writers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

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
from audit_platform.retention.partition import (
    DAY,
    HOT_INDEXES,
    PartitionBounds,
    bounds_between,
    bounds_for,
    due,
)
from tests.conftest import Database

pytestmark = pytest.mark.integration

FAR = datetime(2031, 3, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DEADLINE_S = 20.0

# A process of its own that creates days one by one; killed by the test.
CREATOR = """
import sys
from datetime import datetime, UTC
from audit_platform.db.pool import connected
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import bounds_between
first, last = (datetime.fromisoformat(text) for text in sys.argv[2:4])
with connected(sys.argv[1], application="creator") as conn:
    ensure_partitions(conn, bounds_between(first, last, "day"))
"""

INSERT = """
insert into audit.event
  (id, "timestamp", received_at, ingested_at, batch_id, actor_type, source, action, leaf_hash)
values (gen_random_uuid(), %s, now(), now(), %s, 'user', 'test', 'test.insert', sha256('x'))
"""


@pytest.fixture
def maint(database: Database) -> Iterator[Connection]:
    with connected(database.maint_url, application="test maint") as conn:
        yield conn


@pytest.fixture
def admin(database: Database) -> Iterator[Connection]:
    with connected(database.admin_url, application="test admin") as conn:
        yield conn


def days(count: int, *, first: datetime = FAR) -> list[PartitionBounds]:
    return bounds_between(first, first + (count - 1) * DAY, "day")


def tables(admin: Connection, prefix: str) -> set[str]:
    rows = admin.execute(
        "select tablename from pg_tables where schemaname = 'audit' and tablename like %s",
        [f"{prefix}%"],
    ).fetchall()
    return {row[0] for row in rows}


def until(condition: Callable[[], bool], *, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        pause.wait(0.01)


def insert(conn: Connection, moment: datetime) -> None:
    conn.execute(INSERT, [moment, uuid4()])


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


def test_concurrent_creators_create_each_partition_once(database: Database) -> None:
    start = threading.Barrier(4)

    def create() -> tuple[str, ...]:
        with connected(database.maint_url, application="creator") as conn:
            start.wait(DEADLINE_S)
            return ensure_partitions(conn, days(12))

    with ThreadPoolExecutor(4) as threads:
        created = [future.result() for future in [threads.submit(create) for _ in range(4)]]

    names = [name for one in created for name in one]
    assert sorted(names) == [bounds.name for bounds in days(12)]


def test_creator_killed_before_its_attach_leaves_nothing_and_blocks_nobody(
    database: Database, admin: Connection, maint: Connection
) -> None:
    with admin.transaction():
        # The same lock as ATTACH: the creator has built its table and stands before the last step.
        admin.execute("lock table audit.event in share update exclusive mode")
        creator = start_creator(database, days(1))
        until(lambda: is_waiting_to_attach(admin), what="creator waits for the parent")
        kill(creator)

    assert tables(admin, "event_2031") == set()
    assert ensure_partitions(maint, days(1)) == ("event_20310301",)


def test_creator_killed_midway_is_completed_by_the_next(
    database: Database, admin: Connection, maint: Connection
) -> None:
    creator = start_creator(database, days(300))
    until(lambda: len(tables(admin, "event_2031")) >= 5, what="five days exist")
    kill(creator)

    until(lambda: not is_anybody_creating(admin), what="server noticed the kill")
    left = tables(admin, "event_203")
    rest = ensure_partitions(maint, days(len(left) + 10))
    assert 5 <= len(left) < 300, "the creator was killed midway"
    assert left.isdisjoint(rest)
    assert len(rest) == 10
    assert all(record.is_attached for record in read_partitions(maint))


def start_creator(database: Database, wanted: list[PartitionBounds]) -> "subprocess.Popen[bytes]":
    first, last = wanted[0].lo.isoformat(), wanted[-1].lo.isoformat()
    return subprocess.Popen([sys.executable, "-c", CREATOR, database.maint_url, first, last])


def kill(process: "subprocess.Popen[bytes]") -> None:
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(DEADLINE_S) == -signal.SIGKILL


def is_waiting_to_attach(admin: Connection) -> bool:
    row = admin.execute(
        """select exists (select from pg_locks
           where relation = 'audit.event'::regclass and not granted)"""
    ).fetchone()
    return row == (True,)


def is_anybody_creating(admin: Connection) -> bool:
    row = admin.execute(
        """select exists (select from pg_stat_activity
           where datname = current_database() and application_name like '%%creator')"""
    ).fetchone()
    return row == (True,)


def test_writers_insert_without_failure_or_wait_while_partitions_appear(
    database: Database, maint: Connection
) -> None:
    stop = threading.Event()

    def write() -> list[float]:
        waits_s: list[float] = []
        with connected(database.writer_url, application="test") as writer:
            while not stop.is_set():
                began = time.monotonic()
                insert(writer, datetime.now(UTC))
                waits_s.append(time.monotonic() - began)
        return waits_s

    with ThreadPoolExecutor(2) as threads:
        writers = [threads.submit(write) for _ in range(2)]
        try:
            created = ensure_partitions(maint, days(40))
        finally:
            stop.set()
        waits_s = [wait_s for writer in writers for wait_s in writer.result()]

    assert len(created) == 40
    assert len(waits_s) > 100
    assert max(waits_s) < 2.0, "the lock of ATTACH does not conflict with inserts"


def test_open_transaction_of_a_writer_does_not_hold_up_a_partition(
    database: Database, maint: Connection
) -> None:
    with connected(database.writer_url, application="test") as writer, writer.transaction():
        insert(writer, datetime.now(UTC))

        assert ensure_partitions(maint, days(1)) == ("event_20310301",)


def test_control_creating_a_partition_of_the_parent_would_wait_for_the_writer(
    database: Database, admin: Connection
) -> None:
    """The statement we do not use: proves that the test above can fail."""
    with connected(database.writer_url, application="test") as writer, writer.transaction():
        insert(writer, datetime.now(UTC))

        admin.execute("set lock_timeout = '500ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            admin.execute(
                "create table audit.event_20310301 partition of audit.event"
                " for values from ('2031-03-01') to ('2031-03-02')"
            )


def test_creator_waits_out_another_maintenance_statement(
    database: Database, admin: Connection, maint: Connection
) -> None:
    """VACUUM of the parent takes the lock of ATTACH: the creator tries again and writers go on."""
    with (
        ThreadPoolExecutor(1) as threads,
        connected(database.writer_url, application="test") as writer,
    ):
        with admin.transaction():
            admin.execute("lock table audit.event in share update exclusive mode")
            creation = threads.submit(ensure_partitions, maint, days(1))
            until(lambda: is_waiting_to_attach(admin), what="creator waits")
            until(lambda: not is_waiting_to_attach(admin), what="creator gave up once")
            insert(writer, datetime.now(UTC))

        assert creation.result(DEADLINE_S) == ("event_20310301",)


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
