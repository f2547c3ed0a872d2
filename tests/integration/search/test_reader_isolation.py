"""What a reader bound to a tenant is told: of its own rows and files, wherever they lie.

Through the real login of readers, over days in every state: in PostgreSQL, late, archived.
"""

from collections.abc import Iterator
from datetime import datetime

import psycopg
import pytest

from audit_platform.local.postgres import PostgresServer
from audit_platform.search.cold import Archive
from audit_platform.search.everywhere import Everywhere
from audit_platform.search.hot import EventRow, Searcher
from audit_platform.search.query import EventQuery
from tests.integration.search.two_databases import (
    LATE_DAY,
    NOW,
    TENANTS,
    TwoDatabases,
    day_of,
    two_databases,
)

pytestmark = pytest.mark.integration

OWN_FILES_DAY = 2
"""One tenant has a file of its own on this day."""
READABLE = {
    "event_read": None,
    "events": None,
    "partition_read": None,
    "partition": {"name", "lo", "hi", "generation", "state"},
}
"""Relations of the schema that a reader may select from, with the columns where not all."""


@pytest.fixture(scope="module")
def pair(
    template_database: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoDatabases]:
    with two_databases(template_database, tmp_path_factory.mktemp("archive")) as made:
        yield made


@pytest.fixture
def reader(pair: TwoDatabases) -> Iterator[psycopg.Connection]:
    with psycopg.connect(pair.spread.reader_url, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("tenant", [*TENANTS, "nobody"])
def test_a_reader_finds_all_of_its_tenant_and_nothing_else(pair: TwoDatabases, tenant: str) -> None:
    found = _found(pair, tenant)

    expected = [row["id"] for row in pair.rows if row["tenant_id"] == tenant]
    assert {row["tenant_id"] for row in found} <= {tenant}
    assert sorted(row["id"] for row in found) == sorted(expected)


@pytest.mark.parametrize("number", range(LATE_DAY + 1))
def test_each_place_gives_a_reader_its_tenant_only(pair: TwoDatabases, number: int) -> None:
    day = day_of(number)
    for tenant in TENANTS:
        found = _found(pair, tenant, day.lo, day.hi)

        assert {row["tenant_id"] for row in found} == {tenant}, (number, tenant)


def test_a_reader_is_told_of_files_that_may_hold_its_rows(
    pair: TwoDatabases, reader: psycopg.Connection
) -> None:
    with psycopg.connect(pair.spread.maint_url) as conn:
        conn.execute("set role audit_owner")
        everything = _tenants_of_files(conn, "partition")
    with reader.transaction():
        reader.execute("select set_config('app.tenant', 'acme', true)")
        own = _tenants_of_files(reader, "partition_read")
    with reader.transaction():
        reader.execute("select set_config('app.tenant', 'Zeta', true)")
        other = _tenants_of_files(reader, "partition_read")
    without = _tenants_of_files(reader, "partition_read")

    assert everything == own == {"*", "acme"}
    assert other == without == {"*"}


def test_a_reader_may_select_nothing_but_its_views(
    reader: psycopg.Connection,
) -> None:
    """Detached days, late rows, former generations and holds included."""
    rows = reader.execute(
        "select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid"
        " where c.relnamespace = 'audit'::regnamespace and a.attnum > 0 and not a.attisdropped"
        " and c.relkind in ('r', 'p', 'v', 'm', 'f')"
        " and has_column_privilege(c.oid, a.attnum, 'select')"
    ).fetchall()
    tables = reader.execute(
        "select relname from pg_class where relnamespace = 'audit'::regnamespace"
    ).fetchall()

    found = {relation: {column for one, column in rows if one == relation} for relation, _ in rows}
    assert found.keys() == READABLE.keys()
    assert found["partition"] == READABLE["partition"]
    # The detached day is there, so that the list proves something.
    assert {(day_of(OWN_FILES_DAY).name,), ("event_late",)} <= set(tables)


def _tenants_of_files(conn: psycopg.Connection, relation: str) -> set[str]:
    rows = conn.execute(
        f"select f ->> 'tenant' from audit.{relation}, jsonb_array_elements(files) f".encode()
    ).fetchall()
    return {tenant for (tenant,) in rows}


def _found(
    pair: TwoDatabases,
    tenant: str,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[EventRow]:
    query = EventQuery(tenant_id=tenant, since=since, until=until, limit=1_000)
    searcher = Searcher(url=pair.spread.reader_url, is_operator=False, timeout_s=10)
    with Everywhere.opened(searcher, Archive([pair.archive_url])) as everywhere:
        return list(everywhere.search(query, now=NOW).rows)
