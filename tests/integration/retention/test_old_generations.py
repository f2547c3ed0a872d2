"""Files of a former generation go only after every row in them was found again."""

from datetime import timedelta
from pathlib import Path

import pytest

from audit_platform.archive.store import open_store
from audit_platform.db.pool import Connection
from audit_platform.retention.old_generations import missing_rows
from audit_platform.retention.partition_generations import list_generations
from audit_platform.retention.partition_states import State
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.integration.events.shard import Shard
from tests.integration.retention.lives import begin_life, live, row_of
from tests.integration.retention.merging import DAY, Merging, unheard_log

pytestmark = pytest.mark.integration

ROWS = 150
LATE = 5


@pytest.fixture
def merging(database: Database, maint: Connection, settings: Settings, tmp_path: Path) -> Merging:
    """A day that was verified, opened again for late rows, and verified again."""
    life = begin_life(database, tmp_path, rows=ROWS)
    made = Merging(conn=maint, database=database, settings=settings, life=life)
    made.bring_to(State.VERIFIED)
    made.store(made.late_events(LATE))
    (report,) = made.merge(now=life.sealing + DAY)
    assert report.added == LATE
    return made


def _reseal(merging: Merging) -> None:
    live(merging.conn, merging.life, now=merging.life.sealing + 2 * DAY)
    row = row_of(merging.conn, merging.life)
    assert (row.state, row.generation, row.n) == (State.VERIFIED, 2, ROWS + LATE)


def _old(merging: Merging) -> set[str]:
    return {path for path in merging.paths() if ".g1." in path}


def test_nothing_is_judged_before_the_new_archive_is_verified(merging: Merging) -> None:
    assert merging.settle(now=merging.life.sealing + 9 * DAY) == []
    assert _old(merging)


def test_old_files_stay_a_day_and_then_go_from_both_copies(merging: Merging) -> None:
    _reseal(merging)
    verified = merging.life.sealing + 2 * DAY
    old = _old(merging)
    assert len(old) >= 2, "files and manifest"

    (first,) = merging.settle(now=verified + timedelta(hours=23))
    assert (first.is_proved, first.deleted_files, first.problem) == (True, 0, None)
    assert _old(merging) == old

    (second,) = merging.settle(now=verified + timedelta(hours=24))
    assert (second.is_proved, second.deleted_files) == (True, len(old))
    assert _old(merging) == set()
    assert any(".g2." in path for path in merging.paths())
    assert merging.settle(now=verified + 3 * DAY) == [], "it is done"


def test_the_roots_of_a_former_generation_stay(merging: Merging, shard: Shard) -> None:
    _reseal(merging)
    merging.settle(now=merging.life.sealing + 9 * DAY)

    ((generation, n, has_proof, is_deleted),) = shard.rows(
        "select generation, n, proved_at is not null, files_deleted_at is not null"
        " from audit.partition_generation"
    )
    assert (generation, n, has_proof, is_deleted) == (1, ROWS, True, True)
    assert shard.rows("select count(*) > 0 from audit.partition_group where generation = 1") == [
        (True,)
    ]


def test_the_deletion_is_one_event_also_when_it_is_repeated(merging: Merging, shard: Shard) -> None:
    _reseal(merging)
    late = merging.life.sealing + 9 * DAY
    merging.settle(now=merging.life.sealing + 2 * DAY)
    with unheard_log() as log:
        (killed,) = merging.settle_with(log, now=late)
    assert killed.problem is not None
    (done,) = merging.settle(now=late + DAY)
    shard.drain()

    assert done.problem is None
    found = shard.rows(
        "select entity_id, metadata from audit.event_all"
        " where action = 'audit.archive.delete_generation'"
    )
    assert [(name, metadata["generation"]) for name, metadata in found] == [(merging.life.name, 1)]


def test_files_stay_while_a_row_of_them_is_missing(admin: Connection, merging: Merging) -> None:
    """Somebody with the owner's rights removed a row between the opening and the new seal."""
    name = merging.life.name
    (victim,) = admin.execute(
        f"delete from audit.{name} where id = (select min(id::text)::uuid from audit.{name})"
        " returning id".encode()
    ).fetchall()
    live(merging.conn, merging.life, now=merging.life.sealing + 2 * DAY)
    old = _old(merging)

    (report,) = merging.settle(now=merging.life.sealing + 9 * DAY)

    assert not report.is_proved
    assert report.problem is not None
    assert str(victim[0]) in report.problem
    assert _old(merging) == old
    assert str(victim[0]) in (row_of(merging.conn, merging.life).last_error or "")


def test_a_damaged_new_file_proves_nothing(merging: Merging) -> None:
    _reseal(merging)
    entry = row_of(merging.conn, merging.life).files[0]
    path = merging.life.archive / entry.path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    (report,) = merging.settle(now=merging.life.sealing + 9 * DAY)

    assert not report.is_proved
    assert report.problem is not None
    assert _old(merging)


def test_rows_are_compared_in_both_directions_of_time(merging: Merging) -> None:
    _reseal(merging)
    store = open_store(merging.life.archive.as_uri())
    new = row_of(merging.conn, merging.life).files
    (former,) = list_generations(merging.conn, merging.life.name)

    assert missing_rows(store, former.files, new).count == 0
    back = missing_rows(store, new, former.files)
    assert back.count == LATE
    assert len(back.sample) == LATE


def test_a_second_opening_is_proved_against_the_last(merging: Merging) -> None:
    _reseal(merging)
    merging.store([one | {"entity_id": "x"} for one in merging.late_events(3, user_id="late")])
    (again,) = merging.merge(now=merging.life.sealing + 3 * DAY)
    assert again.added == 3
    live(merging.conn, merging.life, now=merging.life.sealing + 4 * DAY)

    reports = merging.settle(now=merging.life.sealing + 6 * DAY)

    assert [(one.generation, one.is_proved) for one in reports] == [(1, True), (2, True)]
    assert all(".g3." in path for path in merging.paths())
