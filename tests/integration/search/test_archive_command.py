"""`audit-platform search` across the border, as a person types it."""

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from typer.testing import CliRunner, Result

from audit_platform.archive.store import open_store
from audit_platform.cli.app import app
from audit_platform.db.pool import connected
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.settings import Settings
from tests.archiving import stored_row
from tests.conftest import Database
from tests.integration.search.two_databases import archive_day, day_of, insert_rows

pytestmark = pytest.mark.integration

URLS = ("maint_url", "reader_url", "cursor_key")
COLD_DAY = 0


@pytest.fixture
def archived(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, object]]:
    """Six old events in the archive, four of today in PostgreSQL; newest first."""
    for name in URLS:
        monkeypatch.setenv(f"AUDIT_{name.upper()}", getattr(settings, name).get_secret_value())
    monkeypatch.setenv("AUDIT_DATA_DIR", str(settings.data_dir))
    old, now = day_of(COLD_DAY), datetime.now(UTC)
    rows = [stored_row(now - timedelta(minutes=n), entity_id=f"new-{n}") for n in range(4)]
    rows += [stored_row(old.hi - timedelta(hours=n + 1), entity_id=f"old-{n}") for n in range(6)]
    with connected(database.maint_url, application="test") as conn:
        ensure_partitions(conn, [old])
    store = open_store((settings.data_dir / "archive").as_uri())
    with psycopg.connect(database.admin_url, autocommit=True) as conn:
        insert_rows(conn, rows)
        archive_day(conn, store, COLD_DAY, "detached")
        conn.execute(f"alter table audit.event detach partition audit.{old.name}".encode())
    return rows


def _search(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["search", "--tenant", "acme", "-o", "json", *arguments])


def _entities(*results: Result) -> list[str]:
    lines = "".join(result.stdout for result in results).splitlines()
    return [json.loads(line)["entity_id"] for line in lines]


def test_pages_lead_across_the_border(archived: list[dict[str, object]]) -> None:
    first = _search("--limit", "3")
    second = _search("--limit", "3", "--cursor", first.stderr.split()[-1])
    third = _search("--limit", "100", "--cursor", second.stderr.split()[-1])

    assert _entities(first, second, third) == [row["entity_id"] for row in archived]
    assert "archive files" not in first.stderr
    assert "archive files: 1 read, 0 ruled out" in second.stderr
    assert third.stderr == "archive files: 1 read, 0 ruled out\n"


@pytest.mark.usefixtures("archived")
def test_search_for_what_is_not_there_says_what_it_cost() -> None:
    result = _search("--entity", "order:nothing")

    assert "archive files: 0 read, 1 ruled out" in result.stderr
    assert "no events match" in result.stderr
