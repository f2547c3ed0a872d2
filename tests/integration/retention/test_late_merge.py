"""Late rows end in their partition, whatever state that is in, and each is seen once (P05, P06)."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from audit_platform.db.pool import Connection
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import mark_detach_started
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.factories import event
from tests.integration.events.shard import Shard
from tests.integration.retention.lives import (
    LONG_AGO,
    begin_life,
    has_table,
    live,
    row_of,
    visible_ids,
)
from tests.integration.retention.merging import DAY, Merging

pytestmark = pytest.mark.integration

ROWS = 120
LATE = 7


@pytest.fixture
def merging(database: Database, maint: Connection, settings: Settings, tmp_path: Path) -> Merging:
    life = begin_life(database, tmp_path, rows=ROWS)
    return Merging(conn=maint, database=database, settings=settings, life=life)


def _late_count(shard: Shard) -> int:
    return len(shard.late())


@pytest.mark.parametrize(
    "state", [State.VERIFIED, State.DETACH_STARTED, State.DETACHED, State.DROPPED]
)
def test_late_rows_of_an_archived_day_are_merged(
    merging: Merging, shard: Shard, state: State
) -> None:
    if state is State.DETACH_STARTED:
        merging.bring_to(State.VERIFIED)
        assert mark_detach_started(merging.conn, merging.life.name)
    else:
        merging.bring_to(state)
    events = merging.late_events(LATE)
    assert merging.store(events).n_late == LATE
    expected = sorted([*merging.life.ids, *(one["id"] for one in events)])
    assert visible_ids(merging.database, merging.life) == expected

    (report,) = merging.merge()

    assert (report.problem, report.skipped) == (None, None)
    assert (report.opened_from, report.added, report.duplicates) == (state, LATE, 0)
    assert visible_ids(merging.database, merging.life) == expected
    assert _late_count(shard) == 0
    row = row_of(merging.conn, merging.life)
    assert (row.state, row.generation, row.root) == (State.OPEN, 2, None)


def test_the_day_is_archived_again_with_all_rows(merging: Merging) -> None:
    merging.bring_to(State.DROPPED)
    events = merging.late_events(LATE)
    merging.store(events)
    merging.merge()

    now = merging.life.dropping + 2 * DAY
    live(merging.conn, merging.life, now=now)
    live(merging.conn, merging.life, now=now + 8 * DAY)

    row = row_of(merging.conn, merging.life)
    assert (row.state, row.generation, row.n) == (State.DROPPED, 2, ROWS + LATE)
    assert not has_table(merging.database, merging.life)
    expected = sorted([*merging.life.ids, *(one["id"] for one in events)])
    assert visible_ids(merging.database, merging.life) == expected


def test_rows_of_a_day_that_never_had_a_partition_make_one(merging: Merging, shard: Shard) -> None:
    made = event(timestamp=LONG_AGO - timedelta(days=400))
    assert merging.store([made]).n_late == 1

    (report,) = merging.merge()

    assert (report.partition, report.opened_from, report.added) == ("event_20240427", None, 1)
    assert shard.rows("select id::text from audit.event_20240427") == [(made["id"],)]
    assert _late_count(shard) == 0


def test_a_table_that_somebody_dropped_is_made_again(merging: Merging, shard: Shard) -> None:
    """P05: open partitions are gone; their rows came late, and nothing else stopped."""
    moment = merging.life.bounds.hi + timedelta(days=3)
    merging.store([event(timestamp=moment)])
    (first,) = merging.merge()
    shard.sql.execute(f"drop table audit.{first.partition}".encode())
    made = event(timestamp=moment)
    assert merging.store([made]).n_late == 1

    (report,) = merging.merge()

    assert (report.added, report.problem) == (1, None)
    assert made["id"] in shard.stored_ids()


@pytest.mark.parametrize("state", [State.VERIFIED, State.DROPPED])
def test_a_late_copy_of_a_stored_event_is_a_duplicate(
    merging: Merging, shard: Shard, state: State
) -> None:
    first = merging.late_events(1)[0]
    merging.store([first])
    merging.bring_to(state)
    if state is State.VERIFIED:
        # The ingest job would see the copy; it cannot where the rows are archived.
        shard.sql.execute(
            "insert into audit.event_late"
            f" select e.*, 'sealed', now() from audit.{merging.life.name} e"
            f" where id = '{first['id']}'".encode()
        )
    else:
        merging.store([first])
    assert _late_count(shard) == 1

    (report,) = merging.merge()

    assert (report.added, report.duplicates, report.collided) == (0, 1, 0)
    assert _late_count(shard) == 0
    assert visible_ids(merging.database, merging.life).count(first["id"]) == 1


def test_a_late_row_with_a_stored_id_and_another_content_is_a_dead_letter(
    merging: Merging, shard: Shard
) -> None:
    first = merging.late_events(1)[0]
    merging.store([first])
    merging.bring_to(State.DROPPED)
    forged = first | {"action": "user.delete", "severity": 3, "metadata": {"n": 12345678901234567}}
    merging.store([forged])

    (report,) = merging.merge()

    assert (report.added, report.duplicates, report.collided) == (0, 0, 1)
    assert _late_count(shard) == 0
    (letter,) = shard.letters()
    kept = json.loads(letter.raw)
    assert letter.reason == "id_collision"
    assert {name: kept[name] for name in forged} == forged
    assert visible_ids(merging.database, merging.life).count(first["id"]) == 1


def test_an_opening_is_an_event_of_the_log(merging: Merging, shard: Shard) -> None:
    merging.bring_to(State.VERIFIED)
    before = row_of(merging.conn, merging.life)
    merging.store(merging.late_events(1))

    merging.merge()
    shard.drain()

    ((user_id, actor_type, entity_id, metadata),) = shard.rows(
        "select user_id, actor_type, entity_id, metadata from audit.event_all"
        " where action = 'audit.partition.reopen'"
    )
    assert (user_id, actor_type, entity_id) == ("late merge", "system", merging.life.name)
    assert before.root is not None
    assert metadata == {
        "state": "verified",
        "generation": 1,
        "rows": ROWS,
        "root": before.root.hex(),
    }


@pytest.mark.parametrize("state", [State.VERIFIED, State.DROPPED])
def test_a_reader_sees_each_row_once_all_the_time(merging: Merging, state: State) -> None:
    merging.bring_to(state)
    merging.store(merging.late_events(LATE))
    expected = ROWS + LATE
    stop, counts = threading.Event(), set[int]()

    def read() -> int:
        looks = 0
        while not stop.is_set() or looks == 0:
            found = visible_ids(merging.database, merging.life)
            assert len(found) == len(set(found))
            counts.add(len(found))
            looks += 1
        return looks

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(read)
        merging.merge()
        live(merging.conn, merging.life, now=merging.life.dropping + 2 * DAY)
        stop.set()
        looks = looking.result(timeout=60)

    assert counts == {expected}, f"{looks} looks"


def test_merging_nothing_does_nothing(merging: Merging) -> None:
    merging.bring_to(State.DROPPED)

    assert merging.merge() == []
    assert row_of(merging.conn, merging.life).state is State.DROPPED
