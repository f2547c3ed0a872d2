"""Revision 0003 on a database that was in use: what is there stays and is set up as new."""

from collections.abc import Iterator
from importlib import resources
from uuid import uuid4

import psycopg
import pytest
from alembic import command

from audit_platform.db import migrate
from audit_platform.db.pool import connected
from audit_platform.local.postgres import PostgresServer
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import HOT_STORAGE
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import read_partition
from tests.integration.retention.creation import days

pytestmark = pytest.mark.integration

OLD_PARTITION = """
create table audit.event_20260101 (
  like audit.event including defaults including constraints including storage, primary key
  (tenant_id, "timestamp", id));
alter table audit.event_20260101 owner to audit_owner;
alter table audit.event attach partition audit.event_20260101
  for values from ('2026-01-01 00:00+00') to ('2026-01-02 00:00+00');
insert into audit.partition (name, lo, hi)
values ('event_20260101', '2026-01-01 00:00+00', '2026-01-02 00:00+00');
"""


@pytest.fixture
def used_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database at revision 0002 with one partition."""
    config = postgres_server.config
    name = f"used_{uuid4().hex[:12]}"
    migrate.create_database(config.url("postgres"), name)
    with resources.as_file(resources.files("audit_platform.db") / "migrations") as folder:
        command.upgrade(migrate.alembic_config(config.url(name), folder), "0002")
    with psycopg.connect(config.url(name), autocommit=True) as connection:
        connection.execute(OLD_PARTITION)
    yield config.url(name)
    with psycopg.connect(config.url("postgres"), autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)".encode())


def test_partition_of_the_former_release_has_the_settings_of_a_new_one(
    used_database_url: str,
) -> None:
    migrate.migrate(used_database_url)

    with connected(used_database_url, application="test") as conn:
        (new,) = ensure_partitions(conn, days(1))
        options = {name: storage_of(conn, name) for name in ("event_20260101", new)}
        row = read_partition(conn, "event_20260101")
    assert options["event_20260101"] == options[new] == dict(HOT_STORAGE)
    assert row is not None
    assert (row.state, row.generation, row.files, row.indexed_at) == (State.OPEN, 1, (), None)


def storage_of(conn: psycopg.Connection, name: str) -> dict[str, str]:
    """Storage parameters of a table and, with their prefix, of its TOAST table."""
    rows = conn.execute(
        """select o from pg_class c, unnest(c.reloptions) o where c.oid = %(name)s::regclass
           union all
           select 'toast.' || o from pg_class c join pg_class t on t.oid = c.reltoastrelid,
             unnest(t.reloptions) o
           where c.oid = %(name)s::regclass""",
        {"name": f"audit.{name}"},
    ).fetchall()
    return dict(row[0].split("=", 1) for row in rows)
