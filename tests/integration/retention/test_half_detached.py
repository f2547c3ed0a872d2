"""Detaches that stopped between their two transactions: found, finished, harmless to readers.

P02 of the faults design; killed ones are in `tests/chaos/test_lifecycle_kills.py`.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from audit_platform.db.pool import Connection
from audit_platform.errors import (
    DatabaseError,
    PartitionBusy,
)
from audit_platform.retention.detach import Attachment, DetachResult, detach, read_attachment
from audit_platform.retention.partition_states import State
from tests.conftest import Database
from tests.integration.retention.creation import until
from tests.integration.retention.detaching import (
    NEXT_DAY,
    ROWS,
    detach_beside,
    half_detached,
    verified,
)
from tests.integration.retention.lives import (
    Life,
    count_hot,
    reading,
    visible_ids,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def life(database: Database, maint: Connection, tmp_path: Path) -> Life:
    """A verified day."""
    return verified(database, maint, tmp_path)


def test_detach_stopped_by_a_long_reader_is_finalised_later(
    database: Database, maint: Connection, life: Life
) -> None:
    """P02: the pending state is found, hides no row from anybody, and is ended by the next run."""
    with half_detached(database, maint, life) as reader:
        assert count_hot(reader, life) == ROWS, "the reader that came first still sees its rows"
        assert visible_ids(database, life) == list(life.ids)

    result = detach(maint, life.name, now=life.detaching)

    assert result == DetachResult(state=State.DETACHED)
    assert visible_ids(database, life) == list(life.ids)


def test_reader_is_not_chosen_as_a_deadlock_victim_while_a_detach_is_finalised(
    database: Database, maint: Connection, life: Life
) -> None:
    """FINALIZE holds the partition while it waits for snapshots; the reader wants the partition."""
    with half_detached(database, maint, life) as reader:
        future = detach_beside(database, life)
        until(lambda: is_waiting_for_snapshots(database), what="FINALIZE waits for the reader")
        seen = count_hot(reader, life)

    assert seen == ROWS
    assert future.result(60) == DetachResult(state=State.DETACHED)


def test_control_with_a_patient_finalize_the_reader_is_the_victim(
    database: Database, maint: Connection, life: Life
) -> None:
    """Without the short lock time-out PostgreSQL ends the reader's transaction (40P01)."""
    with half_detached(database, maint, life) as reader, ThreadPoolExecutor(1) as threads:
        finalize = threads.submit(finalize_patiently, database, life)
        until(lambda: is_waiting_for_snapshots(database), what="FINALIZE waits")
        # Its own look for a deadlock, after 1 s, is over by then and found none.
        threading.Event().wait(1.5)
        with pytest.raises(psycopg.errors.DeadlockDetected):
            count_hot(reader, life)
        reader.execute("rollback")
        assert finalize.result(30) is None

    assert detach(maint, life.name, now=life.detaching).state is State.DETACHED


def finalize_patiently(database: Database, life: Life) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as conn:
        conn.execute("set lock_timeout = '20s'")
        conn.execute(
            f"alter table audit.event detach partition audit.{life.name} finalize".encode()
        )


def _detach(life: Life, how: str) -> bytes:
    return f"alter table audit.event detach partition audit.{life.name} {how}".encode()


def is_waiting_for_snapshots(database: Database) -> bool:
    with psycopg.connect(database.admin_url, autocommit=True) as conn:
        row = conn.execute(
            """select exists (select from pg_locks as l join pg_stat_activity as a using (pid)
               where l.locktype = 'virtualxid' and not l.granted and a.query like '%finalize%'
               and a.datname = current_database())"""
        ).fetchone()
    return row == (True,)


def test_interrupted_detach_of_another_partition_is_finalised_first(
    database: Database, maint: Connection, life: Life, tmp_path: Path
) -> None:
    """PostgreSQL refuses a second concurrent detach (55000) while one is pending."""
    other = verified(database, maint, tmp_path, day=NEXT_DAY)
    with half_detached(database, maint, life):
        pass

    result = detach(maint, other.name, now=other.detaching)

    assert result == DetachResult(state=State.DETACHED)
    assert read_attachment(maint, life.name) is Attachment.DETACHED
    assert detach(maint, life.name, now=life.detaching) == DetachResult(state=State.DETACHED)
    for one in (life, other):
        assert visible_ids(database, one) == list(one.ids)


def test_partition_half_detached_by_hand_raises_an_alarm(
    database: Database, maint: Connection, life: Life, tmp_path: Path
) -> None:
    """Its rows are invisible and its record sends readers to PostgreSQL: nobody may guess."""
    other = verified(database, maint, tmp_path, day=NEXT_DAY)
    with reading(database) as reader:
        count_hot(reader, other)
        with psycopg.connect(database.admin_url, autocommit=True) as conn:
            conn.execute("set lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                conn.execute(_detach(other, "concurrently"))

    with pytest.raises(DatabaseError, match=other.name):
        detach(maint, life.name, now=life.detaching)


def test_partition_half_detached_by_hand_is_healed_by_its_own_detach(
    database: Database, maint: Connection, life: Life
) -> None:
    with reading(database) as reader:
        count_hot(reader, life)
        with psycopg.connect(database.admin_url, autocommit=True) as conn:
            conn.execute("set lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                conn.execute(_detach(life, "concurrently"))

    assert detach(maint, life.name, now=life.detaching) == DetachResult(state=State.DETACHED)
    assert visible_ids(database, life) == list(life.ids)


def test_two_detaches_of_different_partitions_do_not_meet(
    database: Database, maint: Connection, life: Life, tmp_path: Path
) -> None:
    """The second would take the pending state of the first for an interrupted detach."""
    other = verified(database, maint, tmp_path, day=NEXT_DAY)
    with reading(database) as reader:
        count_hot(reader, life)
        future = detach_beside(database, life)
        until(lambda: read_attachment(maint, life.name) is Attachment.PENDING, what="half done")

        with pytest.raises(PartitionBusy):
            detach(maint, other.name, now=other.detaching)

    assert future.result(60) == DetachResult(state=State.DETACHED)
    assert detach(maint, other.name, now=other.detaching) == DetachResult(state=State.DETACHED)
