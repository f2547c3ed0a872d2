"""Events delivered again for a day that only the archive has: nothing is opened for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from audit_platform.archive.store import open_store
from audit_platform.db.pool import Connection
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.retention.late_known import settle_known
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import mark_detach_started
from audit_platform.settings import Settings
from tests.conftest import KEY, Database
from tests.integration.events.shard import Shard
from tests.integration.retention.lives import (
    begin_life,
    cold_ids,
    has_table,
    live,
    row_of,
    visible_ids,
)
from tests.integration.retention.merging import DAY, Merging

pytestmark = pytest.mark.integration

ROWS = 60
AGAIN = 5


@pytest.fixture
def merging(database: Database, maint: Connection, settings: Settings, tmp_path: Path) -> Merging:
    life = begin_life(database, tmp_path, rows=ROWS)
    return Merging(conn=maint, database=database, settings=settings, life=life)


@pytest.fixture
def first(merging: Merging) -> list[dict[str, Any]]:
    """Events of the day that are stored in time; others may come later."""
    events = merging.late_events(AGAIN)
    assert merging.store(events).n_new == AGAIN
    return events


def bring_to(merging: Merging, state: State) -> None:
    if state is State.DETACH_STARTED:
        merging.bring_to(State.VERIFIED)
        assert mark_detach_started(merging.conn, merging.life.name)
    else:
        merging.bring_to(state)


def archived_ids(merging: Merging) -> list[str]:
    """Ids in the files of the record, sorted."""
    row = row_of(merging.conn, merging.life)
    store = open_store(merging.life.archive.as_uri())
    return sorted(cold_ids(store, [entry.path for entry in row.files]))


def ids_of(merging: Merging, events: Sequence[dict[str, Any]]) -> list[str]:
    return sorted([*merging.life.ids, *(one["id"] for one in events)])


@pytest.mark.parametrize("state", [State.DETACH_STARTED, State.DETACHED, State.DROPPED])
def test_a_day_is_not_opened_for_events_that_its_files_hold(
    merging: Merging, shard: Shard, first: list[dict[str, Any]], state: State
) -> None:
    bring_to(merging, state)
    before = row_of(merging.conn, merging.life)
    assert archived_ids(merging) == ids_of(merging, first)
    late = merging.store(first).n_late
    assert len(shard.late()) == late

    reports = merging.merge()

    if late:
        (report,) = reports
        assert (report.opened_from, report.added) == (None, 0)
        assert (report.duplicates, report.collided, report.problem) == (late, 0, None)
    assert shard.late() == {}
    assert row_of(merging.conn, merging.life) == before
    assert has_table(merging.database, merging.life) is (state is not State.DROPPED)
    assert archived_ids(merging) == ids_of(merging, first)
    assert visible_ids(merging.database, merging.life) == ids_of(merging, first)
    # Where the rows are still attached, the ingest job sees them itself.
    assert late == (0 if state is State.DETACH_STARTED else AGAIN)


def test_one_new_event_among_them_opens_the_day(
    merging: Merging, first: list[dict[str, Any]]
) -> None:
    merging.bring_to(State.DROPPED)
    new = merging.late_events(AGAIN + 1)[AGAIN:]
    merging.store([*first, *new])

    (report,) = merging.merge()

    assert (report.opened_from, report.added) == (State.DROPPED, 1)
    assert report.duplicates == AGAIN
    live(merging.conn, merging.life, now=merging.life.dropping + 2 * DAY)
    row = row_of(merging.conn, merging.life)
    assert (row.generation, row.n) == (2, ROWS + AGAIN + 1)
    assert archived_ids(merging) == ids_of(merging, [*first, *new])
    assert visible_ids(merging.database, merging.life) == ids_of(merging, [*first, *new])


def test_an_event_with_a_stored_id_and_another_content_opens_nothing_either(
    merging: Merging, shard: Shard, first: list[dict[str, Any]]
) -> None:
    merging.bring_to(State.DROPPED)
    before = row_of(merging.conn, merging.life)
    merging.store([first[0] | {"action": "user.delete"}, first[1]])

    (report,) = merging.merge()

    assert (report.opened_from, report.duplicates, report.collided) == (None, 1, 1)
    assert (len(shard.letters()), shard.late()) == (1, {})
    assert row_of(merging.conn, merging.life) == before


def test_a_stored_id_of_another_tenant_or_moment_is_another_event(
    merging: Merging, first: list[dict[str, Any]]
) -> None:
    """The key is tenant, moment and id: this row is in no file."""
    merging.bring_to(State.DROPPED)
    merging.store([first[0] | {"tenant_id": "another"}])

    (report,) = merging.merge()

    assert (report.opened_from, report.added) == (State.DROPPED, 1)


def test_many_are_looked_up_in_parts(
    merging: Merging, shard: Shard, first: list[dict[str, Any]]
) -> None:
    merging.bring_to(State.DROPPED)
    merging.store(first)
    store = merging.life.context().store
    row = row_of(merging.conn, merging.life)

    known = settle_known(
        merging.conn, row, store, DeadLetterVault.of_base64(KEY), at_a_time=AGAIN // 2
    )

    assert (known.duplicates, known.collided, known.has_new) == (AGAIN, 0, False)
    assert shard.late() == {}


def test_a_file_that_is_not_what_was_written_proves_nothing(
    merging: Merging, shard: Shard, first: list[dict[str, Any]]
) -> None:
    merging.bring_to(State.DROPPED)
    merging.store(first)
    (entry,) = row_of(merging.conn, merging.life).files
    path = merging.life.archive / entry.path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])

    (report,) = merging.merge()

    assert report.problem is not None
    assert len(shard.late()) == AGAIN
    path.write_bytes(whole)
    (later,) = merging.merge()
    assert (later.problem, later.duplicates, shard.late()) == (None, AGAIN, {})
