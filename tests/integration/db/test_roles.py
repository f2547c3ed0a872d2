"""What each role may do: the writer appends only (S10), a reader sees one tenant (S11, S12)."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import Database
from tests.factories import event, wire
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.integration

DENIED = "42501"
APPEND_ONLY = (
    "audit.event",
    "audit.event_late",
    "audit.dead_letter",
    "audit.ingest_batch",
    "audit.ingest_range",
)


@pytest.fixture
def writer(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.writer_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def reader(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.reader_url, autocommit=True) as connection:
        yield connection


def _refusal(connection: psycopg.Connection, statement: str) -> str | None:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement.encode())
    return caught.value.sqlstate


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize(
    "statement",
    ["select * from {}", "update {} set {} = {}", "delete from {}", "truncate {}"],
)
def test_the_writer_can_neither_read_nor_change_what_is_stored(
    writer: psycopg.Connection, table: str, statement: str
) -> None:
    column = "id" if table.startswith("audit.event") else "reason"
    if table == "audit.ingest_batch":
        column = "run_id"

    assert _refusal(writer, statement.format(table, column, column)) == DENIED


def test_the_writer_reads_the_four_columns_of_the_merge_only(writer: psycopg.Connection) -> None:
    writer.execute(b'select tenant_id, "timestamp", id, leaf_hash from audit.event')

    assert _refusal(writer, "select action from audit.event") == DENIED


@pytest.mark.parametrize(
    "statement",
    [
        "create table audit.mine (a int)",
        "alter table audit.event add column a int",
        "update audit.partition set state = 'sealed'",
        "delete from audit.drain_lease",
        "select * from audit.events",
        "set role audit_owner",
    ],
)
def test_the_writer_has_no_right_beyond_ingest(writer: psycopg.Connection, statement: str) -> None:
    assert _refusal(writer, statement) == DENIED


@pytest.mark.parametrize(
    "table", ["producer_epoch", "producer_numbers", "producer_sampled", "producer_name"]
)
@pytest.mark.parametrize("statement", ["select * from {}", "delete from {}", "truncate {}"])
def test_the_writer_folds_and_asks_through_functions_only(
    writer: psycopg.Connection, table: str, statement: str
) -> None:
    assert _refusal(writer, statement.format(f"audit.{table}")) == DENIED


@pytest.mark.parametrize("view", ["producer_progress", "producer_ledger"])
def test_accounts_of_producers_are_for_operators_only(
    writer: psycopg.Connection, reader: psycopg.Connection, view: str
) -> None:
    refused = {_refusal(one, f"select * from audit.{view}") for one in (writer, reader)}

    assert refused == {DENIED}


def test_functions_of_the_owner_trust_no_object_of_the_session(
    writer: psycopg.Connection, reader: psycopg.Connection, shard: Shard
) -> None:
    """A temporary table of the same name must not stand in for one of ours."""
    functions = shard.rows(
        "select proname, proconfig::text from pg_proc"
        " where pronamespace = 'audit'::regnamespace and prosecdef"
    )
    writer.execute(b"create temporary table ingest_range (like audit.event_shape)")

    assert len(functions) == 5
    assert {config for _, config in functions} == {'{"search_path=pg_catalog, pg_temp"}'}
    assert writer.execute(b"select audit.fold_ranges()").fetchall() == [(0,)]
    assert _refusal(reader, "select audit.fold_ranges()") == DENIED


@pytest.mark.parametrize(
    "statement",
    [
        "select * from audit.event",
        "select * from audit.event_late",
        "select * from audit.event_all",
        "select * from audit.dead_letter",
        "insert into audit.event_late select * from audit.event_late",
        "set role audit_owner",
    ],
)
def test_a_reader_has_only_the_views_of_its_tenant(
    reader: psycopg.Connection, statement: str
) -> None:
    assert _refusal(reader, statement) == DENIED


def test_a_reader_cannot_read_a_partition_directly(
    reader: psycopg.Connection, shard: Shard
) -> None:
    names = [row[0] for row in shard.rows("select name from audit.partition")]

    refused = {_refusal(reader, f"select * from audit.{name}") for name in names}

    assert names
    assert refused == {DENIED}


@pytest.mark.parametrize("view", ["audit.events", "audit.event_read"])
def test_a_reader_sees_its_tenant_inside_its_transaction_only(
    reader: psycopg.Connection, shard: Shard, view: str
) -> None:
    ours, theirs = event(tenant_id="ours"), event(tenant_id="theirs")
    shard.add_batch([wire(ours), wire(theirs)])
    shard.drain()
    query = f"select id::text, tenant_id from {view}".encode()

    without = reader.execute(query).fetchall()
    with reader.transaction():
        reader.execute(b"select set_config('app.tenant', 'ours', true)")
        within = reader.execute(query).fetchall()
    after = reader.execute(query).fetchall()

    assert within == [(ours["id"], "ours")]
    assert without == after == []


def test_a_function_in_a_filter_sees_no_row_of_another_tenant(
    reader: psycopg.Connection, shard: Shard
) -> None:
    """Without a security barrier a cheap function would run before the tenant's filter."""
    shard.add_batch([wire(event(tenant_id="theirs", action="secret.action"))])
    shard.drain()
    leak = (
        "select * from audit.event_read"
        " where case when action = 'secret.action' then 1 / (length(action) - 13) else 1 end = 1"
    )

    with reader.transaction():
        reader.execute(b"select set_config('app.tenant', 'ours', true)")
        seen = reader.execute(leak.encode()).fetchall()

    assert seen == []


def test_no_partition_carries_a_grant(shard: Shard) -> None:
    granted = shard.rows(
        "select c.oid::regclass from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'audit.event'::regclass and exists"
        " (select from aclexplode(c.relacl) a where a.grantee <> c.relowner)"
    )

    assert granted == []
