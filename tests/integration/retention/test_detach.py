"""Detach on a real server: readers are sent away first, nobody is harmed, nothing is guessed.

The rows of R7 (faults design) that speak of detaching; what stops in the middle is in
`test_half_detached.py`.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.errors import (
    PartitionBusy,
    PartitionLost,
    StepRefused,
)
from audit_platform.retention.detach import Attachment, DetachResult, detach, read_attachment
from audit_platform.retention.holds import HoldScope, place, release
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import one_at_a_time
from tests.conftest import Database
from tests.integration.retention.creation import until
from tests.integration.retention.detaching import (
    ROWS,
    detach_beside,
    is_waiting_for,
    verified,
)
from tests.integration.retention.lives import (
    LONG_AGO,
    Life,
    begin_life,
    count_hot,
    reading,
    row_of,
    visible_ids,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def life(database: Database, maint: Connection, tmp_path: Path) -> Life:
    """A verified day."""
    return verified(database, maint, tmp_path)


def test_detached_partition_is_a_table_of_its_own_and_its_rows_are_seen_once(
    database: Database, maint: Connection, life: Life
) -> None:
    result = detach(maint, life.name, now=life.detaching)

    assert result == DetachResult(state=State.DETACHED)
    assert read_attachment(maint, life.name) is Attachment.DETACHED
    assert row_of(maint, life).detached_at == life.detaching
    assert visible_ids(database, life) == list(life.ids)


def test_detach_gives_the_session_back_as_it_was(maint: Connection, life: Life) -> None:
    maint.execute("set lock_timeout = '7s'")

    detach(maint, life.name, now=life.detaching)

    found = maint.execute("select current_user, current_setting('lock_timeout')").fetchone()
    assert found == ("audit_maint", "7s")


def test_repeated_detach_changes_nothing(maint: Connection, life: Life) -> None:
    detach(maint, life.name, now=life.detaching)
    before = row_of(maint, life)

    again = detach(maint, life.name, now=life.detaching + timedelta(days=1))

    assert again == DetachResult(state=State.DETACHED)
    assert row_of(maint, life) == before


def test_detach_waits_for_a_reader_that_came_first(
    database: Database, maint: Connection, life: Life
) -> None:
    with reading(database) as reader:
        found = reader.execute("select state from audit.partition where name = %s", [life.name])
        assert found.fetchone() == ("verified",)
        future = detach_beside(database, life)
        until(lambda: row_of(maint, life).state is State.DETACH_STARTED, what="border moved")
        until(
            lambda: read_attachment(maint, life.name) is Attachment.PENDING, what="first half done"
        )
        seen = count_hot(reader, life)
        assert visible_ids(database, life) == list(life.ids), "a later reader reads the archive"

    assert seen == ROWS
    assert future.result(60) == DetachResult(state=State.DETACHED)
    assert visible_ids(database, life) == list(life.ids)


@pytest.mark.parametrize("login", ["maint_url", "admin_url"])
def test_detach_is_put_off_while_a_transaction_reads_for_too_long(
    database: Database, maint: Connection, life: Life, login: str
) -> None:
    """The age of an administrator's transaction is hidden from maintenance: it is watched."""
    with reading(database, url=getattr(database, login)) as reader:
        began = time.monotonic()
        until(lambda: time.monotonic() > began + 0.6, what="the reader is old enough")
        result = detach(maint, life.name, now=life.detaching, oldest_transaction_s=0.5)

        assert result.state is State.VERIFIED
        assert "audit.event" in (result.postponed_because or "")
        assert count_hot(reader, life) == ROWS
    assert row_of(maint, life).state is State.VERIFIED, "readers were not sent away"
    assert detach(maint, life.name, now=life.detaching).state is State.DETACHED


def test_short_readers_of_hidden_age_do_not_put_the_detach_off(
    database: Database, maint: Connection, life: Life
) -> None:
    """Searches come and go all the time; each of them alone is short."""
    stop = threading.Event()

    def search() -> int:
        searches = 0
        while not stop.is_set():
            with reading(database, url=database.admin_url):
                searches += 1
        return searches

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(search) for _ in range(2)]
        try:
            result = detach(maint, life.name, now=life.detaching, oldest_transaction_s=5)
        finally:
            stop.set()
        searches = sum(reader.result() for reader in readers)

    assert result == DetachResult(state=State.DETACHED)
    assert searches > 0


def test_hold_that_keeps_rows_hot_puts_the_detach_off(
    database: Database, maint: Connection, life: Life
) -> None:
    scope = HoldScope(tenant_id="acme", lo=life.bounds.lo, hi=life.bounds.hi, keep_hot=True)
    held = place(
        maint,
        hold_id=uuid4(),
        case_id="case-7",
        scope=scope,
        reason="dispute",
        placed_by="test",
        now=life.sealing,
    )

    result = detach(maint, life.name, now=life.detaching)

    assert result.state is State.VERIFIED
    assert "case-7" in (result.postponed_because or "")
    release(maint, [held.hold_id], released_by="test", now=life.detaching)
    assert detach(maint, life.name, now=life.detaching).state is State.DETACHED
    assert visible_ids(database, life) == list(life.ids)


def test_hold_being_placed_is_waited_for(database: Database, admin: Connection, life: Life) -> None:
    with ThreadPoolExecutor(1) as threads:
        with admin.transaction():
            admin.execute(
                """insert into audit.legal_hold
                     (hold_id, case_id, tenant_id, lo, hi, keep_hot, reason, placed_by)
                   values (gen_random_uuid(), 'case-8', '*', %s, %s, true, 'test', 'test')""",
                [life.bounds.lo, life.bounds.hi],
            )
            future = threads.submit(detach_now, database, life)
            until(lambda: is_waiting_for(admin, "audit.legal_hold"), what="detach waits")
        result = future.result(30)

    assert result.state is State.VERIFIED
    assert "case-8" in (result.postponed_because or "")


def detach_now(database: Database, life: Life) -> DetachResult:
    with connected(database.maint_url, application="detach now") as conn:
        return detach(conn, life.name, now=life.detaching)


def test_lock_of_another_maintenance_on_the_parent_is_waited_out(
    database: Database, maint: Connection, admin: Connection, life: Life
) -> None:
    with connected(database.maint_url, application="vacuum", role="audit_owner") as other:
        with other.transaction():
            # What VACUUM, ANALYZE and ATTACH take.
            other.execute("lock table only audit.event in share update exclusive mode")
            future = detach_beside(database, life)
            until(lambda: is_waiting_for(admin, "audit.event"), what="detach waits")
        result = future.result(60)

    assert result == DetachResult(state=State.DETACHED)
    assert row_of(maint, life).state is State.DETACHED


def test_partition_detached_by_hand_is_recorded_and_read_from_the_archive(
    database: Database, maint: Connection, admin: Connection, life: Life
) -> None:
    admin.execute(f"alter table audit.event detach partition audit.{life.name}".encode())
    assert visible_ids(database, life) == [], "the damage that the next step heals"

    result = detach(maint, life.name, now=life.detaching)

    assert result == DetachResult(state=State.DETACHED)
    assert visible_ids(database, life) == list(life.ids)


def test_partition_whose_table_is_gone_is_read_from_the_archive(
    database: Database, maint: Connection, admin: Connection, life: Life
) -> None:
    admin.execute(f"drop table audit.{life.name}".encode())

    result = detach(maint, life.name, now=life.detaching)

    assert result == DetachResult(state=State.DETACHED)
    assert visible_ids(database, life) == list(life.ids)


def test_partition_without_a_verified_archive_is_not_detached(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = begin_life(database, tmp_path, rows=10)

    with pytest.raises(StepRefused) as refused:
        detach(maint, life.name, now=life.detaching)

    assert refused.value.fields["reason"] == "state"
    assert row_of(maint, life).state is State.OPEN


def test_unknown_partition_is_named(maint: Connection) -> None:
    with pytest.raises(PartitionLost, match="event_19990101"):
        detach(maint, "event_19990101", now=LONG_AGO)


def test_second_process_leaves_a_busy_partition_alone(
    database: Database, maint: Connection, life: Life
) -> None:
    with (
        connected(database.maint_url, application="other") as other,
        one_at_a_time(other, life.name),
        pytest.raises(PartitionBusy),
    ):
        detach(maint, life.name, now=life.detaching)

    assert row_of(maint, life).state is State.VERIFIED
