"""The time of a search holds for PostgreSQL and the archive together."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from audit_platform.errors import InvalidQuery
from audit_platform.local.postgres import PostgresServer
from audit_platform.search.cold import Archive
from audit_platform.search.everywhere import Everywhere
from audit_platform.search.hot import Searcher
from audit_platform.search.query import EventQuery
from tests.integration.search.two_databases import NOW, TwoDatabases, two_databases

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pair(
    template_database: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoDatabases]:
    with two_databases(template_database, tmp_path_factory.mktemp("archive")) as made:
        yield made


class _Clock:
    """Seconds that pass when somebody says so."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class _SlowArchive(Archive):
    """Six seconds pass before each archived partition is read."""

    def __init__(self, urls: list[str], clock: _Clock) -> None:
        super().__init__(urls)
        self._clock, self.searched = clock, 0

    def search(self, *arguments: Any, **options: Any) -> Any:
        self._clock.seconds += 6
        self.searched += 1
        return super().search(*arguments, **options)


@pytest.mark.parametrize(("is_patient", "searched"), [(False, 2), (True, 5)])
def test_limit_holds_for_postgresql_and_archive_together(
    pair: TwoDatabases, is_patient: bool, searched: int
) -> None:
    clock = _Clock()
    archive = _SlowArchive([pair.archive_url], clock)
    searcher = Searcher(url=pair.spread.maint_url, is_operator=True, timeout_s=10)
    problem = ""

    with searcher.connected() as connection:
        everywhere = Everywhere(searcher, connection, archive, is_patient=is_patient, clock=clock)
        try:
            everywhere.search(EventQuery(limit=1_000), now=NOW)
        except InvalidQuery as exc:
            problem = str(exc)

    assert archive.searched == searched
    # Newest first: the second archived day it came to is the fourth of all.
    assert ("longer than 10 s and was before the archive of 2026-03-08" in problem) != is_patient


def test_statements_share_the_limit_of_the_search(pair: TwoDatabases) -> None:
    """None of them takes long, all together do."""
    clock = _Clock()

    class SlowConnection(psycopg.Connection[Any]):
        def execute(self, *arguments: Any, **options: Any) -> "psycopg.Cursor[Any]":
            clock.seconds += 3
            return super().execute(*arguments, **options)

    searcher = Searcher(url=pair.spread.reader_url, is_operator=False, timeout_s=10)
    with SlowConnection.connect(pair.spread.reader_url, autocommit=True) as connection:
        everywhere = Everywhere(searcher, connection, Archive([pair.archive_url]), clock=clock)
        with pytest.raises(InvalidQuery, match="longer than 10 s; narrow it"):
            everywhere.search(EventQuery(tenant_id="acme"), now=NOW)
