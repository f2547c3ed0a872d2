"""The command line as a program: help, version, errors."""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from audit_platform.settings import environment_for_child

PROGRAM = Path(sysconfig.get_path("scripts")) / "audit-platform"
COMMANDS = (
    *("up", "status", "down", "reset", "config", "doctor", "import", "search"),
    *("export", "deadletter", "policies", "partitions", "storage", "restore", "retention"),
    *("hold", "demo"),
)


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (PROGRAM, *arguments),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=60,
        env=environment_for_child(**variables),
    )


def test_help_names_every_command(tmp_path: Path) -> None:
    shown = run("--help", cwd=tmp_path)

    assert shown.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", shown.stdout, re.MULTILINE), command


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(tmp_path: Path, command: str) -> None:
    shown = run(command, "--help", cwd=tmp_path)

    assert shown.returncode == 0
    assert "Usage:" in shown.stdout


def test_help_imports_no_server_library() -> None:
    code = (
        "import sys; import audit_platform.cli.app; "
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run(
        (sys.executable, "-c", code), capture_output=True, text=True, check=True
    ).stdout

    for heavy in ("dagster", "polars", "psycopg", "alembic", "sqlalchemy", "redis", "pydantic"):
        assert f"'{heavy}'" not in loaded


def test_version_is_printed(tmp_path: Path) -> None:
    shown = run("--version", cwd=tmp_path)

    assert shown.returncode == 0
    assert re.fullmatch(r"audit-platform \d+\.\d+\.\d+\n", shown.stdout)


def test_known_error_is_one_line_without_traceback(tmp_path: Path) -> None:
    refused = run("status", cwd=tmp_path)

    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert "audit-platform up" in refused.stderr


def test_wrong_setting_names_its_variable(tmp_path: Path) -> None:
    refused = run("status", cwd=tmp_path, AUDIT_SHARDS="none")

    assert refused.returncode == 2
    assert refused.stderr.startswith("audit-platform: AUDIT_SHARDS: ")
    assert refused.stderr.count("\n") == 1


def test_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    program = subprocess.Popen(
        (PROGRAM, "config", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment_for_child(),
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()

    complaint = program.stderr.read()

    assert complaint == b""
    program.stderr.close()
    program.wait(60)
