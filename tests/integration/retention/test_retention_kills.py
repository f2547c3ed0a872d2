"""Merges and deletions killed in the middle: the next run ends as one that was never killed."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from audit_platform.db.pool import Connection
from audit_platform.events.act_log import opened_act_log
from audit_platform.retention.expire import Deletion, Outcome, expire_file
from audit_platform.retention.partition_states import State
from audit_platform.retention.rules import Preset, RetentionRule, RuleBook
from audit_platform.retention.span import Span
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.integration.events.shard import Shard
from tests.integration.retention.deadly import Place, expire, killed, merge, settle
from tests.integration.retention.lives import begin_life, live, row_of, visible_ids
from tests.integration.retention.merging import DAY, Merging

pytestmark = pytest.mark.integration

ROWS = 90
LATE = 6
BOOK = RuleBook(
    preset=Preset.DEFAULT,
    hot=Span(days=30),
    stored={("*", "standard"): RetentionRule(keep=Span(days=60))},
)


@pytest.fixture
def merging(database: Database, maint: Connection, settings: Settings, tmp_path: Path) -> Merging:
    life = begin_life(database, tmp_path, rows=ROWS)
    return Merging(conn=maint, database=database, settings=settings, life=life)


@pytest.fixture
def place(database: Database, settings: Settings, merging: Merging) -> Place:
    return Place(
        maint_url=database.maint_url,
        redis_url=settings.redis_url.get_secret_value(),
        key_prefix=settings.key_prefix,
        life=merging.life,
        now=merging.life.dropping + DAY,
        deadly="log",
    )


def test_a_merge_killed_while_it_opens_the_day_has_done_nothing(
    admin: Connection, merging: Merging, place: Place, shard: Shard
) -> None:
    merging.bring_to(State.VERIFIED)
    before = row_of(merging.conn, merging.life)
    merging.store(merging.late_events(LATE))
    seen = visible_ids(merging.database, merging.life)

    killed(admin, merge, place)

    assert row_of(merging.conn, merging.life) == before
    assert visible_ids(merging.database, merging.life) == seen
    (report,) = merging.merge()
    assert (report.opened_from, report.added) == (State.VERIFIED, LATE)
    assert visible_ids(merging.database, merging.life) == seen
    assert shard.late() == {}


def test_a_merge_killed_while_it_moves_rows_has_moved_none(
    admin: Connection, merging: Merging, place: Place, shard: Shard
) -> None:
    """One of the rows collides: its dead letter is made in the transaction that takes the rows."""
    first = merging.late_events(1)[0]
    merging.store([first])
    merging.bring_to(State.DROPPED)
    merging.store([*merging.late_events(LATE), first | {"action": "user.delete"}])
    assert len(shard.late()) == LATE + 1

    killed(admin, merge, replace(place, deadly="vault"))

    row = row_of(merging.conn, merging.life)
    assert (row.state, row.generation) == (State.OPEN, 2)
    assert len(shard.late()) == LATE + 1
    assert shard.letters() == []
    (report,) = merging.merge()
    assert (report.added, report.collided) == (LATE, 1)
    assert len(shard.letters()) == 1
    assert len(visible_ids(merging.database, merging.life)) == ROWS + 1 + LATE


@pytest.mark.parametrize("deadly", ["copy", "archive", "log"])
def test_a_deletion_killed_anywhere_is_ended_by_the_next_run(
    admin: Connection,
    merging: Merging,
    place: Place,
    settings: Settings,
    *,
    shard: Shard,
    deadly: str,
) -> None:
    merging.bring_to(State.DROPPED)
    life, conn = merging.life, merging.conn
    (entry,) = row_of(conn, life).files
    now = life.bounds.hi + timedelta(days=61)
    context = life.context()
    with opened_act_log(settings) as log:
        given = Deletion(book=BOOK, store=context.store, copy_store=context.copy_store, log=log)
        assert expire_file(conn, life.name, entry.path, given, now=now) is Outcome.MARKED

        later = now + timedelta(hours=2)
        killed(admin, expire, replace(place, deadly=deadly, now=later), BOOK, entry.path)
        assert row_of(conn, life).files[0].expired_at is None

        done = expire_file(conn, life.name, entry.path, given, now=later)

    assert done is Outcome.DELETED
    assert not (life.archive / entry.path).exists()
    assert not (life.copy / entry.path).exists()
    shard.drain()
    assert shard.rows(
        "select count(*) from audit.event_all where action = 'audit.archive.expire'"
    ) == [(1,)]


@pytest.mark.parametrize("deadly", ["copy", "archive", "log"])
def test_a_former_generation_killed_away_is_ended_by_the_next_run(
    admin: Connection, merging: Merging, place: Place, shard: Shard, deadly: str
) -> None:
    merging.bring_to(State.VERIFIED)
    merging.store(merging.late_events(LATE))
    merging.merge(now=merging.life.sealing + DAY)
    live(merging.conn, merging.life, now=merging.life.sealing + 2 * DAY)
    now = merging.life.sealing + 4 * DAY

    killed(admin, settle, replace(place, deadly=deadly, now=now))
    (report,) = merging.settle(now=now)

    assert (report.is_proved, report.problem) == (True, None)
    assert not [path for path in merging.paths() if ".g1." in path]
    assert len(visible_ids(merging.database, merging.life)) == ROWS + LATE
    shard.drain()
    assert shard.rows(
        "select count(*) from audit.event_all where action = 'audit.archive.delete_generation'"
    ) == [(1,)]
