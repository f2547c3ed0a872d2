"""Seals killed at their points and at random moments: the next run ends where no kill had been."""

import random
import subprocess
import sys
import threading
from signal import SIGKILL

import psycopg
import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.errors import DatabaseUnavailable
from audit_platform.retention.cold_indexes import COLD_INDEXES
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import read_groups
from tests.conftest import Database
from tests.integration.retention.creation import DEADLINE_S, until
from tests.integration.retention.sealing import (
    DAY,
    DUE,
    groups_by_hand,
    leaves_in_sql,
    put,
    record_of,
    root_by_hand,
    seal_day,
    standard,
    store_rows,
)

pytestmark = pytest.mark.integration

RANDOM_KILLS = 8
# The two steps as the job takes them, in a process that may kill itself at a point.
JOB = """
import sys
from datetime import datetime, timedelta
from audit_platform.crash_points import arm
from audit_platform.db.pool import connected
from audit_platform.retention.cold_indexes import build_cold_indexes
from audit_platform.retention.partition_states import LifecycleRules
from audit_platform.retention.partition_table import mark_indexed, read_partition
from audit_platform.retention.seal import seal

url, name, now, point = sys.argv[1], sys.argv[2], datetime.fromisoformat(sys.argv[3]), sys.argv[4]
rules = LifecycleRules(
    seal_after=timedelta(hours=48), hot_for=timedelta(days=30), grace=timedelta(days=7)
)
arm(point or None)
with connected(url, application="sealer") as conn:
    seal(conn, name, rules=rules, class_of=lambda source, action: "standard", now=now)
    build_cold_indexes(conn, name)
    mark_indexed(conn, name, generation=read_partition(conn, name).generation, now=now)
"""


@pytest.mark.parametrize(
    ("point", "state", "has_root"),
    [
        ("S_TRIGGERS", State.SEALED, False),
        ("S_DIGEST", State.SEALED, True),
        ("S_INDEXED", State.SEALED, True),
    ],
)
def test_job_killed_at_a_point_is_completed_by_the_next(
    database: Database,
    maint: Connection,
    admin: Connection,
    *,
    point: str,
    state: State,
    has_root: bool,
) -> None:
    store_rows(database, 300)

    assert start_job(database, point).wait(DEADLINE_S) == -SIGKILL

    left = record_of(maint)
    assert (left.state, left.root is not None, left.indexed_at) == (state, has_root, None)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        put(admin, DAY.lo)
    until(lambda: not is_working(admin), what="the server noticed the kill")
    assert start_job(database).wait(DEADLINE_S) == 0
    check_end_state(maint, admin, rows=300)


def test_jobs_killed_at_random_moments_end_in_the_same_state(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 4_000)
    seed = random.randrange(1 << 32)
    chance, pause = random.Random(seed), threading.Event()
    exits: list[int] = []

    for _ in range(RANDOM_KILLS):
        job = start_job(database)
        until(lambda job=job: is_working(admin) or job.poll() is not None, what="job began")
        pause.wait(chance.uniform(0, 0.3))
        job.kill()
        exits.append(job.wait(DEADLINE_S))
        until(lambda: not is_working(admin), what="the server noticed the kill")

    assert -SIGKILL in exits, f"seed {seed}: the machine is too fast for these moments"
    assert start_job(database).wait(DEADLINE_S) == 0
    check_end_state(maint, admin, rows=4_000)


def test_connection_lost_while_rows_are_read_leaves_a_seal_to_go_on_with(
    database: Database, maint: Connection, admin: Connection
) -> None:
    store_rows(database, 300)
    with connected(database.maint_url, application="sealer") as conn:

        def class_of(_source: str, _action: str) -> str:
            # Asked in the middle of the stream.
            admin.execute("select pg_terminate_backend(%s)", [conn.info.backend_pid])
            return "standard"

        with pytest.raises(DatabaseUnavailable):
            seal_day(conn, class_of=class_of)
    assert (record_of(maint).state, record_of(maint).root) == (State.SEALED, None)

    until(lambda: not is_working(admin), what="the session is gone")
    assert seal_day(maint).n == 300


def start_job(database: Database, point: str = "") -> "subprocess.Popen[bytes]":
    arguments = [database.maint_url, DAY.name, DUE.isoformat(), point]
    return subprocess.Popen([sys.executable, "-c", JOB, *arguments])


def is_working(admin: Connection) -> bool:
    row = admin.execute(
        """select exists (select from pg_stat_activity
           where datname = current_database() and application_name like '%%sealer')"""
    ).fetchone()
    return row == (True,)


def check_end_state(maint: Connection, admin: Connection, *, rows: int) -> None:
    """Compare with what the rows come to by other means."""
    row = record_of(maint)
    groups = groups_by_hand(admin, DAY.name, standard)
    assert (row.n, row.min_id, row.max_id, row.leaf_digest) == leaves_in_sql(admin, DAY.name)
    assert (row.state, row.n, row.indexed_at) == (State.SEALED, rows, DUE)
    assert row.root == root_by_hand(groups)
    assert [one.root for one in read_groups(maint, DAY.name, 1)] == [one.root for one in groups]
    found = admin.execute(
        """select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
           where i.indrelid = %s::regclass and i.indisvalid""",
        [f"audit.{DAY.name}"],
    ).fetchall()
    assert {f"{DAY.name}_{index.suffix}" for index in COLD_INDEXES} <= {name for (name,) in found}
