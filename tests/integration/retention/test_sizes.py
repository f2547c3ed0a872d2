"""Sizes, use and bloat of real tables, without any extension, on PostgreSQL 18 and 16."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from audit_platform.db.pool import OWNER_ROLE, Connection, connected
from audit_platform.errors import LockNotAvailable
from audit_platform.retention.size_findings import findings
from audit_platform.retention.sizes import IndexSize, StorageReport, TableSize, read_storage
from tests.conftest import POSTGRES_VERSION, Database

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)
TODAY = f"event_{NOW:%Y%m%d}"
_MANY = """
insert into audit.event (id, timestamp, received_at, batch_id, actor_type, leaf_hash,
  tenant_id, source, action, entity_type, entity_id, user_id, description, metadata)
select gen_random_uuid(), %(day)s::timestamptz + g * interval '1 second', now(),
  gen_random_uuid(), 'user', decode(repeat('00', 32), 'hex'), 't' || g %% 10, 'user',
  'act.' || g %% 50, 'order', (g %% 3000)::text, 'u' || g %% 500,
  case when g %% 3 = 0 then repeat('d', g %% 200) end, '{"a": {"b": 1}}'
from generate_series(1, %(count)s) as g
"""


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    """As the command and the job look."""
    with connected(database.maint_url, application="test", role=OWNER_ROLE) as conn:
        yield conn


@pytest.fixture
def admin(database: Database) -> Iterator["psycopg.Connection[Any]"]:
    with psycopg.connect(database.admin_url, autocommit=True) as conn:
        yield conn


def fill(admin: "psycopg.Connection[Any]", count: int = 20_000) -> None:
    day = datetime(NOW.year, NOW.month, NOW.day, tzinfo=UTC)
    admin.execute(_MANY.encode(), {"day": day, "count": count})
    tell(admin)


def tell(admin: "psycopg.Connection[Any]") -> None:
    """Let the server count what this session did; by itself it may wait a second."""
    admin.execute("select pg_stat_force_next_flush()")


def table(report: StorageReport, name: str = TODAY) -> TableSize:
    (found,) = (one for one in report.tables if one.name == name)
    return found


def index(report: StorageReport, name: str) -> IndexSize:
    (found,) = (one for one in report.indexes if one.name == name)
    return found


def value(admin: "psycopg.Connection[Any]", expression: str) -> Any:
    row = admin.execute(f"select {expression}".encode()).fetchone()
    assert row is not None
    return row[0]


def test_sizes_are_those_of_the_server(admin: "psycopg.Connection[Any]", owner: Connection) -> None:
    fill(admin)

    found = table(read_storage(owner, now=NOW))

    relation = f"'audit.{TODAY}'::regclass"
    assert found.heap_bytes == value(admin, f"pg_relation_size({relation})")
    assert found.index_bytes == value(admin, f"pg_indexes_size({relation})")
    assert found.total_bytes == value(admin, f"pg_total_relation_size({relation})")
    assert found.state == "open"
    assert found.is_attached
    assert found.lo is not None
    assert found.lo <= NOW


def test_every_partition_and_every_other_table_is_listed_once(
    admin: "psycopg.Connection[Any]", owner: Connection
) -> None:
    report = read_storage(owner, now=NOW)

    names = [one.name for one in report.tables]
    listed = value(
        admin,
        "array_agg(relname::text) from pg_class"
        " where relnamespace = 'audit'::regnamespace and relkind = 'r'",
    )
    assert sorted(names) == sorted(listed)
    partitions = value(admin, "array_agg(name order by lo) from audit.partition")
    assert [one.name for one in report.partitions] == partitions


def test_packed_table_has_little_bloat_and_a_half_deleted_one_about_half(
    admin: "psycopg.Connection[Any]", owner: Connection
) -> None:
    fill(admin, 40_000)
    admin.execute(f"vacuum (analyze) audit.{TODAY}".encode())
    packed = table(read_storage(owner, now=NOW))
    # Every second row, so that no page at the end can be given back.
    admin.execute(
        f"delete from audit.{TODAY} where extract(epoch from timestamp)::bigint %% 2 = 0".encode(),
        (),
    )
    admin.execute(f"vacuum (analyze) audit.{TODAY}".encode())
    tell(admin)
    halved = table(read_storage(owner, now=NOW))

    assert packed.bloat_bytes is not None
    assert halved.bloat_bytes is not None
    assert packed.bloat_bytes < 0.1 * packed.heap_bytes
    assert 0.4 < halved.bloat_bytes / halved.heap_bytes < 0.6
    assert halved.deleted >= 20_000


def test_index_that_lost_its_entries_shows_bloat(
    admin: "psycopg.Connection[Any]", owner: Connection
) -> None:
    fill(admin, 40_000)
    admin.execute(f"reindex table audit.{TODAY}".encode())
    admin.execute(f"vacuum (analyze) audit.{TODAY}".encode())
    name = f"{TODAY}_pkey"
    packed = index(read_storage(owner, now=NOW), name)
    admin.execute(
        f"delete from audit.{TODAY} where extract(epoch from timestamp)::bigint %% 4 <> 0".encode(),
        (),
    )
    admin.execute(f"vacuum (analyze) audit.{TODAY}".encode())
    emptied = index(read_storage(owner, now=NOW), name)

    assert packed.bloat_bytes is not None
    assert emptied.bloat_bytes is not None
    assert packed.bloat_bytes < 0.25 * packed.bytes_
    assert emptied.bloat_bytes > 0.5 * emptied.bytes_


def test_bloat_is_unknown_until_somebody_analyzed(
    admin: "psycopg.Connection[Any]", owner: Connection
) -> None:
    fill(admin, 100)
    before = table(read_storage(owner, now=NOW))
    admin.execute(f"analyze audit.{TODAY}".encode())
    after = table(read_storage(owner, now=NOW))

    assert (before.bloat_bytes, before.analyzed_at) == (None, None)
    assert after.bloat_bytes is not None
    assert after.analyzed_at is not None


def test_dead_rows_and_the_last_vacuum_are_seen(
    admin: "psycopg.Connection[Any]", owner: Connection
) -> None:
    admin.execute("alter table audit.retention_class set (autovacuum_enabled = off)")
    admin.execute(
        "insert into audit.retention_class (source, action, retention_class)"
        " select 'user', 'act.' || g, 'short' from generate_series(101, 200) as g"
    )
    admin.execute("delete from audit.retention_class where action <= 'act.130'")
    tell(admin)
    dirty = table(read_storage(owner, now=NOW), "retention_class")
    admin.execute("vacuum audit.retention_class")
    tell(admin)
    clean = table(read_storage(owner, now=NOW), "retention_class")

    assert (dirty.live_rows, dirty.dead_rows, dirty.vacuumed_at) == (70, 30, None)
    assert dirty.dead_share == pytest.approx(0.3)
    assert (dirty.inserted, dirty.deleted) == (100, 30)
    assert (clean.live_rows, clean.dead_rows) == (70, 0)
    assert clean.vacuumed_at is not None


def test_use_of_an_index_is_counted(admin: "psycopg.Connection[Any]", owner: Connection) -> None:
    fill(admin)
    admin.execute(f"analyze audit.{TODAY}".encode())
    name = f"{TODAY}_user"
    before = index(read_storage(owner, now=NOW), name)
    admin.execute(
        f"select count(*) from audit.{TODAY}"
        " where tenant_id = 't3' and user_id = 'u3' and timestamp > '2000-01-01'".encode()
    )
    tell(admin)
    after = index(read_storage(owner, now=NOW), name)

    assert after.scans == before.scans + 1
    assert after.used_at is not None
    assert after.used_at > NOW - timedelta(minutes=1)
    assert after.family == "event_user"


def test_indexes_of_a_detached_partition_stay_in_their_family(
    admin: "psycopg.Connection[Any]", owner: Connection
) -> None:
    admin.execute(f"alter table audit.event detach partition audit.{TODAY}".encode())

    report = read_storage(owner, now=NOW)

    assert not table(report).is_attached
    assert index(report, f"{TODAY}_entity").family == "event_entity"
    families = {family.name: family for family in report.families()}
    assert families["event_entity"].indexes == len(report.partitions)
    assert "dead_letter_once" in families


def test_database_and_its_log_are_measured(
    admin: "psycopg.Connection[Any]", owner: Connection, database: Database
) -> None:
    before = read_storage(owner, now=NOW).database
    fill(admin)
    after = read_storage(owner, now=NOW).database

    assert after.name == database.name
    assert after.server_version.startswith(f"{POSTGRES_VERSION}.")
    assert after.bytes_ == pytest.approx(value(admin, "pg_database_size(current_database())"))
    assert after.bytes_ > before.bytes_
    assert after.wal_bytes > before.wal_bytes
    assert after.slot_bytes is None


def test_log_directory_is_seen_by_those_who_may_look(
    admin: "psycopg.Connection[Any]", owner: Connection
) -> None:
    hidden = read_storage(owner, now=NOW).database
    admin.execute("grant execute on function pg_ls_waldir() to audit_owner")
    shown = read_storage(owner, now=NOW).database

    assert (hidden.wal_files, hidden.wal_directory_bytes) == (None, None)
    assert shown.wal_files
    assert shown.wal_directory_bytes == value(admin, "sum(size)::bigint from pg_ls_waldir()")


def test_fresh_database_has_no_findings(owner: Connection) -> None:
    assert findings(read_storage(owner, now=NOW)) == []


def test_look_at_a_locked_table_ends_with_a_remedy(
    owner: Connection, admin: "psycopg.Connection[Any]"
) -> None:
    """The size of a table that is being rewritten is known to nobody."""
    with admin.transaction():
        admin.execute(f"lock table audit.{TODAY} in access exclusive mode".encode())

        with pytest.raises(LockNotAvailable):
            read_storage(owner, now=NOW, patience_s=0.2)

    assert read_storage(owner, now=NOW).partitions
