"""How long a waiting FINALIZE keeps others waiting, by its lock time-out.

The figures of docs/decisions/0019-finalize-gives-way.md: run with `-s`. `AUDIT_TEST_CHAOS=full`
adds the time-outs that were not chosen.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from audit_platform.db.pool import Connection
from audit_platform.retention.detach import FINALIZE_TIMEOUT, detach
from audit_platform.retention.partition_states import State
from tests.chaos.harness.extent import IS_FULL
from tests.conftest import Database
from tests.factories import event
from tests.integration.events.store import Writer, frame_of, open_writer
from tests.integration.retention.creation import until
from tests.integration.retention.detaching import ROWS, half_detached, verified
from tests.integration.retention.lives import Life, count_hot, reading
from tests.integration.retention.test_half_detached import is_waiting_for_snapshots

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

OLD_READERS = 3
APART_S = 1.2
TIMEOUTS = (FINALIZE_TIMEOUT, "2s", "20s") if IS_FULL else (FINALIZE_TIMEOUT,)


@pytest.mark.parametrize("lock_timeout", TIMEOUTS)
def test_nobody_waits_for_a_waiting_finalize_longer_than_its_time_out(
    database: Database, maint: Connection, tmp_path: Path, lock_timeout: str
) -> None:
    life = verified(database, maint, tmp_path)
    stop, pause = threading.Event(), threading.Event()
    writer = open_writer(database.writer_url)
    with (
        closing(writer.connection),
        ExitStack() as readers,
        ThreadPoolExecutor(3) as threads,
    ):
        older = [readers.enter_context(reading(database)) for _ in range(OLD_READERS)]
        for one in older:
            one.execute("select state from audit.partition where name = %s", [life.name])
        with half_detached(database, maint, life):
            finalizing = threads.submit(keep_finalizing, database, life, lock_timeout, stop)
            inserting = threads.submit(timed, lambda: insert(writer), stop)
            looking = threads.submit(timed, lambda: look(database), stop)
            waits: list[float | None] = []
            try:
                for one in older:
                    until(lambda: is_waiting_for_snapshots(database), what="FINALIZE waits")
                    pause.wait(APART_S)
                    waits.append(touch(one, life))
                    # It holds the partition now: FINALIZE would wait for that, not for snapshots.
                    one.execute("rollback")
            finally:
                stop.set()
    attempts = finalizing.result(60)
    insert_s, look_s = inserting.result(60), looking.result(60)

    seconds = ", ".join("40P01" if wait is None else f"{wait:.2f}" for wait in waits)
    print(  # noqa: T201 - the figures of the decision
        f"\nFINALIZE with lock_timeout {lock_timeout}, {attempts} attempts: readers with an older"
        f" snapshot waited {seconds} s; longest insert {max(insert_s):.3f} s of {len(insert_s)};"
        f" longest new reader {max(look_s):.3f} s of {len(look_s)}"
    )
    assert detach(maint, life.name, now=life.detaching).state is State.DETACHED
    if lock_timeout == FINALIZE_TIMEOUT:
        assert None not in waits


def keep_finalizing(
    database: Database, life: Life, lock_timeout: str, stop: threading.Event
) -> int:
    """As the detach does: try, give way, try again; returns how often."""
    finalize = sql.SQL("alter table audit.event detach partition {} finalize").format(
        sql.Identifier("audit", life.name)
    )
    attempts = 0
    with psycopg.connect(database.admin_url, autocommit=True) as conn:
        conn.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(lock_timeout)))
        while not stop.is_set():
            attempts += 1
            try:
                conn.execute(finalize)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                stop.wait(0.05)
            else:
                return attempts
    return attempts


def touch(reader: "psycopg.Connection[object]", life: Life) -> float | None:
    """Seconds until a reader had the rows; None if its transaction was ended for it."""
    began_s = time.monotonic()
    try:
        assert count_hot(reader, life) == ROWS
    except psycopg.errors.DeadlockDetected:
        return None
    return time.monotonic() - began_s


def insert(writer: Writer) -> None:
    """Store one event of now, as the ingest job does."""
    assert writer.save(frame_of([event()])).n_new == 1


def look(database: Database) -> None:
    """A new reader of the present, as every search is."""
    with reading(database) as conn:
        conn.execute("select count(*) from audit.event where timestamp > now() - interval '1 hour'")


def timed(act: Callable[[], None], stop: threading.Event) -> list[float]:
    waits: list[float] = []
    while not stop.is_set() or not waits:
        began_s = time.monotonic()
        act()
        waits.append(time.monotonic() - began_s)
    return waits
