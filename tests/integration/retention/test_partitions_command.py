"""`audit-platform partitions`: every partition with where it stands, as a table and as NDJSON."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from audit_platform.cli.app import app
from audit_platform.cli.partitions import size_text
from audit_platform.db.pool import Connection
from audit_platform.errors import InvalidQuery, PermissionRefused
from audit_platform.events.identity import mint
from audit_platform.retention.holds import HoldScope, place
from audit_platform.retention.partition_table import note_error
from tests.conftest import Database
from tests.integration.retention.lives import Life, begin_life, live, row_of

pytestmark = pytest.mark.integration

ROWS = 60


@pytest.fixture
def life(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Life:
    monkeypatch.setenv("AUDIT_MAINT_URL", database.maint_url)
    # A narrow terminal, as most are: nothing is cut.
    monkeypatch.setenv("COLUMNS", "80")
    return begin_life(database, tmp_path, rows=ROWS)


def partitions(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["partitions", *arguments])


def listed(*arguments: str) -> dict[str, dict[str, Any]]:
    result = partitions("--output", "json", *arguments)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return {one["partition"]: one for one in found}


def hold(maint: Connection, life: Life, *, keep_hot: bool) -> None:
    place(
        maint,
        hold_id=UUID(mint(1_700_000_000_000_000, 3)),
        case_id="2026-19",
        scope=HoldScope(tenant_id="acme", lo=life.bounds.lo, hi=life.bounds.hi, keep_hot=keep_hot),
        reason="litigation",
        placed_by="jurist",
        now=life.bounds.lo,
    )


def test_archived_partition_shows_everything(life: Life, maint: Connection) -> None:
    live(maint, life, now=life.sealing)
    hold(maint, life, keep_hot=True)

    result = partitions("--until", "2026-01-01")

    assert result.exit_code == 0
    row = row_of(maint, life)
    assert row.root is not None
    line = next(line for line in result.stdout.splitlines() if line.startswith(life.name))
    cells = line.split()
    assert cells[1:4] == ["verified", "1", str(ROWS)]
    assert row.root.hex()[:12] in cells
    assert row.files[0].path in cells
    assert "detach is held by case 2026-19" in line
    assert result.stdout.splitlines()[-1].startswith("1 partition (1 verified); ")


def test_json_names_every_file_and_hold(life: Life, maint: Connection) -> None:
    live(maint, life, now=life.sealing)
    hold(maint, life, keep_hot=False)

    found = listed()[life.name]

    row = row_of(maint, life)
    assert row.root is not None
    assert found["root"] == row.root.hex()
    assert (found["state"], found["generation"], found["rows"]) == ("verified", 1, ROWS)
    assert found["table_bytes"] > 0
    assert found["archive_bytes"] == sum(entry.bytes for entry in row.files)
    assert [file["sha256"] for file in found["files"]] == [entry.sha256 for entry in row.files]
    assert [one["case"] for one in found["holds"]] == ["2026-19"]
    assert found["next_step"] == "detach"
    assert datetime.fromisoformat(found["due_at"]) == life.bounds.hi + timedelta(days=30)


def test_open_partition_has_an_estimate_once_it_was_analyzed(life: Life, admin: Connection) -> None:
    before = listed()[life.name]
    admin.execute(f"analyze audit.{life.name}".encode())

    after = listed()[life.name]

    assert "rows" not in before
    assert (after["rows"], after["rows_are_estimated"]) == (ROWS, True)
    assert f"~{ROWS}" in partitions("--state", "open").stdout


def test_dropped_partition_has_no_table_but_an_archive(life: Life, maint: Connection) -> None:
    for moment in life.moments:
        live(maint, life, now=moment)

    found = listed("--state", "dropped")

    assert list(found) == [life.name]
    assert "table_bytes" not in found[life.name]
    assert found[life.name]["archive_bytes"] > 0
    assert "next_step" not in found[life.name]


def test_filters_choose_by_state_period_due_and_hold(life: Life, maint: Connection) -> None:
    today = f"event_{datetime.now(UTC):%Y%m%d}"

    assert life.name in listed("--due")
    assert today not in listed("--due")
    assert list(listed("--until", "2026-01-01")) == [life.name]
    assert life.name not in listed("--since", "2026-01-01")
    assert life.name not in listed("--since", "2d")
    assert today in listed("--since", "2d")
    assert listed("--held") == {}
    hold(maint, life, keep_hot=False)
    assert list(listed("--held")) == [life.name]
    assert listed("--state", "sealed", "--state", "verified") == {}


def test_failed_step_is_shown_and_is_the_exit_code(life: Life, maint: Connection) -> None:
    note_error(maint, life.name, "export: the disk is full\x1b[31m")

    result = partitions("--due")

    assert result.exit_code == 1
    assert f"failed: {life.name}: export: the disk is full\\x1b[31m" in result.stdout
    assert partitions("--since", "2026-01-01").exit_code == 0


def test_one_reason_of_many_failures_is_told_once(life: Life, maint: Connection) -> None:
    names = list(listed("--until", f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}"))
    for name in names:
        note_error(maint, name, "export: the disk is full")

    lines = partitions().stdout.splitlines()

    told = [line for line in lines if "disk is full" in line]
    assert told == [f"failed: {life.name} and {len(names) - 1} more: export: the disk is full"]


def test_unknown_state_is_refused_with_those_that_exist(life: Life) -> None:
    del life
    result = partitions("--state", "archived")

    assert isinstance(result.exception, InvalidQuery)
    assert "open, sealed, exported" in str(result.exception)


def test_login_without_the_rights_says_which_one_has_them(
    life: Life, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    del life
    monkeypatch.setenv("AUDIT_MAINT_URL", database.reader_url)

    result = partitions()

    assert isinstance(result.exception, PermissionRefused)
    assert "audit_maint in AUDIT_MAINT_URL" in str(result.exception)


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, ""), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB"),
     (3 << 40, "3.0 TiB")],
)  # fmt: skip
def test_sizes_are_written_for_people(size: int | None, text: str) -> None:
    assert size_text(size) == text
