"""Creators that race, are killed, or meet writers: no event and no partition suffers."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.retention.lifecycle import ensure_partitions, read_partitions
from audit_platform.retention.partition import PartitionBounds
from tests.conftest import Database
from tests.integration.retention.creation import DEADLINE_S, days, insert, tables, until

pytestmark = pytest.mark.integration

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
