"""`import`, `search` and `tail` as a person types them, against real services."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit_platform.cli.app import app
from audit_platform.errors import AuditPlatformError
from audit_platform.settings import Settings
from tests.integration.imports.draining import draining

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)
URLS = ("maint_url", "reader_url", "writer_url", "redis_url", "redis_sensor_url", "cursor_key")


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The services of this test, as a shell beside the platform would find them."""
    found = {f"AUDIT_{n.upper()}": getattr(settings, n).get_secret_value() for n in URLS}
    found |= {"AUDIT_KEY_PREFIX": settings.key_prefix, "AUDIT_DATA_DIR": str(settings.data_dir)}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _events(path: Path, count: int, **override: object) -> Path:
    lines = [
        json.dumps(
            {
                "action": "order.create",
                "time": (NOW - timedelta(minutes=10 + n)).isoformat(),
                "id": f"{path.name}-{n}",
                "tenant_id": "acme",
                "entity_type": "order",
                "entity_id": str(n),
                "metadata": {"n": n},
            }
            | override
        )
        for n in range(count)
    ]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def stored(settings: Settings, environment: dict[str, str], tmp_path: Path) -> None:
    """Twelve events of one tenant, one of another."""
    del environment
    _events(tmp_path / "acme.ndjson", 12)
    _events(tmp_path / "globex.ndjson", 1, tenant_id="globex", user_label="\x1b[31m\u202e=1")
    with draining(settings):
        result = _run("import", tmp_path)
    assert result.exit_code == 0, result.output
    assert "stored: 13 new, 0 duplicates, 0 late, 0 dead letters" in result.stdout


@pytest.mark.usefixtures("stored")
def test_pages_follow_each_other_by_the_printed_cursor() -> None:
    first = _run("search", "--tenant", "acme", "--limit", "8", "-o", "json", "--since", "2h")
    cursor = first.stderr.split()[-1]
    second = _run(
        "search", "--tenant", "acme", "--limit", "8", "-o", "json", "--since", "2h",
        "--cursor", cursor,
    )  # fmt: skip
    forged = _run("search", "--tenant", "globex", "--since", "2h", "--cursor", cursor)

    numbers = [
        json.loads(line)["metadata"]["n"] for line in (first.stdout + second.stdout).splitlines()
    ]
    assert numbers == list(range(12))
    assert second.stderr == ""
    assert isinstance(forged.exception, AuditPlatformError)
    assert forged.exception.exit_code == 2


@pytest.mark.usefixtures("stored")
def test_operator_finds_all_tenants_and_the_table_is_harmless() -> None:
    table = _run("search")
    listed = _run("search", "-o", "csv", "--show", "tenant_id,user_label")

    assert table.exit_code == 0
    assert "globex" in table.stdout
    assert "\x1b" not in table.stdout
    rows = list(csv.reader(io.StringIO(listed.stdout)))
    assert rows[0] == ["tenant_id", "user_label"]
    assert len(rows) == 14


@pytest.mark.usefixtures("stored")
def test_filters_are_combined() -> None:
    found = _run(
        "search", "--tenant", "acme", "--entity", "order:3", "--action", "order.*",
        "--where", "n=3", "-o", "json",
    )  # fmt: skip
    nothing = _run("search", "--tenant", "acme", "--entity", "order:3", "--where", "n=4")

    assert [json.loads(line)["entity_id"] for line in found.stdout.splitlines()] == ["3"]
    assert "no events match" in nothing.stderr


@pytest.mark.usefixtures("stored")
def test_second_import_says_that_it_adds_nothing(tmp_path: Path) -> None:
    result = _run("import", tmp_path / "acme.ndjson")

    assert result.exit_code == 0
    assert "acme.ndjson: already imported, adds nothing (12 events)" in result.stdout


@pytest.mark.usefixtures("environment")
def test_rejected_rows_are_listed_and_kept(settings: Settings, tmp_path: Path) -> None:
    path = _events(tmp_path / "mixed.ndjson", 2)
    path.write_text(path.read_text() + '\n{"action": "x"}\nnot json \x1b[31m\n')
    rejects = tmp_path / "rejects.jsonl"

    with draining(settings):
        result = _run("import", path, "--rejects", rejects)

    assert result.exit_code == 3
    assert "mixed.ndjson, line 3: timestamp: is missing" in result.stderr
    assert "\x1b[31m" not in result.stderr
    kept = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(row["line"], row["field"]) for row in kept] == [(3, "timestamp"), (4, "record")]
    assert kept[0]["raw"] == '{"action": "x"}'


@pytest.mark.usefixtures("environment")
def test_nothing_to_import_is_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "broken.parquet"
    path.write_bytes(b"no parquet")

    result = _run("import", path)

    assert result.exit_code == 1
    assert "broken.parquet: after record 0: is no readable Parquet file" in result.stderr


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("option", [("--format", "xml"), ("--mapping", "nothing")])
def test_wrong_option_is_exit_code_2(option: tuple[str, str], tmp_path: Path) -> None:
    result = _run("import", _events(tmp_path / "a.ndjson", 1), *option)

    assert getattr(result.exception, "exit_code", result.exit_code) == 2


def test_tail_shows_what_arrives_and_ends_on_ctrl_c(
    settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    tail = subprocess.Popen(
        [Path(sys.executable).with_name("audit-platform"), "tail", "-o", "json"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert tail.stdout is not None
    moment = datetime.now(UTC)
    with draining(settings):
        number = 0
        # The first look of tail only learns what is there; feed until it has begun to show.
        deadline = time.monotonic() + 60
        os.set_blocking(tail.stdout.fileno(), False)
        shown = b""
        while not shown and time.monotonic() < deadline:
            number += 1
            name = f"{number}.ndjson"
            _run("import", _events(tmp_path / name, 1, time=moment.isoformat()))
            shown = tail.stdout.read() or b""
    tail.send_signal(signal.SIGINT)
    _, stderr = tail.communicate(timeout=20)

    assert json.loads(shown.splitlines()[0])["action"] == "order.create"
    assert tail.returncode == 0
    assert stderr == b""
