"""`audit-platform restore` as a person types it, and what the log knows of it."""

from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from audit_platform.cli.app import app
from audit_platform.db.pool import Connection
from audit_platform.retention.partition_states import State
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.integration.events.shard import Shard
from tests.integration.retention.archived import archived_life, fresh, tables_like
from tests.integration.retention.lives import Life, begin_life

pytestmark = pytest.mark.integration

URLS = ("maint_url", "reader_url", "writer_url", "redis_url")


@pytest.fixture
def life(
    settings: Settings,
    database: Database,
    maint: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Life:
    """A dropped day, and a shell beside its platform."""
    made = archived_life(database, maint, tmp_path, State.DROPPED)
    found = {f"AUDIT_{n.upper()}": getattr(settings, n).get_secret_value() for n in URLS}
    found |= {
        "AUDIT_KEY_PREFIX": settings.key_prefix,
        "AUDIT_DATA_DIR": str(settings.data_dir),
        "AUDIT_ARCHIVE_URL": made.archive.as_uri(),
        "AUDIT_ARCHIVE_COPY_URL": made.copy.as_uri(),
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return made


def restore(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["restore", *arguments])


def test_day_is_restored_removed_and_attached(
    maint: Connection, database: Database, shard: Shard, life: Life
) -> None:
    day = f"{life.bounds.lo:%Y-%m-%d}"

    said = [
        restore("--day", day, "--reason", "asked by the auditor", "--user", "eve"),
        restore("--day", day, "--remove"),
        restore("--partition", life.name, "--attach", "--from-copy"),
    ]

    assert [one.exit_code for one in said] == [0, 0, 0], [one.output for one in said]
    assert f"306 rows in audit.restored_{life.name}" in said[0].stdout
    assert "equal to the seal" in said[0].stdout
    assert "dropped" in said[1].stdout
    assert "306 rows attached" in said[2].stdout
    assert fresh(maint, life).state is State.VERIFIED
    assert tables_like(database, "restored%") == []
    shard.drain()
    acts = shard.rows(
        "select action, entity_id, metadata ->> 'reason' from audit.event"
        " where source = 'audit' order by id"
    )
    assert acts == [
        ("audit.partition.restore", life.name, "asked by the auditor"),
        ("audit.partition.remove_restored", life.name, None),
        ("audit.partition.attach", life.name, None),
    ]


def test_drill_is_run_by_hand(database: Database, life: Life) -> None:
    passed = restore("--drill")
    next(life.archive.rglob("*.parquet")).write_bytes(b"PAR1")
    failed = restore("--drill", "--partition", life.name)
    from_copy = restore("--drill", "--day", f"{life.bounds.lo:%Y-%m-%d}", "--from-copy")

    assert [one.exit_code for one in (passed, failed, from_copy)] == [0, 1, 0]
    assert "passed: 306 rows" in passed.stdout
    assert "mismatches" in failed.stdout
    with psycopg.connect(database.admin_url) as conn:
        drills = conn.execute("select mismatches from audit.restore_drill order by drill_id")
        found = [row[0] for row in drills]
    assert (found[0], found[2]) == (0, 0)
    assert found[1] > 0


def test_damaged_copy_is_mended_by_hand(shard: Shard, life: Life) -> None:
    path = next(life.copy.rglob("*.parquet"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])

    said = [restore("--repair", "--partition", life.name) for _ in range(2)]

    assert [one.exit_code for one in said] == [0, 0], [one.output for one in said]
    assert "1 file(s) mended" in said[0].stdout
    assert path.name in said[0].stdout
    assert "0 file(s) mended" in said[1].stdout
    assert path.read_bytes() == whole
    shard.drain()
    acts = shard.rows("select entity_id from audit.event where action = 'audit.archive.repair'")
    assert acts == [(life.name,), (life.name,)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say which day"),
        (("--day", "2025-06-01", "--partition", "event_20250601"), "either a --day or"),
        (("--day", "2025-06-01", "--attach", "--remove"), "exclude each other"),
        (("--day", "1999-01-01"), "no partition of 1999-01-01"),
        (("--partition", "event_\x1b[31m"), "no partition 'event_\\x1b[31m'"),
        (("--day", "2025-06-01", "--reason", " "), "--reason needs a sentence"),
    ],
)
@pytest.mark.usefixtures("life")
def test_wrong_use_is_said(arguments: tuple[str, ...], said: str) -> None:
    result = restore(*arguments)

    assert result.exception is not None
    assert said in str(result.exception)


def test_day_without_archive_is_named(database: Database, life: Life, tmp_path: Path) -> None:
    other = begin_life(database, tmp_path, rows=1, day=life.bounds.hi)

    result = restore("--partition", other.name)

    assert "in no archive" in str(result.exception)
    assert restore("--drill", "--partition", other.name).exit_code == 1
