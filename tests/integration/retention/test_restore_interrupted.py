"""Restores that are interrupted, and readers beside them: nothing half done is ever seen."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import psycopg
import pytest

from audit_platform.archive.local_store import LocalStore
from audit_platform.archive.store import open_store
from audit_platform.db.pool import Connection, connected
from audit_platform.errors import DatabaseUnavailable, LockNotAvailable, StepRefused
from audit_platform.retention.drill import drill_partition
from audit_platform.retention.lifecycle import DDL_LOCK_KEY
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import one_at_a_time
from audit_platform.retention.reattach import reattach
from audit_platform.retention.restore import restore_day
from audit_platform.retention.restored_table import RestoreReport
from tests.conftest import Database
from tests.integration.retention.archived import (
    archived_life,
    differences,
    fresh,
    one_value,
    tables_like,
)
from tests.integration.retention.lives import RULES, Life, live, visible_ids

pytestmark = pytest.mark.integration

LEAST_POLLS = 20


class Interrupting(LocalStore):
    """An archive that does something each time a file of rows is opened."""

    def __init__(self, directory: Path, act: Callable[[], None]) -> None:
        super().__init__(directory)
        self._act = act

    def open(self, path: str) -> BinaryIO:
        if path.endswith(".parquet"):
            self._act()
        return super().open(path)


@pytest.fixture
def dropped(database: Database, maint: Connection, tmp_path: Path) -> Life:
    return archived_life(database, maint, tmp_path, State.DROPPED)


def end_process(database: Database, pid: int) -> None:
    """End the server process of a connection."""
    with psycopg.connect(database.admin_url) as admin:
        admin.execute("select pg_terminate_backend(%s)", [pid])


@pytest.mark.parametrize("is_attached", [False, True])
def test_restore_whose_connection_breaks_is_taken_up_by_the_next(
    database: Database, maint: Connection, dropped: Life, is_attached: bool
) -> None:
    before = visible_ids(database, dropped)
    row, store = fresh(maint, dropped), open_store(dropped.archive.as_uri())
    with connected(database.maint_url, application="interrupted") as conn:
        pid = conn.info.backend_pid
        breaking = Interrupting(dropped.archive, lambda: end_process(database, pid))
        with pytest.raises(DatabaseUnavailable):
            restore_day(conn, row, breaking, attach=is_attached, now=dropped.dropping)
    between = fresh(maint, dropped)
    (left,) = tables_like(database, f"%{dropped.name}")
    assert one_value(database, f"select count(*) from audit.{left}") == 0
    assert (between.state, between.restored_as) == (State.DROPPED, None)
    assert visible_ids(database, dropped) == before

    report = restore_day(maint, row, store, attach=is_attached, now=dropped.dropping)

    assert report.table == left
    assert differences(database, left).mismatches == 0
    assert visible_ids(database, dropped) == before


def test_drill_whose_connection_breaks_is_no_record_and_the_next_one_passes(
    database: Database, maint: Connection, dropped: Life
) -> None:
    openings: list[str] = []

    def end_at_the_restore(pid: int) -> None:
        # The first opening is that of the verification, the second that of the restore.
        openings.append("one more")
        if len(openings) > 1:
            end_process(database, pid)

    with connected(database.maint_url, application="interrupted") as conn:
        pid = conn.info.backend_pid
        store = Interrupting(dropped.archive, lambda: end_at_the_restore(pid))
        with pytest.raises(DatabaseUnavailable):
            drill_partition(conn, dropped.name, store, now=dropped.dropping)

    report = drill_partition(
        maint, dropped.name, open_store(dropped.archive.as_uri()), now=dropped.dropping
    )

    assert report is not None
    assert report.mismatches == 0
    assert one_value(database, "select count(*) from audit.restore_drill") == 1
    assert tables_like(database, "drill%") == []


def test_filled_table_that_could_not_be_attached_is_filled_anew(
    database: Database, maint: Connection, dropped: Life
) -> None:
    """As after a kill between the proof and the attach: the table is there, nobody reads it."""
    before = visible_ids(database, dropped)
    store = open_store(dropped.archive.as_uri())
    with (
        connected(database.maint_url, application="another") as other,
        other.transaction(),
        one_at_a_time(maint, dropped.name),
    ):
        other.execute("select pg_advisory_xact_lock(%s)", [DDL_LOCK_KEY])
        with pytest.raises(LockNotAvailable):
            reattach(maint, fresh(maint, dropped), store, now=dropped.dropping, patience_s=0.1)
    assert fresh(maint, dropped).state is State.DROPPED
    assert tables_like(database, dropped.name) == [dropped.name]
    assert visible_ids(database, dropped) == before

    restore_day(maint, fresh(maint, dropped), store, attach=True, now=dropped.dropping)

    assert fresh(maint, dropped).state is State.VERIFIED
    assert visible_ids(database, dropped) == before


def test_attached_day_that_lacks_an_index_gets_it_by_a_repeat_and_no_other_one(
    database: Database, maint: Connection, dropped: Life
) -> None:
    """As after a kill between the attach and the indexes; the day is searched meanwhile."""
    store = open_store(dropped.archive.as_uri())

    def attach() -> RestoreReport:
        row = fresh(maint, dropped)
        return restore_day(maint, row, store, attach=True, now=dropped.dropping)

    attach()
    index = f"audit.{dropped.name}_text"
    with psycopg.connect(database.admin_url) as admin:
        admin.execute(f"drop index {index}".encode())
    before = visible_ids(database, dropped)

    report = attach()

    assert (report.rows, report.is_attached, report.seconds) == (len(before), True, 0.0)
    assert one_value(database, "select to_regclass(%s) is not null", index)
    assert visible_ids(database, dropped) == before
    with pytest.raises(StepRefused, match="attached, and searches read it there"):
        attach()


@pytest.mark.parametrize("state", [State.DETACHED, State.DROPPED])
def test_reader_sees_each_row_once_while_the_day_comes_back_and_goes_again(
    database: Database, maint: Connection, tmp_path: Path, state: State
) -> None:
    life = archived_life(database, maint, tmp_path, state)
    before = visible_ids(database, life)
    stop = threading.Event()

    def poll() -> list[list[str]]:
        seen: list[list[str]] = []
        while not stop.is_set() or len(seen) < LEAST_POLLS:
            seen.append(visible_ids(database, life))
        return seen

    with ThreadPoolExecutor(max_workers=1) as pool:
        polling = pool.submit(poll)
        try:
            store = open_store(life.archive.as_uri())
            restore_day(maint, fresh(maint, life), store, attach=True, now=life.dropping)
            live(maint, life, now=life.dropping + RULES.hot_for)
            assert fresh(maint, life).state is State.DETACHED
        finally:
            stop.set()
        seen = polling.result(60)

    assert len(seen) >= LEAST_POLLS
    assert all(one == before for one in seen)
