"""Indexes of a sealed partition: whole or absent, used by queries, and the table frozen."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.errors import (
    DatabaseUnavailable,
    LockNotAvailable,
    PartitionLost,
    PermissionRefused,
)
from audit_platform.retention.cold_indexes import COLD_INDEXES, SEARCH_TEXT, build_cold_indexes
from audit_platform.retention.partition_states import State, Step, following_step
from audit_platform.retention.partition_table import mark_indexed
from tests.conftest import Database
from tests.integration.retention.creation import DEADLINE_S, until
from tests.integration.retention.sealing import DAY, DUE, record_of, seal_day, store_rows

pytestmark = pytest.mark.integration

NAMES = tuple(f"{DAY.name}_{index.suffix}" for index in COLD_INDEXES)


@pytest.fixture
def sealed(database: Database, maint: Connection) -> None:
    """A sealed day with 600 rows."""
    store_rows(database, 600)
    seal_day(maint)


@pytest.mark.usefixtures("sealed")
def test_sealed_partition_gets_all_cold_indexes(maint: Connection, admin: Connection) -> None:
    report = build_cold_indexes(maint, DAY.name)

    assert report.created == NAMES
    assert set(NAMES) <= valid_indexes(admin)


@pytest.mark.usefixtures("sealed")
def test_repeat_builds_nothing_and_what_is_missing_is_built(
    maint: Connection, admin: Connection
) -> None:
    build_cold_indexes(maint, DAY.name)
    assert build_cold_indexes(maint, DAY.name).created == ()

    admin.execute(f"drop index audit.{NAMES[1]}".encode())

    assert build_cold_indexes(maint, DAY.name).created == (NAMES[1],)


@pytest.mark.usefixtures("sealed")
def test_indexes_are_recorded_once_and_the_export_is_next(maint: Connection) -> None:
    assert following_step(record_of(maint)) is Step.INDEX
    build_cold_indexes(maint, DAY.name)

    assert mark_indexed(maint, DAY.name, generation=1, now=DUE)
    assert not mark_indexed(maint, DAY.name, generation=1, now=DUE)

    row = record_of(maint)
    assert (row.state, row.indexed_at) == (State.SEALED, DUE)
    assert following_step(row) is Step.EXPORT


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize(
    ("condition", "index", "rows"),
    [
        ("""metadata::jsonb @> '{"number": 77}'""", "metadata", 1),
        ("""changes::jsonb @> '{"active": {"new": false}}'""", "changes", 200),
        (f"{SEARCH_TEXT} @@ to_tsquery('simple', 'größenwahn & 35')", "text", 1),
        ("tenant_id = 'acme' and source = 'admin' and action = 'user.login'", "source", 34),
    ],
)
def test_query_finds_its_rows_through_its_index(
    maint: Connection, admin: Connection, condition: str, index: str, rows: int
) -> None:
    build_cold_indexes(maint, DAY.name)
    query = f"select id from audit.event where \"timestamp\" < '2025-07-01' and {condition}"

    admin.execute("set enable_seqscan = off")  # 600 rows: a scan costs less than any index
    if index == "source":  # a hot index serves the same condition almost as well
        admin.execute("drop index audit.event_action")
    plan = "\n".join(row[0] for row in admin.execute(f"explain {query}".encode()))

    assert f"{DAY.name}_{index}" in plan
    assert len(admin.execute(query.encode()).fetchall()) == rows


@pytest.mark.usefixtures("sealed")
def test_table_is_frozen_analysed_and_all_visible(maint: Connection, admin: Connection) -> None:
    build_cold_indexes(maint, DAY.name)

    # Pages at the end that COPY made beforehand and nobody filled stay as they are.
    row = admin.execute(
        f"""select relallvisible =
               (select count(distinct (ctid::text::point)[0]) from only audit.{DAY.name}),
             relallvisible > 0, reltuples, age(relfrozenxid) < 200,
             (select count(*) > 10 from pg_stats where schemaname = 'audit' and tablename = relname)
           from pg_class where oid = %s::regclass""".encode(),
        [f"audit.{DAY.name}"],
    ).fetchone()
    assert row == (True, True, 600.0, True, True)


def test_missing_table_is_named(maint: Connection) -> None:
    with pytest.raises(PartitionLost, match=DAY.name):
        build_cold_indexes(maint, DAY.name)


@pytest.mark.usefixtures("sealed")
def test_login_without_the_rights_of_the_owner_is_told_so(
    maint: Connection, admin: Connection
) -> None:
    """PostgreSQL itself warns, skips the vacuum and reports success."""
    admin.execute("grant audit_owner to audit_maint with inherit false")
    try:
        with pytest.raises(PermissionRefused, match="inherit"):
            build_cold_indexes(maint, DAY.name)
    finally:
        admin.execute("grant audit_owner to audit_maint with inherit true")


@pytest.mark.usefixtures("sealed")
def test_readers_go_on_while_indexes_are_built(
    database: Database, maint: Connection, admin: Connection
) -> None:
    with connected(database.admin_url, application="reader") as reader, reader.transaction():
        reader.execute("set local lock_timeout = '100ms'")
        count = f"select count(*) from audit.{DAY.name}".encode()
        assert reader.execute(count).fetchone() == (600,)

        build_cold_indexes(maint, DAY.name)

        assert reader.execute(count).fetchone() == (600,)
    assert set(NAMES) <= valid_indexes(admin)


@pytest.mark.usefixtures("sealed")
def test_other_maintenance_of_the_table_is_waited_for_but_not_for_ever(
    database: Database, maint: Connection
) -> None:
    with connected(database.admin_url, application="other") as other, other.transaction():
        other.execute(f"lock table audit.{DAY.name} in share update exclusive mode".encode())

        with pytest.raises(LockNotAvailable):
            build_cold_indexes(maint, DAY.name, patience=timedelta(seconds=0.5))


@pytest.mark.usefixtures("sealed")
def test_index_whose_building_was_killed_is_absent_and_built_by_the_next(
    database: Database, maint: Connection, admin: Connection
) -> None:
    """The backend dies while it waits for the table, with its statement under way."""
    with (
        ThreadPoolExecutor(1) as threads,
        connected(database.maint_url, application="doomed") as doomed,
    ):
        with admin.transaction():
            admin.execute(f"lock table audit.{DAY.name} in share update exclusive mode".encode())
            building = threads.submit(build_cold_indexes, doomed, DAY.name)
            until(lambda: killed(database), what="the builder waits, and is killed")
        with pytest.raises(DatabaseUnavailable):
            building.result(DEADLINE_S)

    assert not set(NAMES) & valid_indexes(admin)
    assert build_cold_indexes(maint, DAY.name).created == NAMES


def valid_indexes(admin: Connection) -> set[str]:
    rows = admin.execute(
        """select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
           where i.indrelid = %s::regclass and i.indisvalid and i.indisready""",
        [f"audit.{DAY.name}"],
    ).fetchall()
    return {row[0] for row in rows}


def killed(database: Database) -> bool:
    """End the builder's backend once it waits for its lock; True when it was hit."""
    with connected(database.admin_url, application="killer") as killer:
        rows = killer.execute(
            """select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and application_name like '%%doomed'
                 and wait_event_type = 'Lock'"""
        ).fetchall()
    return bool(rows)
