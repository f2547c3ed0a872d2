"""`audit-platform deadletter …` as a person types it, and what it left in the log."""

from typing import Any

from typer.testing import CliRunner, Result

from audit_platform.cli.app import app
from tests.integration.events.shard import Shard

URLS = ("maint_url", "writer_url", "redis_url", "dead_letter_key")


def deadletter(*arguments: str | int, answer: str | None = None) -> Result:
    """Run one command; `answer` is typed where it asks."""
    return CliRunner().invoke(
        app, ["deadletter", *(str(argument) for argument in arguments)], input=answer
    )


def done(*arguments: str | int) -> str:
    """Run one command that succeeds; returns what it printed."""
    result = deadletter(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def states(shard: Shard) -> list[tuple[str, str | None, bool]]:
    """Reason, resolution and whether it is resolved, of each letter in order."""
    return [
        (reason, resolution, resolved)
        for reason, resolution, resolved in shard.rows(
            "select reason, resolution, resolved_at is not null"
            " from audit.dead_letter order by dead_id"
        )
    ]


def acts(shard: Shard) -> list[tuple[str, str, dict[str, Any]]]:
    """Action, actor and metadata of the stored events about acts, in order."""
    return [
        (action, user_id, metadata)
        for action, user_id, metadata in shard.rows(
            "select action, user_id, metadata from audit.event"
            " where source = 'audit' and action like 'audit.dead_letter.%' order by id"
        )
    ]


def stored(shard: Shard, columns: str) -> list[tuple[Any, ...]]:
    """Columns of the stored events that are no acts."""
    return shard.rows(
        f"select {columns} from audit.event where source <> 'audit' order by timestamp, id"
    )
