"""`audit-platform storage` as a person types it, on a real database."""

import json
from datetime import UTC, datetime

import psycopg
import pytest
from typer.testing import CliRunner, Result

from audit_platform.cli.app import app
from audit_platform.errors import DatabaseUnavailable
from audit_platform.settings import Settings
from tests.conftest import Database

pytestmark = pytest.mark.integration

TODAY = f"event_{datetime.now(UTC):%Y%m%d}"


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_MAINT_URL", settings.database_url_of("maint"))
    monkeypatch.setenv("AUDIT_DATA_DIR", str(settings.data_dir))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["storage", *arguments])


@pytest.mark.usefixtures("environment")
def test_table_shows_each_partition_and_what_to_look_at() -> None:
    shown = run()

    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("database audit_")
    assert lines[1].startswith("write-ahead log: ")
    (line,) = (one for one in lines if one.startswith(TODAY))
    assert line.split()[1] == "open"
    # Nobody analyzed: what is not known is not guessed.
    assert "?" in line
    assert lines[-1] == "nothing to look at"
    assert lines[-2].startswith("10 partitions, 0 rows, ")


@pytest.mark.usefixtures("environment")
def test_indexes_and_writes_are_shown_when_asked(database: Database) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "insert into audit.retention_class (source, action, retention_class)"
            " values ('user', 'a', 'short')"
        )
        connection.execute("select pg_stat_force_next_flush()")

    shown = run("--indexes", "--writes")

    (family,) = (one for one in shown.stdout.splitlines() if one.startswith("event_user "))
    assert family.split()[1:3] == ["btree", "10"]
    written = [one.split() for one in shown.stdout.splitlines() if one.startswith("retention_c")]
    assert ["retention_class", "1", "0", "0"] in written
    assert "event_user " not in run().stdout


@pytest.mark.usefixtures("environment")
def test_json_holds_everything_in_bytes() -> None:
    shown = json.loads(run("-o", "json").stdout)

    names = [one["name"] for one in shown["tables"]]
    assert TODAY in names
    table = shown["tables"][names.index(TODAY)]
    assert table["total_bytes"] >= table["index_bytes"] > 0
    assert {one["family"] for one in shown["indexes"]} >= {"event_pkey", "event_user"}
    assert shown["database"]["bytes"] > 0
    assert shown["findings"] == []
    assert datetime.fromisoformat(shown["at"]).tzinfo is not None


def test_silent_database_is_an_error_of_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_MAINT_URL", "postgresql://nobody@127.0.0.1:1/x")
    monkeypatch.setenv("AUDIT_DATA_DIR", str(settings.data_dir))

    assert isinstance(run().exception, DatabaseUnavailable)
