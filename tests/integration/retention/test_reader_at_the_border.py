"""No reader ever sees a day vanish, and no writer waits, while a day is sealed, moved and dropped.

P10 and R7 of the faults design. Every reader locks first, then takes its snapshot; the controls
lack that lock and see nothing.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_platform.db.pool import Connection
from audit_platform.retention.detach import Attachment, detach, read_attachment
from audit_platform.retention.partition_states import State, Step
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.integration.retention.companion import beside
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
from tests.integration.retention.merging import DAY, Merging

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROWS = 3_000
LEAST_HZ = 50
LONGEST_STALL_S = 0.25
QUIET_S = 3.0


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
    life = begin_life(database, tmp_path, rows=ROWS)
    merging = Merging(conn=maint, database=database, settings=settings, life=life)
    with ExitStack() as stack:
        readers = [
            stack.enter_context(beside("border_reader", **_reader(database, life, tenant=tenant)))
            for tenant in (None, TENANTS[0])
        ]
        writers = [
            stack.enter_context(beside("steady_writer", url=database.writer_url, shard=shard))
            for shard in (1, 2)
        ]
        _wait(QUIET_S)
        began_at = time.time()
        first = [one.step for moment in life.moments for one in live(maint, life, now=moment)]
        merging.store(merging.late_events(1))
        (merged,) = merging.merge(now=life.dropping + DAY)
        second = [
            one.step
            for days in (2, 10)
            for one in live(maint, life, now=life.dropping + days * DAY)
        ]
        ended_at = time.time()
        _wait(QUIET_S / 3)
        seen = [reader.end() for reader in readers]
        wrote = [writer.end() for writer in writers]

    _say(seen, wrote, began_at=began_at, ended_at=ended_at)
    assert (first, second) == (list(Step), list(Step))
    assert (merged.opened_from, merged.added) == (State.DROPPED, 1)
    row = row_of(maint, life)
    assert (row.state, row.generation, row.n) == (State.DROPPED, 2, ROWS + 1)
    # Neither less nor more, but for the one event that came.
    shares = (ROWS, ROWS // len(TENANTS))
    assert [one["changes"] for one in seen] == [[count, count + 1] for count in shares]
    for one in seen:
        assert one["places"] == ["PostgreSQL", "archive", "PostgreSQL", "archive"]
        assert one["twice"] == 0
    assert [one["failures"] for one in wrote] == [[], []]
    assert sum(one["other"] for one in wrote) == 0, "no event was late, bad or twice"
    quiet_s, busy_s = _stalls(wrote, began_at=began_at, ended_at=ended_at)
    if is_alone:
        assert min(one["hz"] for one in seen) >= LEAST_HZ
        # A machine that stalls by itself stalls here too: what counts is what maintenance adds.
        assert busy_s <= max(LONGEST_STALL_S, 2 * quiet_s)


def _reader(database: Database, life: Life, *, tenant: str | None) -> dict[str, object]:
    return {
        "url": database.maint_url if tenant is None else database.reader_url,
        "role": "audit_owner" if tenant is None else None,
        "archive_url": life.archive.as_uri(),
        "lo": life.bounds.lo.isoformat(),
        "hi": life.bounds.hi.isoformat(),
        "tenant": tenant,
    }


def _stalls(
    wrote: Sequence[dict[str, Any]], *, began_at: float, ended_at: float
) -> tuple[float, float]:
    """Longest wait of a batch before the maintenance, and during it."""
    waits = [(at, wait_s) for one in wrote for at, wait_s in one["waits"]]
    quiet = [wait_s for at, wait_s in waits if at < began_at]
    busy = [wait_s for at, wait_s in waits if began_at <= at <= ended_at]
    return max(quiet), max(busy)


def _say(
    seen: Sequence[dict[str, Any]],
    wrote: Sequence[dict[str, Any]],
    *,
    began_at: float,
    ended_at: float,
) -> None:
    quiet_s, busy_s = _stalls(wrote, began_at=began_at, ended_at=ended_at)
    stored = sum(one["stored"] for one in wrote)
    batches = sum(len(one["waits"]) for one in wrote)
    print(  # noqa: T201 - figures are wanted
        f"\nseal to drop in {ended_at - began_at:.1f} s; {stored:,} rows in {batches:,} batches "
        f"stored meanwhile, longest wait {busy_s * 1000:.0f} ms (before: {quiet_s * 1000:.0f} ms), "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for one in seen:
        print(json.dumps(one))  # noqa: T201 - likewise


def _wait(seconds: float) -> None:
    """Let the programs beside this one run: their time is what is measured."""
    deadline = time.monotonic() + seconds
    until(lambda: time.monotonic() > deadline, what="time passes")
