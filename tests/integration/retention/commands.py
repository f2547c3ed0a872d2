"""`audit-platform` as a person types it beside a running platform, and what it left in the log."""

import re
from typing import Any

from typer.testing import CliRunner, Result

from audit_platform.cli.app import app
from audit_platform.settings import Settings
from tests.integration.events.shard import Shard

URLS = ("maint_url", "redis_url", "dead_letter_key")
REQUEST = re.compile(r"--approve ([0-9a-f-]{36})")


def environment_of(settings: Settings) -> dict[str, str]:
    """The services of a test, as a shell beside the platform would find them."""
    found = {f"AUDIT_{name.upper()}": getattr(settings, name).get_secret_value() for name in URLS}
    return found | {
        "AUDIT_KEY_PREFIX": settings.key_prefix,
        "AUDIT_DATA_DIR": str(settings.data_dir),
        "COLUMNS": "300",
    }


def run(settings: Settings, *arguments: str, **changes: str) -> Result:
    """Run one command."""
    return CliRunner().invoke(app, arguments, env=environment_of(settings) | changes)


def done(settings: Settings, *arguments: str) -> str:
    """Run one command that succeeds; returns what it printed."""
    result = run(settings, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def asked(settings: Settings, *arguments: str) -> str:
    """Run one command that asks for a second person; returns the request."""
    result = run(settings, *arguments)
    assert result.exit_code == 3, (result.output, result.exception)
    found = REQUEST.search(result.stdout)
    assert found is not None
    return found[1]


def acts(shard: Shard) -> list[tuple[str, str, dict[str, Any]]]:
    """Action, actor and metadata of the stored events about acts, in order."""
    shard.drain()
    return [
        (action, user_id, metadata)
        for action, user_id, metadata in shard.rows(
            "select action, user_id, metadata from audit.event"
            " where source = 'audit' order by timestamp, id"
        )
    ]
