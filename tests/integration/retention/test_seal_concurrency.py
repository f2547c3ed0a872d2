"""Seals beside writers, creators and copies of the same job: nobody waits who need not."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.errors import (
    LockNotAvailable,
    PartitionBusy,
)
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import bounds_for
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import one_at_a_time, read_groups
from tests.conftest import Database
from tests.integration.retention.creation import DEADLINE_S, insert, until
from tests.integration.retention.sealing import (
    DAY,
    groups_by_hand,
    leaves_in_sql,
    put,
    record_of,
    root_by_hand,
    seal_day,
    standard,
    store_rows,
)

pytestmark = pytest.mark.integration

NOON = DAY.lo + timedelta(hours=12)


def test_row_of_a_writer_that_began_earlier_is_part_of_the_seal(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 10)
    with (
        ThreadPoolExecutor(1) as threads,
        connected(database.admin_url, application="test") as writer,
    ):
        with writer.transaction():
            put(writer, NOON)
            sealing = threads.submit(seal_day, maint)
            until(lambda: _is_waiting(admin), what="the seal waits for the writer")
            until(lambda: not _is_waiting(admin), what="the seal gave up once")
            put(writer, NOON)

        report = sealing.result(DEADLINE_S)

    assert report.n == 12
    assert record_of(maint).leaf_digest == leaves_in_sql(admin, DAY.name)[3]


def test_writer_that_never_ends_leaves_the_partition_open(
    database: Database, maint: Connection
) -> None:
    store_rows(database, 10)
    with connected(database.admin_url, application="test") as writer, writer.transaction():
        put(writer, NOON)

        with pytest.raises(LockNotAvailable):
            seal_day(maint, patience_s=0.5)
        assert record_of(maint).state is State.OPEN
        put(writer, NOON)


def test_writers_of_other_partitions_never_wait_for_a_seal(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 2_000)
    stop = threading.Event()

    def write() -> list[float]:
        waits_s: list[float] = []
        with connected(database.writer_url, application="test") as writer:
            # A lock that a seal kept from this writer would end the test here.
            writer.execute("set lock_timeout = '100ms'")
            while not stop.is_set():
                began_s = time.monotonic()
                insert(writer, datetime.now(UTC))
                waits_s.append(time.monotonic() - began_s)
        return waits_s

    with (
        ThreadPoolExecutor(2) as threads,
        connected(database.admin_url, application="test") as holder,
    ):
        writing = threads.submit(write)
        try:
            with holder.transaction():
                put(holder, NOON)
                sealing = threads.submit(seal_day, maint)
                until(lambda: _is_waiting(admin), what="the seal waits")
            assert sealing.result(DEADLINE_S).n == 2_001
        finally:
            stop.set()
        waits_s = writing.result(DEADLINE_S)

    assert len(waits_s) > 10


def test_of_many_copies_of_the_job_one_seals_and_the_others_say_busy(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 300)
    start = threading.Barrier(6)

    def run() -> bytes | None:
        with connected(database.maint_url, application="sealer") as conn:
            start.wait(DEADLINE_S)
            try:
                return seal_day(conn).root
            except PartitionBusy:
                return None

    with ThreadPoolExecutor(6) as threads:
        roots = [one.result(DEADLINE_S) for one in [threads.submit(run) for _ in range(6)]]

    assert {root for root in roots if root} == {
        root_by_hand(groups_by_hand(admin, DAY.name, standard))
    }
    assert sum(one.n for one in read_groups(maint, DAY.name, 1)) == 300


def test_seal_leaves_a_partition_alone_that_another_process_works_on(
    database: Database, maint: Connection
) -> None:
    store_rows(database, 5)
    with connected(database.maint_url, application="other") as other:
        with one_at_a_time(other, DAY.name):
            with pytest.raises(PartitionBusy, match=DAY.name):
                seal_day(maint)
            assert record_of(maint).state is State.OPEN

        assert seal_day(maint).n == 5


def test_lock_of_a_process_ends_with_its_connection(database: Database, maint: Connection) -> None:
    store_rows(database, 5)
    with connected(database.maint_url, application="other") as other:
        with one_at_a_time(other, DAY.name):
            other.close()  # as a SIGKILL would

        until(lambda: _seals(maint), what="the lock of the dead session is gone")


def test_partitions_are_created_while_another_is_sealed(
    database: Database, maint: Connection
) -> None:
    store_rows(database, 5)
    ahead = bounds_for(datetime(2032, 1, 1, tzinfo=UTC), "day")
    with (
        connected(database.maint_url, application="creator") as creator,
        ThreadPoolExecutor(1) as threads,
    ):
        creating = threads.submit(ensure_partitions, creator, [ahead])

        assert seal_day(maint).n == 5
        assert creating.result(DEADLINE_S) == (ahead.name,)


def _is_waiting(admin: Connection) -> bool:
    row = admin.execute(
        """select exists (select from pg_locks
           where relation = %s::regclass and mode = 'ShareRowExclusiveLock' and not granted)""",
        [f"audit.{DAY.name}"],
    ).fetchone()
    return row == (True,)


def _seals(maint: Connection) -> bool:
    try:
        return seal_day(maint).n == 5
    except PartitionBusy:
        return False
