"""One search over PostgreSQL, late rows and archive gives what PostgreSQL alone gave."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audit_platform.errors import ArchiveMissing, InvalidQuery
from audit_platform.local.postgres import PostgresServer
from audit_platform.search.cold import Archive
from audit_platform.search.cursor import resume, sign_cursor
from audit_platform.search.everywhere import Everywhere
from audit_platform.search.hot import ArchiveUse, Page, Searcher
from audit_platform.search.query import EventQuery, Position
from tests.effort import examples
from tests.integration.search.two_databases import (
    ACTIONS,
    DAYS,
    NOW,
    TENANTS,
    Place,
    TwoDatabases,
    day_of,
    two_databases,
)

pytestmark = pytest.mark.integration

KEY = base64.b64decode("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
MOST_PAGES = 8


@pytest.fixture(scope="module")
def pair(
    template_database: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoDatabases]:
    with two_databases(template_database, tmp_path_factory.mktemp("archive")) as made:
        yield made


def _searcher(place: Place, tenant: str | None) -> Searcher:
    is_operator = tenant is None
    url = place.maint_url if is_operator else place.reader_url
    return Searcher(url=url, is_operator=is_operator, timeout_s=10)


def _hot_pages(pair: TwoDatabases, query: EventQuery) -> list[Page]:
    searcher = _searcher(pair.hot, query.tenant_id)
    pages: list[Page] = []
    with searcher.connected() as connection:
        asked = query
        while len(pages) < MOST_PAGES:
            pages.append(searcher.search(connection, asked, now=NOW))
            position = pages[-1].next_position
            if position is None:
                break
            asked = replace(query, after=position)
    return pages


def _all_pages(pair: TwoDatabases, query: EventQuery) -> list[Page]:
    """Walk through signed cursors, as the command line does."""
    searcher = _searcher(pair.spread, query.tenant_id)
    pages: list[Page] = []
    with Everywhere.opened(searcher, Archive([pair.archive_url])) as everywhere:
        asked = query
        while len(pages) < MOST_PAGES:
            pages.append(everywhere.search(asked, now=NOW))
            position = pages[-1].next_position
            if position is None:
                break
            cursor = sign_cursor(query, position, key=KEY, now=NOW)
            asked = resume(query, cursor, key=KEY, now=NOW)
    return pages


def _one(
    pair: TwoDatabases, archive: Archive | None = None, **filters: Any
) -> tuple[list[dict[str, Any]], ArchiveUse]:
    query = EventQuery(**filters)
    searcher = _searcher(pair.spread, query.tenant_id)
    with Everywhere.opened(searcher, archive or Archive([pair.archive_url])) as everywhere:
        page = everywhere.search(query, now=NOW)
    return [dict(row) for row in page.rows], page.archive


moments = st.builds(
    lambda day, hour, micro: day_of(day).lo + timedelta(hours=hour, microseconds=micro),
    st.integers(0, DAYS - 1),
    st.sampled_from([0, 0, 5, 12, 23]),
    st.sampled_from([-1, 0, 1, 1_000]),
)
paths = st.sampled_from(
    ["plan", "seats", "n", "ok", "none", "a.b", "a.b[1]", "a.b[2].c", '"x.y"', "[0]", "a[0].b"]
)
spellings = st.sampled_from(
    ["pro", "free", "12", "12.0", '"12"', "12345678901234567890123", "1e400", "true", "null", "x"]
)
FILTERS: dict[str, st.SearchStrategy[Any]] = {
    "tenant_id": st.sampled_from([*TENANTS, "nobody"]),
    "since": moments,
    "until": moments,
    "user_id": st.sampled_from(["7", "u-9", "Ä", "none"]),
    "entity_type": st.sampled_from(["order", "AWS::S3::Bucket", "x"]),
    "entity_id": st.sampled_from([*"012345", "9"]),
    "action": st.sampled_from([*ACTIONS, "order.*", "ord*", "100%*", "x*", "u*"]),
    "status": st.sampled_from(["success", "failure", "denied", "pending"]),
    "source": st.sampled_from(["user", "api"]),
    "correlation_id": st.just("c-1"),
    "text": st.sampled_from(["É", "ärger", "50%", "σίσ", "ς", "k2", "i", 'hi" \\', "B", "zz"]),
    "metadata": st.dictionaries(
        paths, spellings | st.sampled_from(["0012", "1", "0", 'say "hi"']), max_size=2
    ),
}
# Three at most: all together match nothing.
queries = st.sets(st.sampled_from(sorted(FILTERS)), max_size=3).flatmap(
    lambda names: st.fixed_dictionaries({name: FILTERS[name] for name in sorted(names)})
)


@settings(
    max_examples=examples(50),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(filters={}, limit=1_000, start=None)
@example(filters={"tenant_id": "Ünï"}, limit=50, start=None)
@example(filters={"metadata": {"seats": "12"}}, limit=7, start=None)
@example(filters={"metadata": {"n": "0", '"x.y"': 'say "hi"'}}, limit=7, start=None)
@example(filters={"text": "σίσ", "tenant_id": "acme"}, limit=2, start=200)
@given(
    filters=queries,
    limit=st.sampled_from([1, 2, 7, 50, 1_000]),
    start=st.none() | st.integers(0, DAYS * 40 - 1),
)
def test_pages_are_those_of_postgresql_alone(
    pair: TwoDatabases, filters: dict[str, Any], limit: int, start: int | None
) -> None:
    if {"since", "until"} <= filters.keys() and filters["since"] >= filters["until"]:
        filters = filters | {"since": filters["until"], "until": filters["since"]}
        if filters["since"] == filters["until"]:
            del filters["until"]
    query = EventQuery(**filters, limit=limit, after=_position(pair, start))

    expected = _hot_pages(pair, query)
    found = _all_pages(pair, query)

    assert [[row["id"] for row in page.rows] for page in found] == [
        [row["id"] for row in page.rows] for page in expected
    ]
    assert [list(page.rows) for page in found] == [list(page.rows) for page in expected]
    assert [page.next_position for page in found] == [page.next_position for page in expected]


def _position(pair: TwoDatabases, start: int | None) -> Position | None:
    if start is None:
        return None
    row = pair.rows[start]
    return Position(timestamp=row["timestamp"], tenant_id=row["tenant_id"], event_id=str(row["id"]))


def test_every_event_is_found_once(pair: TwoDatabases) -> None:
    rows, use = _one(pair, limit=1_000)

    assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in pair.rows)
    assert use.opened == 8


def test_reader_finds_its_tenant_only(pair: TwoDatabases) -> None:
    rows, _ = _one(pair, tenant_id="Zeta", limit=1_000)

    assert {row["tenant_id"] for row in rows} == {"Zeta"}
    assert len(rows) == sum(row["tenant_id"] == "Zeta" for row in pair.rows)


def test_reader_without_tenant_is_refused(pair: TwoDatabases) -> None:
    searcher = Searcher(url=pair.spread.reader_url, is_operator=False, timeout_s=10)
    with (
        Everywhere.opened(searcher, Archive([pair.archive_url])) as everywhere,
        pytest.raises(InvalidQuery, match="--tenant"),
    ):
        everywhere.search(EventQuery(), now=NOW)


def test_search_in_hot_days_needs_no_archive(pair: TwoDatabases) -> None:
    nowhere = Archive(["file:///does/not/exist"])
    since = day_of(5).lo

    rows, use = _one(pair, nowhere, since=since, limit=1_000)
    page, _ = _one(pair, nowhere, limit=20)

    assert len(rows) == sum(row["timestamp"] >= since for row in pair.rows)
    assert len(page) == 20
    assert use == ArchiveUse()


class _CountingConnection(psycopg.Connection[Any]):
    """A real connection that counts its statements."""

    statements = 0

    def execute(self, *arguments: Any, **options: Any) -> "psycopg.Cursor[Any]":
        self.statements += 1
        return super().execute(*arguments, **options)


def test_search_in_hot_days_runs_the_statements_of_a_hot_search(pair: TwoDatabases) -> None:
    query = EventQuery(tenant_id="acme", since=day_of(5).lo, limit=1_000)
    searcher = _searcher(pair.spread, "acme")
    url = pair.spread.reader_url

    with _CountingConnection.connect(url, autocommit=True) as connection:
        searcher.search(connection, query, now=NOW)
        hot = connection.statements
        Everywhere(searcher, connection, Archive([pair.archive_url])).search(query, now=NOW)
        everywhere = connection.statements - hot

    assert everywhere == hot


def test_entity_opens_the_files_that_may_hold_it(pair: TwoDatabases) -> None:
    nothing, without = _one(
        pair, tenant_id="acme", entity_type="order", entity_id="77", limit=1_000
    )
    some, with_it = _one(pair, tenant_id="acme", entity_type="order", entity_id="3", limit=1_000)

    expected = [
        row
        for row in pair.rows
        if (row["tenant_id"], row["entity_type"], row["entity_id"]) == ("acme", "order", "3")
    ]
    assert (nothing, without.opened, without.skipped) == ([], 0, 8)
    assert len(some) == len(expected)
    assert with_it.opened < 8


def test_file_that_expires_during_a_search_is_left_out(pair: TwoDatabases, tmp_path: Path) -> None:
    """The snapshot names a file that is gone when it is opened: a new one says why."""
    archive = _ArchiveOfADeletion([pair.archive_url], tmp_path, pair)
    day = day_of(0)

    try:
        rows, use = _one(pair, archive, since=day.lo, until=day.hi, limit=1_000)
    finally:
        archive.undo()

    assert (rows, use.opened, use.expired) == ([], 0, 1)


def test_file_that_is_lost_is_an_error(pair: TwoDatabases, tmp_path: Path) -> None:
    day = day_of(0)

    with pytest.raises(ArchiveMissing, match="date=2026-03-05"):
        _one(pair, Archive([tmp_path.as_uri()]), since=day.lo, until=day.hi)


class _ArchiveOfADeletion(Archive):
    """Deletes the file of the first day, as retention does, just before it is read."""

    def __init__(self, urls: list[str], bin_dir: Path, pair: TwoDatabases) -> None:
        super().__init__(urls)
        self._pair, self._bin, self._moved = pair, bin_dir / "deleted", False
        self._file = Path(urls[0].removeprefix("file://")) / (
            f"cold/date={day_of(0).lo:%Y-%m-%d}/standard.all.g1.0000.parquet"
        )

    def search(self, *arguments: Any, **options: Any) -> Any:
        if not self._moved:
            self._moved = True
            self._mark("'\"2026-04-01T00:00:00.000000Z\"'")
            self._file.rename(self._bin)
        return super().search(*arguments, **options)

    def undo(self) -> None:
        self._bin.rename(self._file)
        self._mark("'null'")

    def _mark(self, value: str) -> None:
        with psycopg.connect(self._pair.spread.maint_url) as conn:
            conn.execute("set role audit_owner")
            conn.execute(
                "update audit.partition set "
                f"files = jsonb_set(files, '{{0,expiring_at}}', {value}) where name = %s".encode(),
                [day_of(0).name],
            )
