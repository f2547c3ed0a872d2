"""Queries as Arrow batches: streamed, read-only, in one snapshot, ended when left early."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from audit_platform.db.arrow_rows import arrow_rows
from audit_platform.db.pool import OWNER_ROLE, Connection, connected
from audit_platform.errors import DatabaseError, DatabaseUnavailable, PermissionRefused
from tests.conftest import Database
from tests.integration.events.shard import wait_until

pytestmark = pytest.mark.integration

NUMBERS = "select n, 'x' || n as word from generate_series(1, {count}) as g (n)"
OTHERS = """
select pid from pg_stat_activity
where datname = current_database() and query like '%%generate_series(1, 10000000)%%'
  and pid <> pg_backend_pid()
"""


@pytest.fixture
def maint(database: Database) -> Iterator[Connection]:
    with connected(database.maint_url, application="test") as conn:
        yield conn


@pytest.fixture
def admin(database: Database) -> "Iterator[psycopg.Connection[Any]]":
    with psycopg.connect(database.admin_url, autocommit=True) as conn:
        yield conn


def numbers(count: int) -> sql.Composed:
    return sql.SQL(NUMBERS).format(count=sql.Literal(count))


def read(conn: Connection, statement: sql.Composable, **options: Any) -> pa.Table:
    with arrow_rows(conn, statement, role=OWNER_ROLE, **options) as batches:
        return pa.Table.from_batches(batches)


def test_rows_come_in_bounded_batches_and_in_order(maint: Connection) -> None:
    with arrow_rows(maint, numbers(50_000), role=OWNER_ROLE, batch_bytes=100_000) as batches:
        sizes: list[int] = []
        values: list[int] = []
        for batch in batches:
            sizes.append(batch.num_rows)
            values += batch.column("n").to_pylist()

    assert values == list(range(1, 50_001))
    assert len(sizes) > 5


def test_query_without_rows_keeps_its_columns(maint: Connection) -> None:
    with arrow_rows(maint, numbers(0), role=OWNER_ROLE) as batches:
        found = list(batches)

    assert sum(batch.num_rows for batch in found) == 0


def test_query_reads_with_the_rights_of_the_role(maint: Connection) -> None:
    found = read(maint, sql.SQL("select current_user::text as who, session_user::text as login"))

    assert found.to_pylist() == [{"who": "audit_owner", "login": "audit_maint"}]


def test_role_that_was_not_granted_is_refused(database: Database) -> None:
    with (
        connected(database.reader_url, application="test") as conn,
        pytest.raises(PermissionRefused),
    ):
        read(conn, numbers(1))


def test_query_cannot_write(maint: Connection) -> None:
    statement = sql.SQL("select nextval('audit.dead_letter_dead_id_seq') as n")

    with pytest.raises(DatabaseError) as refused:
        read(maint, statement)

    assert refused.value.sqlstate in {"25006", None}


def test_settings_hold_for_the_query_alone(maint: Connection) -> None:
    statement = sql.SQL("select current_setting('work_mem') as work_mem")

    found = read(maint, statement, settings=("work_mem = '77MB'",))

    assert found.to_pylist() == [{"work_mem": "77MB"}]
    assert maint.execute("select current_setting('work_mem')").fetchone() != ("77MB",)


def test_wrong_statement_is_named_by_its_state(maint: Connection) -> None:
    with pytest.raises(DatabaseError) as refused:
        read(maint, sql.SQL("select * from audit.nothing"))

    assert refused.value.sqlstate == "42P01"


def test_broken_connection_is_unavailable_and_not_the_end_of_the_rows(
    maint: Connection, admin: "psycopg.Connection[Any]"
) -> None:
    """An error in the middle must not pass for the last batch: rows would be missing."""

    def read_all() -> int:
        count = 0
        with arrow_rows(maint, numbers(10_000_000), role=OWNER_ROLE) as batches:
            for batch in batches:
                if not count:
                    admin.execute(OTHERS.replace("select pid", "select pg_terminate_backend(pid)"))
                count += batch.num_rows
        return count

    with pytest.raises(DatabaseUnavailable, match="last row"):
        read_all()


def test_block_left_early_ends_the_query(
    maint: Connection, admin: "psycopg.Connection[Any]"
) -> None:
    def leave() -> None:
        with arrow_rows(maint, numbers(10_000_000), role=OWNER_ROLE) as batches:
            next(batches)
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        leave()

    wait_until(lambda: not admin.execute(OTHERS).fetchall(), deadline_s=20)
