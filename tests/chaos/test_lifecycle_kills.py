"""P11, P03, P07, R08: the life of a partition, killed at each of its 12 points and in between.

A real process takes the steps and dies by SIGKILL; another one takes up what it left. After every
kill, and at the end, a reader finds each row once, and the end is that of a life without a kill.
"""

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from random import Random
from signal import SIGKILL

import pytest

from audit_platform.crash_points import CRASH_POINTS
from audit_platform.db.pool import Connection, connected
from audit_platform.retention.detach import Attachment, read_attachment
from audit_platform.retention.partition_states import State
from tests.chaos.harness.extent import amount, start_number
from tests.chaos.harness.life_report import Kill, publish_kills
from tests.chaos.harness.lifecycle_runs import (
    END_S,
    blocked_detach,
    in_both_copies,
    is_anybody_working,
    kill_at,
    met,
    run,
    seen_once,
    start,
)
from tests.conftest import Database
from tests.integration.retention.creation import until
from tests.integration.retention.lives import (
    LONG_AGO,
    Life,
    begin_life,
    has_table,
    live,
    row_of,
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

ROWS = 1_500
KILLS = amount(1, 5)
RANDOM_KILLS = amount(6, 60)
RESULT = "life of a partition"
POINTS = sorted(point for point in CRASH_POINTS if point.startswith("S_"))
# State that the kill leaves; the step after it is the one that has to be taken up.
LEFT = {
    "S_TRIGGERS": State.SEALED,
    "S_DIGEST": State.SEALED,
    "S_INDEXED": State.SEALED,
    "S_TMP_WRITTEN": State.SEALED,
    "S_RENAMED": State.SEALED,
    "S_SECOND_COPY": State.SEALED,
    "S_EXPORTED": State.EXPORTED,
    "S_VERIFIED": State.VERIFIED,
    "S_DETACH_MARKED": State.DETACH_STARTED,
    "S_DETACH_PENDING": State.DETACH_STARTED,
    "S_DETACHED": State.DETACHED,
    "S_DROP_UPDATED": State.DETACHED,
}
STEPS = ["seal", "index", "export", "verify", "detach", "drop"]
REACHED = {"S_DETACH_MARKED": 1, "S_DETACH_PENDING": 1, "S_DETACHED": 1, "S_DROP_UPDATED": 2}
"""Moment of the life at which the point is reached; the others at the first."""
HAPPENS_AGAIN = frozenset(POINTS) - {
    # A state that is recorded is not recorded again: the next run does not come past here.
    "S_TRIGGERS",
    "S_DIGEST",
    "S_EXPORTED",
    "S_VERIFIED",
    "S_DETACH_MARKED",
    "S_DETACH_PENDING",
    "S_DETACHED",
}


@pytest.fixture
def maint(database: Database) -> Iterator[Connection]:
    with connected(database.maint_url, application="test maint") as conn:
        yield conn


def test_every_point_of_the_design_is_killed_at() -> None:
    assert sorted(LEFT) == POINTS
    assert len(POINTS) == 12


@pytest.mark.parametrize("point", LEFT)
def test_life_killed_at_a_point_ends_as_one_without_a_kill(
    database: Database, maint: Connection, tmp_path: Path, point: str
) -> None:
    life = begin_life(database, tmp_path, rows=ROWS)
    is_blocked = point == "S_DETACH_PENDING"

    with blocked_detach(database, life) if is_blocked else nullcontext():
        for _ in range(KILLS if point in HAPPENS_AGAIN else 1):
            kill_at(database, life, point)
            assert row_of(maint, life).state is LEFT[point]
            seen_once(database, life)
    began_s = time.monotonic()
    # Time does not run backwards: the next run begins at the moment of the kill.
    said = run(database, life, moments=life.moments[REACHED.get(point, 0) :])
    recovery_s = time.monotonic() - began_s

    row = row_of(maint, life)
    assert (said["error"], said["postponed"], row.state) == (None, None, State.DROPPED)
    assert (row.n, row.last_error) == (ROWS, None)
    assert (row.sealed_at, row.detached_at, row.dropped_at) == life.moments
    assert not has_table(database, life)
    seen_once(database, life)
    in_both_copies(life, row)
    kills = Kill(
        point=point,
        kills=KILLS if point in HAPPENS_AGAIN else 1,
        recovery_s=recovery_s,
    )
    publish_kills(database, RESULT, [kills], rows=ROWS, part=point)


def test_life_without_a_kill_records_every_moment(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    """The measure for the others: what they end as."""
    life = begin_life(database, tmp_path, rows=ROWS)
    said = run(database, life)

    assert said["steps"] == STEPS
    row = row_of(maint, life)
    assert (row.sealed_at, row.detached_at, row.dropped_at) == life.moments
    seen_once(database, life)
    in_both_copies(life, row)


def test_life_killed_at_random_moments_ends_well(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    """Not at a named point, but whenever: in a COPY, in a rename, in the server's own steps."""
    seed = start_number()
    random = Random(seed)
    life = begin_life(database, tmp_path, rows=ROWS)
    began_s = time.monotonic()
    run(database, begin_other(database, tmp_path))
    whole_s = time.monotonic() - began_s
    kills = 0
    for _ in range(RANDOM_KILLS):
        process = start(database, life)
        try:
            process.communicate(timeout=random.uniform(0.3, 1.0) * whole_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += process.returncode == -SIGKILL
        seen_once(database, life)
    until(lambda: not is_anybody_working(database), what="server noticed the last kill")
    began_s = time.monotonic()
    said = run(database, life)
    recovery_s = time.monotonic() - began_s

    row = row_of(maint, life)
    assert (said["error"], row.state) == (None, State.DROPPED), seed
    seen_once(database, life)
    in_both_copies(life, row)
    assert kills > 0
    killed = Kill(point="at random", kills=kills, recovery_s=recovery_s)
    publish_kills(database, RESULT, [killed], rows=ROWS, part="random", seed=seed)


def begin_other(database: Database, place: Path) -> Life:
    """A second day, whose whole life tells how long one takes on this machine."""
    return begin_life(database, place / "other", rows=ROWS, day=LONG_AGO + timedelta(days=5))


def test_maintenance_killed_between_the_two_transactions_of_a_detach_is_finalised(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    """P03. The server notices the death only when its wait ends; the reader outlives that."""
    life = begin_life(database, tmp_path, rows=ROWS)
    live(maint, life, now=life.sealing)
    with blocked_detach(database, life):
        process = start(database, life, moments=[life.detaching])
        try:
            is_pending = met(
                lambda: read_attachment(maint, life.name) is Attachment.PENDING, process
            )
        finally:
            process.send_signal(SIGKILL)
            process.communicate()
        assert is_pending, "its first transaction committed"
        assert process.returncode == -SIGKILL
        until(lambda: not is_anybody_working(database), what="server ended the session")
        assert read_attachment(maint, life.name) is Attachment.PENDING
        seen_once(database, life)

        said = run(database, life, moments=[life.detaching], patience_s=2)
        assert said["postponed"], "the reader is still there"
        seen_once(database, life)
    said = run(database, life, moments=[life.detaching])

    assert (said["steps"], said["postponed"]) == (["detach"], None)
    assert row_of(maint, life).state is State.DETACHED
    assert read_attachment(maint, life.name) is Attachment.DETACHED
    seen_once(database, life)


def test_lock_of_a_killed_process_is_free_for_the_next(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    """P07: the advisory lock ends with the session of the dead, without anybody's help."""
    life = begin_life(database, tmp_path, rows=ROWS)
    kill_at(database, life, "S_TRIGGERS")
    until(lambda: not is_anybody_working(database), what="server noticed the kill")

    began_s = time.monotonic()
    said = run(database, life, moments=[life.sealing])

    assert said["error"] is None
    assert row_of(maint, life).state is State.VERIFIED
    assert time.monotonic() - began_s < END_S


def test_processes_at_the_same_time_do_each_step_once(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    """Whoever finds the partition locked says so and leaves; nothing is done twice."""
    life = begin_life(database, tmp_path, rows=ROWS)
    taken: list[str] = []
    errors: set[str | None] = set()
    for moment in life.moments:
        with ThreadPoolExecutor(3) as threads:
            futures = [threads.submit(run, database, life, moments=[moment]) for _ in range(3)]
            for said in [future.result() for future in futures]:
                taken += said["steps"]
                errors.add(said["error"])
        seen_once(database, life)

    assert sorted(taken) == sorted(STEPS)
    assert errors <= {None, "PartitionBusy"}
    row = row_of(maint, life)
    assert row.state is State.DROPPED
    in_both_copies(life, row)


def test_archive_disk_full_in_the_middle_of_a_file_leaves_nothing_and_the_state_as_it_was(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    """R08: short write (RLIMIT_FSIZE); the reason is noted, and with room the step is repeated."""
    life = begin_life(database, tmp_path, rows=ROWS)

    said = run(database, life, moments=[life.sealing], file_bytes=8_192)

    row = row_of(maint, life)
    assert (said["error"], row.state) == ("ArchiveFull", State.SEALED)
    assert row.last_error is not None
    assert row.last_error.startswith("export:")
    assert [path for path in life.archive.rglob("*") if path.is_file()] == []
    seen_once(database, life)
    assert run(database, life)["error"] is None
    row = row_of(maint, life)
    assert (row.state, row.last_error) == (State.DROPPED, None)
    seen_once(database, life)
    in_both_copies(life, row)
