"""Restores killed at each of their points: nothing half done is seen, and the next one ends well.

A real process restores and dies by SIGKILL; after each kill a reader finds each row once, and what
the kill left is at most a table that no search reads, which `restore --remove` drops.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audit_platform.crash_points import CRASH_POINTS
from audit_platform.db.pool import Connection, connected
from audit_platform.retention.partition_states import State
from audit_platform.retention.removed_table import NOT_PROVED, beside_name
from tests.chaos.harness.doomed_restore import Act, Asked, act, act_and_die
from tests.chaos.harness.life_report import Kill, publish_kills
from tests.conftest import Database
from tests.integration.retention.archived import (
    archived_life,
    differences,
    fresh,
    one_value,
    tables_like,
)
from tests.integration.retention.deadly import killed
from tests.integration.retention.lives import RULES, Life, live, visible_ids

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

BESIDE = ("R_TABLE_MADE", "R_COPIED", "R_PROVED", "R_FILLED")
ATTACH = (*BESIDE, "R_ATTACHED", "R_COMMITTED", "R_INDEXED")
FROM_TABLE = ("R_PROVED", "R_ATTACHED", "R_COMMITTED")
"""Where the table is still there, no row comes from the archive."""
DRILL = ("R_TABLE_MADE", "R_COPIED", "R_PROVED")


@pytest.fixture
def maint(database: Database) -> Iterator[Connection]:
    with connected(database.maint_url, application="test maint") as conn:
        yield conn


@pytest.fixture
def admin(database: Database) -> Iterator[Connection]:
    with connected(database.admin_url, application="test admin") as conn:
        yield conn


@pytest.fixture
def dropped(database: Database, maint: Connection, tmp_path: Path) -> Life:
    return archived_life(database, maint, tmp_path, State.DROPPED)


def asked(database: Database, life: Life, what: Act) -> Asked:
    return Asked(
        act=what,
        maint_url=database.maint_url,
        archive_url=life.archive.as_uri(),
        partition=life.name,
        now=life.dropping,
    )


def test_every_point_of_a_restore_is_killed_at() -> None:
    points = {point for point in CRASH_POINTS if point.startswith("R_")}

    assert points == {*ATTACH, "R_REMOVED"}


def test_restore_beside_killed_at_each_point_ends_as_one_without_a_kill(
    database: Database, maint: Connection, admin: Connection, dropped: Life
) -> None:
    before, kills = visible_ids(database, dropped), list[Kill]()
    table = beside_name(dropped.name)
    restoring = asked(database, dropped, Act.BESIDE)
    removing = replace(restoring, act=Act.REMOVE)
    for point in BESIDE:
        killed(admin, act_and_die, restoring, point)

        is_done = point == "R_FILLED"
        assert tables_like(database, f"%{dropped.name}") == [table]
        assert fresh(maint, dropped).restored_as == (table if is_done else None)
        assert is_unproved(database, table) is not is_done
        assert visible_ids(database, dropped) == before
        kills.append(_recovered(maint, restoring, f"restore {point}", kills=2))
        assert differences(database, table).mismatches == 0
        assert fresh(maint, dropped).restored_as == table
        act(maint, removing)
        assert tables_like(database, f"%{dropped.name}") == []

        # Nobody has to restore in order to be rid of what a kill left.
        killed(admin, act_and_die, restoring, point)
        act(maint, removing)
        assert tables_like(database, f"%{dropped.name}") == []
        assert fresh(maint, dropped).restored_as is None
    act(maint, restoring)
    killed(admin, act_and_die, removing, "R_REMOVED")
    assert tables_like(database, f"%{dropped.name}") == [table]
    kills.append(_recovered(maint, removing, "restore R_REMOVED"))
    assert (tables_like(database, f"%{dropped.name}"), visible_ids(database, dropped)) == (
        [],
        before,
    )
    publish_kills(database, "restores beside", kills, rows=len(before))


def test_restore_of_a_dropped_day_killed_at_each_point_ends_attached(
    database: Database, maint: Connection, admin: Connection, dropped: Life
) -> None:
    before, kills = visible_ids(database, dropped), list[Kill]()
    restoring = asked(database, dropped, Act.ATTACH)
    for point in ATTACH:
        # From then on the day is searched; what a repeat adds are its cold indexes.
        is_done = point in {"R_COMMITTED", "R_INDEXED"}
        # The process also takes up what the one before it left.
        killed(admin, act_and_die, restoring, point)

        kills.append(Kill(point=f"attach {point}", kills=1 if is_done else 2))
        assert fresh(maint, dropped).state is (State.VERIFIED if is_done else State.DROPPED)
        assert tables_like(database, f"%{dropped.name}") == [dropped.name]
        assert visible_ids(database, dropped) == before
        if not is_done:
            act(maint, replace(restoring, act=Act.REMOVE))
            assert tables_like(database, f"%{dropped.name}") == []
            killed(admin, act_and_die, restoring, point)

    row = fresh(maint, dropped)
    assert (row.restored_as, row.restored_at) == (dropped.name, dropped.dropping)
    assert differences(database, dropped.name).mismatches == 0
    # An attached day is no leftover: its life goes on as after a restore without a kill.
    act(maint, replace(restoring, act=Act.REMOVE))
    assert tables_like(database, f"%{dropped.name}") == [dropped.name]
    leaving = dropped.dropping + RULES.hot_for
    live(maint, dropped, now=leaving)
    live(maint, dropped, now=leaving + RULES.grace)
    assert fresh(maint, dropped).state is State.DROPPED
    assert visible_ids(database, dropped) == before
    publish_kills(database, "restores attached", kills, rows=len(before))


def test_restore_of_a_detached_day_killed_at_each_point_ends_attached(
    database: Database, maint: Connection, admin: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.DETACHED)
    before = visible_ids(database, life)
    restoring = asked(database, life, Act.ATTACH)
    for point in FROM_TABLE:
        killed(admin, act_and_die, restoring, point)

        is_done = point == "R_COMMITTED"
        assert fresh(maint, life).state is (State.VERIFIED if is_done else State.DETACHED)
        # It holds the rows: it is nothing that a restore left.
        act(maint, replace(restoring, act=Act.REMOVE))
        assert tables_like(database, life.name) == [life.name]
        assert visible_ids(database, life) == before
    assert differences(database, life.name).mismatches == 0


def test_killed_restore_of_a_detached_day_whose_table_was_lost_is_taken_up(
    database: Database, maint: Connection, admin: Connection, tmp_path: Path
) -> None:
    """The empty table of the first restore must not pass for the table of the day."""
    life = archived_life(database, maint, tmp_path, State.DETACHED)
    before = visible_ids(database, life)
    admin.execute(f"drop table audit.{life.name}".encode())
    restoring = asked(database, life, Act.ATTACH)
    killed(admin, act_and_die, restoring, "R_COPIED")
    assert is_unproved(database, life.name)

    act(maint, replace(restoring, act=Act.REMOVE))
    assert tables_like(database, life.name) == []
    killed(admin, act_and_die, restoring, "R_COPIED")
    act(maint, restoring)

    assert fresh(maint, life).state is State.VERIFIED
    assert visible_ids(database, life) == before
    assert differences(database, life.name).mismatches == 0


def test_drill_killed_at_each_point_leaves_no_record_and_the_next_one_passes(
    database: Database, maint: Connection, admin: Connection, dropped: Life
) -> None:
    drilling = asked(database, dropped, Act.DRILL)
    for point in DRILL:
        killed(admin, act_and_die, drilling, point)

        assert tables_like(database, "drill%") == [f"drill_{dropped.name}"]
        assert one_value(database, "select count(*) from audit.restore_drill") == 0
    act(maint, replace(drilling, act=Act.REMOVE))
    assert tables_like(database, "drill%") == []
    killed(admin, act_and_die, drilling, DRILL[-1])
    act(maint, drilling)

    assert tables_like(database, "drill%") == []
    assert one_value(database, "select count(*) from audit.restore_drill") == 1


def is_unproved(database: Database, table: str) -> bool:
    remark = one_value(database, "select obj_description(%s::regclass)", f"audit.{table}")
    return remark == NOT_PROVED


def _recovered(conn: Connection, what: Asked, point: str, *, kills: int = 1) -> Kill:
    began_s = time.monotonic()
    act(conn, what)
    return Kill(point=point, kills=kills, recovery_s=time.monotonic() - began_s)
