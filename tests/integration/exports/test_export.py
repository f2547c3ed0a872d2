"""Exports of real events: hot, late and archived; as tenant and as operator; killed."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest

from audit_platform.archive.columns import ARROW_SCHEMA
from audit_platform.archive.local_store import LocalStore
from audit_platform.db.pool import Connection, connected
from audit_platform.errors import InvalidQuery, LockNotAvailable, QueueUnavailable
from audit_platform.events.event import ActorType
from audit_platform.exports.manifest import FinishedExport
from audit_platform.exports.order import ExportFormat, ExportOrder, SearchWords, query_of
from audit_platform.exports.services import (
    BEGIN_ACTION,
    END_ACTION,
    Requester,
    export_search,
    opened_pages,
)
from audit_platform.search.query import EventQuery
from audit_platform.settings import Settings
from tests.conftest import Database, RedisSpace
from tests.factories import event
from tests.integration.exports.stored import NOW, recent, store_events
from tests.integration.retention.lives import TENANTS, Life, begin_life, live

pytestmark = pytest.mark.integration

REQUESTER = Requester(name="ann", actor_type=ActorType.ADMIN)
EXACT = {"far": "1e400", "big": 12345678901234567890123, "same": "1.10", "text": "=1+1\u202e"}


def order(form: ExportFormat = ExportFormat.NDJSON, **words: Any) -> ExportOrder:
    return ExportOrder(
        name="a", format=form, query=query_of(SearchWords(**words), now=NOW), rows_per_file=1_000
    )


def run(settings: Settings, place: Path, wanted: ExportOrder, **changes: Any) -> FinishedExport:
    given: dict[str, Any] = {"now": NOW, "report": lambda _: None, "requester": REQUESTER}
    return export_search(settings, wanted, store=LocalStore(place), **(given | changes))


def lines_of(place: Path) -> list[dict[str, Any]]:
    files = sorted((place / "a").glob("events.*.ndjson"))
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def ids_of(place: Path) -> list[str]:
    return [line["id"] for line in lines_of(place)]


def acts(redis_space: RedisSpace) -> list[dict[str, Any]]:
    """Events of the acts in the stream, in order."""
    found = redis_space.cli("--raw", "xrange", f"{redis_space.prefix}:{{0}}:events", "-", "+")
    return [json.loads(line) for line in found.splitlines() if line.startswith("{")]


@pytest.fixture
def maint(database: Database) -> Iterator[Connection]:
    with connected(database.maint_url, application="test maint") as conn:
        yield conn


@pytest.fixture
def archived(
    database: Database, settings: Settings, maint: Connection, tmp_path: Path
) -> tuple[Settings, Life]:
    """A day of 2,000 rows in the archive, detached; and settings that know the archive."""
    life = begin_life(database, tmp_path, rows=2_000)
    live(maint, life, now=life.sealing)
    live(maint, life, now=life.detaching)
    places = {"archive_url": life.archive.as_uri(), "archive_copy_url": life.copy.as_uri()}
    return settings.model_copy(update=places), life


@pytest.mark.parametrize("tenant", ["acme", None])
def test_export_equals_the_pages_of_the_search(
    database: Database, settings: Settings, tmp_path: Path, tenant: str | None
) -> None:
    store_events(database, recent(1_500) + recent(300, tenant_id="globex"))
    with opened_pages(settings, tenant=tenant, now=NOW) as pages:
        page = pages(EventQuery(tenant_id=tenant, until=NOW, limit=5_000))
    found = [str(row["id"]) for row in page.rows]

    done = run(settings, tmp_path, order(tenant=tenant))

    assert ids_of(tmp_path) == found
    assert done.rows == len(found) == (1_500 if tenant else 1_800)


def test_filters_reach_the_search(database: Database, settings: Settings, tmp_path: Path) -> None:
    store_events(database, recent(50))
    wanted = store_events(
        database, recent(3, user_id="u-9", action="order.cancel", metadata={"plan": "x"})
    )

    run(settings, tmp_path, order(user="u-9", action="order.*", where=("plan=x",), since="2h"))

    assert ids_of(tmp_path) == wanted


def test_exact_values_survive_and_csv_is_harmless(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    raw = '{"far": 1e400, "big": 12345678901234567890123, "same": 1.10}'
    hostile = "=cmd|' /C calc'!A0"
    (made,) = recent(1, description=hostile, user_label="-2+3", metadata={"raw": 1})
    store_events(database, [made])
    with psycopg.connect(database.admin_url) as connection:
        connection.execute("update audit.event set metadata = %s", [raw])

    for form in ExportFormat:
        run(settings, tmp_path / form, order(form))

    ndjson = (tmp_path / "ndjson" / "a" / "events.0000.ndjson").read_text()
    assert raw in ndjson
    assert json.loads(ndjson)["description"] == hostile
    text = (tmp_path / "csv" / "a" / "events.0000.csv").read_text()
    names, cells = csv.reader(io.StringIO(text, newline=""))
    row = dict(zip(names, cells, strict=True))
    assert (row["description"], row["user_label"]) == (f"'{hostile}", "'-2+3")
    assert row["metadata"] == raw
    table = pq.read_table(tmp_path / "parquet" / "a" / "events.0000.parquet")
    assert table.schema.equals(ARROW_SCHEMA)
    (record,) = table.to_pylist()
    assert (record["metadata"], record["description"]) == (raw, hostile)
    assert (str(record["id"]), record["timestamp"]) == (
        made["id"],
        datetime.fromisoformat(made["timestamp"]),
    )


def test_archived_hot_and_late_events_are_in_one_export(
    database: Database, archived: tuple[Settings, Life], tmp_path: Path
) -> None:
    settings, life = archived
    hot = store_events(database, recent(200))
    (late,) = store_events(database, [event(timestamp=life.bounds.lo + timedelta(hours=5))])

    done = run(settings, tmp_path, order())

    ids = ids_of(tmp_path)
    assert sorted(ids) == sorted([*hot, late, *life.ids])
    assert len(ids) == len(set(ids)) == done.rows == 2_201
    moments = [line["timestamp"] for line in lines_of(tmp_path)]
    assert moments == sorted(moments, reverse=True)


@pytest.mark.parametrize("form", list(ExportFormat))
def test_archived_events_are_exported_as_they_were_while_hot(
    database: Database, settings: Settings, maint: Connection, tmp_path: Path, form: ExportFormat
) -> None:
    life = begin_life(database, tmp_path, rows=500)
    knowing = settings.model_copy(update={"archive_url": life.archive.as_uri()})
    run(knowing, tmp_path / "hot", order(form, tenant="acme"))
    live(maint, life, now=life.sealing)
    live(maint, life, now=life.detaching)

    run(knowing, tmp_path / "cold", order(form, tenant="acme"))

    name = f"a/events.0000.{form.value}"
    assert (tmp_path / "hot" / name).read_bytes() == (tmp_path / "cold" / name).read_bytes()


def test_reader_gets_its_tenant_only_also_from_the_archive(
    database: Database, archived: tuple[Settings, Life], tmp_path: Path
) -> None:
    settings, _ = archived
    store_events(database, recent(20, tenant_id=TENANTS[2]) + recent(20, tenant_id="globex"))

    done = run(settings, tmp_path, order(tenant=TENANTS[2]))

    assert {line["tenant_id"] for line in lines_of(tmp_path)} == {TENANTS[2]}
    assert done.rows == 20 + 666


def test_log_takes_note_before_and_after(
    database: Database, settings: Settings, redis_space: RedisSpace, tmp_path: Path
) -> None:
    store_events(database, recent(5))

    done = run(settings, tmp_path, order(tenant="acme", user="7"))

    begun, ended = acts(redis_space)
    assert (begun["action"], ended["action"]) == (BEGIN_ACTION, END_ACTION)
    assert begun["user_id"] == ended["user_id"] == "ann"
    assert begun["entity_id"] == "a"
    assert begun["metadata"]["query"] == {"tenant_id": "acme", "user_id": "7"}
    assert ended["metadata"]["rows"] == 5
    assert ended["metadata"]["manifest_sha256"] == done.manifest_sha256


def test_nothing_is_exported_when_the_log_takes_no_note(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    store_events(database, recent(5))
    silent = settings.model_copy(
        update={"redis_url": settings.redis_url.__class__("redis://127.0.0.1:1/0")}
    )

    with pytest.raises(QueueUnavailable):
        run(silent, tmp_path / "out", order())

    assert not (tmp_path / "out").exists()


def test_second_process_with_the_same_name_waits_for_nobody(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    store_events(database, recent(5))
    refused: list[LockNotAvailable] = []

    def begin_another(_: object) -> None:
        with pytest.raises(LockNotAvailable) as caught:
            run(settings, tmp_path, order(tenant="acme"))
        refused.append(caught.value)
        run(settings, tmp_path, replace(order(tenant="acme"), name="b"))

    run(settings, tmp_path, order(), report=begin_another)

    assert "right now" in refused[0].message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_slow_search_is_refused_with_a_remedy(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InvalidQuery):
        run(settings, tmp_path, order(since="2h", until="3h"))

    assert list(tmp_path.iterdir()) == []


def test_what_arrives_during_an_export_is_not_part_of_it(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    before = store_events(database, recent(600))
    moment = datetime.now(UTC)

    def arrive(_: object) -> None:
        store_events(database, [event(timestamp=datetime.now(UTC))])

    done = run(settings, tmp_path, order(), now=moment, report=arrive)

    assert sorted(ids_of(tmp_path)) == sorted(before)
    assert done.rows == 600
