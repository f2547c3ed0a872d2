"""No reader ever sees a day vanish, and no writer waits, while a day is sealed, moved and dropped.

P10 and R7 of the faults design. Every reader locks first, then takes its snapshot; the controls
lack that lock and see nothing.
"""

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_platform.db.pool import Connection
from audit_platform.retention.detach import Attachment, detach, read_attachment
from audit_platform.retention.partition_states import State, Step
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.integration.retention.border_life import watch_life
from tests.integration.retention.creation import until
from tests.integration.retention.detaching import detach_beside
from tests.integration.retention.lives import (
    TENANTS,
    Life,
    begin_life,
    count_hot,
    live,
    reading,
    row_of,
    visible_ids,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROWS = 3_000
LEAST_HZ = 50
LONGEST_STALL_S = 0.25


@pytest.fixture
def verified(database: Database, maint: Connection, tmp_path: Path) -> Life:
    made = begin_life(database, tmp_path, rows=300)
    live(maint, made, now=made.sealing, until=Step.VERIFY)
    return made


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_control_a_reader_without_the_lock_sees_a_day_vanish(
    database: Database, maint: Connection, verified: Life, level: str
) -> None:
    """It was told that the day is in PostgreSQL, and finds 0 of its rows there."""
    with psycopg.connect(database.admin_url, autocommit=True) as reader:
        reader.execute(f"begin isolation level {level} read only".encode())
        told = _told_state(reader, verified)
        result = detach(maint, verified.name, now=verified.detaching)
        seen = count_hot(reader, verified)
        reader.execute("rollback")

    assert (told, result.state) == ("verified", State.DETACHED)
    assert seen == 0


def test_reader_with_the_lock_sees_the_whole_day_although_its_detach_has_begun(
    database: Database, maint: Connection, verified: Life
) -> None:
    with reading(database) as reader:
        told = _told_state(reader, verified)
        future = detach_beside(database, verified)
        until(lambda: read_attachment(maint, verified.name) is Attachment.PENDING, what="pending")
        seen = count_hot(reader, verified)

    assert (told, seen) == ("verified", 300)
    assert future.result(60).state is State.DETACHED


def test_reader_that_was_sent_to_the_archive_reads_on_through_the_drop(
    database: Database, maint: Connection, verified: Life
) -> None:
    for moment in (verified.detaching, verified.dropping):
        live(maint, verified, now=moment)

    assert row_of(maint, verified).state is State.DROPPED
    assert visible_ids(database, verified) == list(verified.ids)


def _told_state(reader: "psycopg.Connection[Any]", life: Life) -> str:
    row = reader.execute(
        "select state from audit.partition where name = %s", [life.name]
    ).fetchone()
    assert row is not None
    return row[0]


def test_count_of_a_day_never_shrinks_from_seal_to_drop_and_again_while_writers_go_on(
    database: Database, maint: Connection, settings: Settings, tmp_path: Path
) -> None:
    """A whole life; then an event comes late, the day is opened again and lives once more."""
    # Beside other work the figures are printed, not judged: they would speak of that work.
    is_alone = os.getloadavg()[0] < (os.cpu_count() or 1)

    watched = watch_life(database, maint, settings, tmp_path, rows=ROWS)

    print(watched.text())  # noqa: T201 - figures are wanted
    assert (watched.first, watched.second) == (list(Step), list(Step))
    assert (watched.merged.opened_from, watched.merged.added) == (State.DROPPED, 1)
    row = watched.row
    assert (row.state, row.generation, row.n) == (State.DROPPED, 2, ROWS + 1)
    # Neither less nor more, but for the one event that came.
    assert [one["changes"] for one in watched.seen] == [
        [count, count + 1] for count in (ROWS, ROWS // len(TENANTS))
    ]
    for one in watched.seen:
        assert one["places"] == ["PostgreSQL", "archive", "PostgreSQL", "archive"]
        assert one["twice"] == 0
    assert [one["failures"] for one in watched.wrote] == [[], []]
    assert sum(one["other"] for one in watched.wrote) == 0, "no event was late, bad or twice"
    if is_alone:
        assert watched.hz >= LEAST_HZ
        # A machine that stalls by itself stalls here too: what counts is what maintenance adds.
        assert watched.busy_s <= max(LONGEST_STALL_S, 2 * watched.quiet_s)
