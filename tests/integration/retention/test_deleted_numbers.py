"""Completeness of numbers whose rows retention deleted: excused by count, and no further."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from audit_platform.db.pool import Connection
from audit_platform.events.act_log import opened_act_log
from audit_platform.events.row_check import Deleted
from audit_platform.retention.classes import RetentionClasses
from audit_platform.retention.expire import Deletion, expirable, expire_file
from audit_platform.retention.late_expiry import LateDeletion, expire_late
from audit_platform.retention.partition_states import State
from audit_platform.retention.rules import Preset, RetentionRule, RuleBook
from audit_platform.retention.span import Span
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.factories import event
from tests.integration.events.shard import Shard
from tests.integration.retention.commands import run
from tests.integration.retention.counting import (
    EPOCH,
    ROWS,
    account,
    numbered_day,
    places,
    read,
    send,
)
from tests.integration.retention.lives import begin_life, live, row_of
from tests.integration.retention.merging import Merging

pytestmark = pytest.mark.integration

HOUR = timedelta(hours=1)
BOOK = RuleBook(
    preset=Preset.DEFAULT,
    hot=Span(days=30),
    stored={("*", "standard"): RetentionRule(keep=Span(days=60))},
)


@pytest.fixture
def merging(
    database: Database, maint: Connection, settings: Settings, shard: Shard, tmp_path: Path
) -> Merging:
    """A day with forty rows of one producer."""
    return numbered_day(database, maint, settings, shard, tmp_path)


def expire(merging: Merging, *, steps: int = 2) -> datetime:
    """Let the time of the day's file be over: marked, then deleted."""
    due = merging.life.bounds.hi + timedelta(days=60)
    context = merging.life.context()
    with opened_act_log(merging.settings) as log:
        given = Deletion(book=BOOK, store=context.store, copy_store=context.copy_store, log=log)
        for now in (due, due + HOUR)[:steps]:
            for file in expirable(merging.conn, BOOK, now=now):
                expire_file(merging.conn, file.partition, file.entry.path, given, now=now)
    return due


@pytest.mark.parametrize("steps", [1, 2], ids=["marked", "deleted"])
def test_numbers_of_an_expired_file_are_excused_and_no_more_than_those(
    merging: Merging, shard: Shard, settings: Settings, steps: int
) -> None:
    send(shard, [event(), event()], first=ROWS + 1)
    merging.bring_to(State.DROPPED)
    expire(merging, steps=steps)

    found = read(merging)

    one, check = account(found)
    assert found.is_complete
    assert one.is_complete
    assert found.deleted == Deleted(archived=ROWS, late=0)
    assert (check.rows, check.without_row, check.is_excused) == (2, ((1, ROWS),), True)
    told = f"{ROWS} numbers without a row, at most {ROWS} of them deleted by retention"
    result = run(settings, "completeness", "--verify", **places(merging.life))
    assert result.exit_code == 0, result.output
    assert told in result.output

    # One row more than retention deleted: nobody can tell which, so all of them are shown.
    shard.sql.execute(f"delete from audit.event where producer_seq = {ROWS + 1}".encode())
    result = run(settings, "completeness", "--verify", "--json", **places(merging.life))

    assert result.exit_code == 1
    made = json.loads(result.stdout)
    (one_json,) = [one for one in made["accounts"] if one["epoch"] == EPOCH]
    assert (made["is_complete"], one_json["without_row_excused"]) == (False, False)
    assert one_json["without_row"] == [[1, ROWS + 1]]
    assert made["deleted_by_retention"] == {"archived_rows": ROWS, "late_rows": 0}


def test_numbers_of_expired_late_rows_are_excused(
    database: Database, merging: Merging, shard: Shard, tmp_path: Path
) -> None:
    """The event about their deletion says how many: late, in its partition, then archived."""
    merging.bring_to(State.DROPPED)
    due = expire(merging)
    shard.drain()
    send(shard, merging.late_events(3), first=ROWS + 1)
    deleting = begin_life(database, tmp_path / "later", rows=0, day=due)
    with opened_act_log(merging.settings) as log:
        given = LateDeletion(book=BOOK, classes=RetentionClasses(), log=log)
        (gone,) = expire_late(merging.conn, merging.life.name, given, now=due + HOUR)
    assert gone.rows == 3
    shard.drain()
    # Both deletions of the archive: the second copy of the second life is that of the first.
    later = replace(deleting, archive=merging.life.archive, copy=merging.life.copy)

    for moment in (None, *later.moments):
        if moment is not None:
            live(merging.conn, later, now=moment)
        found = read(merging)
        assert found.deleted == Deleted(archived=ROWS, late=3)
        assert found.is_complete
        assert account(found)[1].without_row == ((1, ROWS + 3),)
    assert row_of(merging.conn, later).state is State.DROPPED
