"""Searches on a real PostgreSQL: filters, pages, tenants, plans."""

import base64
import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from audit_platform.db.queries import load_queries
from audit_platform.errors import InvalidQuery
from audit_platform.events.event import timestamp_us
from audit_platform.events.identity import TAIL_BITS, mint
from audit_platform.search.cursor import resume, sign_cursor
from audit_platform.search.hot import Searcher
from audit_platform.search.query import EventQuery, parameters
from tests.conftest import Database

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)
KEY = base64.b64decode("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
COLUMNS = (
    "id, timestamp, tenant_id, source, action, status, entity_type, entity_id, entity_label, "
    "user_id, description, metadata, actor_type, received_at, ingested_at, batch_id, leaf_hash"
)


def _store(database: Database, table: str = "event", **override: Any) -> str:
    """Insert one row as the owner would find it after a drain; returns its id."""
    moment: datetime = override.pop("timestamp", NOW - timedelta(hours=1))
    row = {
        "id": mint(timestamp_us(moment), secrets.randbits(TAIL_BITS)),
        "timestamp": moment,
        "tenant_id": "acme",
        "source": "user",
        "action": "order.create",
        "status": "success",
        "entity_type": "order",
        "entity_id": "1",
        "entity_label": None,
        "user_id": "7",
        "description": None,
        "metadata": "{}",
        "actor_type": "user",
        "received_at": NOW,
        "ingested_at": NOW,
        "batch_id": "00000000-0000-0000-0000-000000000000",
        "leaf_hash": b"\x00" * 32,
    } | override
    late = ", late_reason" if table == "event_late" else ""
    values = ", ".join(f"%({name.strip()})s" for name in COLUMNS.split(","))
    values += ", 'no_partition'" if late else ""
    with psycopg.connect(database.admin_url) as connection:
        statement = f"insert into audit.{table} ({COLUMNS}{late}) values ({values})"
        connection.execute(statement.encode(), row)
    return str(row["id"])


@pytest.fixture
def reader(database: Database) -> Searcher:
    return Searcher(url=database.reader_url, is_operator=False, timeout_s=10)


@pytest.fixture
def operator(database: Database) -> Searcher:
    return Searcher(url=database.maint_url, is_operator=True, timeout_s=10)


def _ids(searcher: Searcher, **filters: Any) -> list[str]:
    if not searcher.is_operator:
        filters = {"tenant_id": "acme"} | filters
    with searcher.connected() as connection:
        page = searcher.search(connection, EventQuery(**filters), now=NOW)
    return [str(row["id"]) for row in page.rows]


def _pages(searcher: Searcher, query: EventQuery) -> Iterator[list[str]]:
    """Walk all pages through signed cursors, as the command line does."""
    with searcher.connected() as connection:
        asked = query
        while True:
            page = searcher.search(connection, asked, now=NOW)
            yield [str(row["id"]) for row in page.rows]
            if page.next_position is None:
                return
            cursor = sign_cursor(query, page.next_position, key=KEY, now=NOW)
            asked = resume(query, cursor, key=KEY, now=NOW)


def test_newest_event_comes_first(database: Database, reader: Searcher) -> None:
    older = _store(database, timestamp=NOW - timedelta(hours=3))
    newer = _store(database, timestamp=NOW - timedelta(minutes=1))

    assert _ids(reader) == [newer, older]


def test_reader_sees_no_other_tenant(database: Database, reader: Searcher) -> None:
    own = _store(database)
    _store(database, tenant_id="globex")

    assert _ids(reader) == [own]
    assert len(_ids(reader, tenant_id="globex")) == 1
    assert _ids(reader, tenant_id="nobody") == []


def test_reader_without_tenant_is_refused(reader: Searcher) -> None:
    with reader.connected() as connection, pytest.raises(InvalidQuery, match="--tenant"):
        reader.search(connection, EventQuery(), now=NOW)


def test_tenant_of_a_search_ends_with_its_transaction(database: Database, reader: Searcher) -> None:
    _store(database)
    with reader.connected() as connection:
        reader.search(connection, EventQuery(tenant_id="acme"), now=NOW)
        row = connection.execute("select count(*) from audit.event_read").fetchone()

    assert row == (0,)


def test_operator_sees_every_tenant(database: Database, operator: Searcher) -> None:
    ids = {_store(database), _store(database, tenant_id="globex")}

    assert set(_ids(operator)) == ids
    assert len(_ids(operator, tenant_id="globex")) == 1


def test_late_events_are_found_and_a_row_in_both_tables_comes_once(
    database: Database, reader: Searcher
) -> None:
    old = NOW - timedelta(days=900)
    late = _store(database, "event_late", timestamp=old)
    both = _store(database)
    _store(database, "event_late", id=both)

    assert _ids(reader) == [both, late]
    assert list(_pages(reader, EventQuery(tenant_id="acme", limit=1))) == [[both], [late]]


@pytest.mark.parametrize(
    ("stored", "filters"),
    [
        ({"user_id": "u-9"}, {"user_id": "u-9"}),
        ({"entity_type": "AWS::S3::Bucket", "entity_id": "x"}, {"entity_type": "AWS::S3::Bucket"}),
        ({"entity_id": "42"}, {"entity_type": "order", "entity_id": "42"}),
        ({"action": "user.suspend"}, {"action": "user.suspend"}),
        ({"action": "user.suspend"}, {"action": "user.*"}),
        ({"action": "100%_x"}, {"action": "100%_*"}),
        ({"status": "denied"}, {"status": "denied"}),
        ({"source": "api"}, {"source": "api"}),
        ({"timestamp": NOW - timedelta(hours=5)}, {"until": NOW - timedelta(hours=4)}),
        ({"timestamp": NOW - timedelta(minutes=5)}, {"since": NOW - timedelta(minutes=9)}),
        ({"description": "Émile 50% Ärger"}, {"text": "ÉMILE 50% ä"}),
        ({"entity_label": "Blue Widget"}, {"text": "blue w"}),
        ({"action": "user.Suspend"}, {"text": "USER.SUS"}),
        ({"metadata": '{"a": {"b": [1, "x"]}}'}, {"metadata": {"a.b[1]": "x"}}),
        ({"metadata": '{"a": {"b": 2.50}}'}, {"metadata": {"a.b": "2.5"}}),
        ({"metadata": '{"account": "0012"}'}, {"metadata": {"account": "0012"}}),
        (
            {"metadata": '{"n": 12345678901234567890123}'},
            {"metadata": {"n": "12345678901234567890123"}},
        ),
        ({"metadata": '{"ok": true, "x.y": null}'}, {"metadata": {"ok": "true", '"x.y"': "null"}}),
        ({"metadata": '{"q": "say \\"hi\\" \\\\ $"}'}, {"metadata": {"q": 'say "hi" \\ $'}}),
    ],
)
def test_filter_finds_its_event_only(
    database: Database, reader: Searcher, stored: dict[str, Any], filters: dict[str, Any]
) -> None:
    wanted = _store(database, **stored)
    _store(database, timestamp=NOW - timedelta(hours=1))

    assert _ids(reader, **filters) == [wanted]


@pytest.mark.parametrize(
    ("metadata", "filters"),
    [
        ('{"a": [{"b": 1}]}', {"a.b": "1"}),
        ('{"a": {"0": 1}}', {"a[0]": "1"}),
        ('{"a": [1]}', {"a": "1"}),
        ('{"n": 12345678901234567890124}', {"n": "12345678901234567890123"}),
        ('{"n": 3600}', {"n": '"3600"'}),
    ],
)
def test_metadata_path_is_exact(
    database: Database, reader: Searcher, metadata: str, filters: dict[str, str]
) -> None:
    _store(database, metadata=metadata)

    assert _ids(reader, metadata=filters) == []


@pytest.mark.parametrize(
    "hostile", ["' or 1=1 --", "%s", "{}", "\\", '"; drop table audit.event; --', "$1", "%(limit)s"]
)
def test_hostile_filters_are_values(database: Database, reader: Searcher, hostile: str) -> None:
    wanted = _store(database, user_id=hostile, description=hostile)
    _store(database)

    assert _ids(reader, user_id=hostile, text=hostile) == [wanted]
    assert _ids(reader, metadata={json.dumps(hostile): hostile}) == []


def test_pages_hold_every_event_once_also_with_equal_times(
    database: Database, operator: Searcher
) -> None:
    same = NOW - timedelta(days=1)
    stored = [
        _store(database, timestamp=same + timedelta(hours=hour), tenant_id=tenant)
        for hour in (0, 0, 0, 5, 5, 20)
        for tenant in ("acme", "globex")
    ]

    pages = list(_pages(operator, EventQuery(limit=5)))

    assert [len(page) for page in pages] == [5, 5, 2]
    assert sorted(event_id for page in pages for event_id in page) == sorted(stored)


def test_search_that_takes_too_long_says_how_to_narrow_it(database: Database) -> None:
    searcher = Searcher(url=database.reader_url, is_operator=False, timeout_s=0.001)
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(_MANY.encode(), {"count": 20_000})
    query = EventQuery(tenant_id="t3", text="no such text", metadata={"a.b": "x"})

    with searcher.connected() as connection, pytest.raises(InvalidQuery, match="longer than"):
        searcher.search(connection, query, now=NOW)


_MANY = """
insert into audit.event (id, timestamp, received_at, ingested_at, batch_id, actor_type, leaf_hash,
  tenant_id, source, action, entity_type, entity_id, user_id, metadata)
select gen_random_uuid(), now() - g * interval '1 second', now(), now(), gen_random_uuid(), 'user',
  decode(repeat('00', 32), 'hex'), 't' || g %% 10, 'user', 'act.' || g %% 50, 'order',
  (g %% 3000)::text, 'u' || g %% 500, '{"a": {"b": 1}}'
from generate_series(1, %(count)s) as g
"""


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, ""),
        ({"user_id": "u3"}, "_user"),
        ({"entity_type": "order", "entity_id": "13"}, "_entity"),
        ({"action": "act.3"}, "_action"),
    ],
)
def test_lookups_use_the_hot_indexes(
    database: Database, filters: dict[str, Any], index: str
) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(_MANY.encode(), {"count": 40_000})
        connection.execute("analyze audit.event")
    query = EventQuery(tenant_id="t3", **filters)
    given = parameters(query) | {"since": NOW - timedelta(hours=6), "until": NOW}

    with psycopg.connect(database.reader_url) as connection:
        connection.execute("select set_config('app.tenant', 't3', true)")
        statement = (
            b"explain (analyze, format json) " + load_queries("search")["search_events"].encode()
        )
        plan = connection.execute(statement, given, prepare=False).fetchone()

    assert plan is not None
    scans = [node for node in _nodes(plan[0][0]["Plan"]) if "Scan" in node["Node Type"]]
    with_rows = [
        scan for scan in scans if scan["Actual Rows"] and "Subquery" not in scan["Node Type"]
    ]
    assert with_rows
    assert not [scan for scan in with_rows if scan["Node Type"] == "Seq Scan"]
    assert [scan for scan in scans if index in scan.get("Index Name", "")]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
