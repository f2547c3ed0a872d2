"""`audit-platform up | status | down | reset | config`: the platform as a whole.

Here: options and words. Not here: what they do (`local/supervisor.py`, `local/control.py`).
"""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from audit_platform.local.control import PlatformStatus, ProcessStatus
    from audit_platform.local.platform_plan import PlatformPlan
    from audit_platform.local.supervisor import Platform
    from audit_platform.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Data directory; default: AUDIT_DATA_DIR or .audit-platform.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HIDDEN: Final = "***"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("status")(status)
    app.command("down")(down)
    app.command("reset")(reset)
    app.command("config")(config)


def up(
    *,
    data_dir: DataDir = None,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Use any free ports instead of the set ones.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every line of every process.")
    ] = False,
) -> None:
    """Start everything here; Ctrl-C stops it.

    PostgreSQL, Redis and Dagster run in the foreground; the data stays when they stop. Your
    own servers are used instead when AUDIT_DATABASE_URL or AUDIT_REDIS_URL name them.
    """
    from audit_platform.local.supervisor import Platform

    ports = ("postgres_port", "redis_port", "webserver_port") if free_ports else ()
    settings = _load(data_dir, **dict.fromkeys(ports, 0))
    platform = Platform(settings, say=_say, show=_show_all if verbose else _show_trouble)
    began_at = time.monotonic()
    with _signals_end(platform):
        try:
            platform.start()
            platform.wait_ready()
            _say(ready_text(platform.plan, took_s=time.monotonic() - began_at))
            platform.run_forever()
            _say("Stopping.")
        except KeyboardInterrupt:
            _say("Stopping before everything had started.")
        finally:
            platform.stop()
    _say("Stopped; the data is kept.")


def status(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show processes, queue and last batch.

    The exit code is 0 only if every process runs and every service answers.
    """
    from audit_platform.local.control import read_status

    found = read_status(_load(data_dir), now=datetime.now(UTC))
    typer.echo(_to_json(found) if as_json else status_text(found))
    if not found.is_well:
        raise typer.Exit(1)


def down(*, data_dir: DataDir = None) -> None:
    """Stop the running platform; data is kept."""
    from audit_platform.local.control import stop_running

    pid = stop_running(_load(data_dir).data_dir)
    _say(f"The platform (pid {pid}) has stopped; the data is kept.")


def reset(
    *,
    data_dir: DataDir = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove the data directory; asks first.

    All events, the queue, the run history and the keys in it are lost.
    """
    from audit_platform.local.control import remove_data, require_removable

    directory = _load(data_dir).data_dir.absolute()
    require_removable(directory)
    if not yes and not typer.confirm(f"Remove {directory} with all its events and keys?"):
        _say("Nothing was removed.")
        raise typer.Exit(1)
    remove_data(directory)
    _say(f"{directory} was removed.")


def config(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show each setting, its value and origin.

    Passwords and keys are hidden.
    """
    from audit_platform.settings import ENV_PREFIX, Settings, origins

    given = {} if data_dir is None else {"data_dir": data_dir}
    settings, found = _load(data_dir), origins(Settings, **given)
    rows = [
        {
            "setting": f"{ENV_PREFIX}{name.upper()}",
            "value": shown_value(getattr(settings, name)),
            "origin": found[name],
            "meaning": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    widths = [max(len(str(row[column])) for row in rows) for column in ("setting", "value")]
    for row in rows:
        value = "" if row["value"] is None else str(row["value"])
        typer.echo(f"{row['setting']:<{widths[0]}}  {value:<{widths[1]}}  {row['origin']}")


def shown_value(value: Any) -> str | int | float | None:
    """Make a setting's value fit to be shown: without passwords and keys."""
    from pydantic import SecretStr

    if isinstance(value, SecretStr):
        return hidden_password(value.get_secret_value())
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return value if isinstance(value, int | float) or value is None else str(value)


def hidden_password(secret: str) -> str:
    """Hide the password of a URL; anything else is hidden as a whole."""
    scheme, separator, rest = secret.partition("://")
    if not separator:
        return _HIDDEN
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}{colon}{_HIDDEN if colon else ''}{at}{place}"


def ready_text(plan: "PlatformPlan", *, took_s: float) -> str:
    """Say what runs where; no password is shown."""
    return "\n".join(
        (
            f"Ready after {took_s:.1f} s. Data in {plan.data_dir}",
            f"  UI          {plan.ui_url}",
            f"  PostgreSQL  {psql_line(plan)}",
            f"  Redis       {hidden_password(plan.values['redis_url'])}",
            f"  Settings    {plan.data_dir / 'platform.env'}: URLs and keys for your applications",
            "  Stop        Ctrl-C, or `audit-platform down`",
        )
    )


def psql_line(plan: "PlatformPlan") -> str:
    """Command that opens the events of the default tenant in SQL."""
    from urllib.parse import urlsplit

    from audit_platform.local.binaries import postgres_bin
    from audit_platform.local.platform_state import PASSWORD_FILE

    parts = urlsplit(plan.values["reader_url"])
    program = shutil.which("psql") or postgres_bin(plan.settings.postgres_version) / "psql"
    return (
        f"PGPASSFILE={plan.data_dir / PASSWORD_FILE} "
        f"PGOPTIONS='-c app.tenant={plan.settings.tenant_id}' "
        f"{program} -h {parts.hostname} -p {parts.port or 5432} -U {parts.username} "
        f"{parts.path[1:]}"
    )


def status_text(status: "PlatformStatus") -> str:
    """Say the status in lines for people."""
    lines = [f"{'Ready' if status.is_ready else 'Starting'}: {status.ui_url}", ""]
    lines += [f"{'process':<13}{'state':<10}{'pid':>8}{'uptime':>12}{'port':>8}"]
    lines += [_process_line(process) for process in status.processes]
    lines.append("")
    if status.queue_length is not None:
        waiting = ", ".join(f"shard {shard}: {n:,}" for shard, n in status.queue_length.items())
        lines.append(f"Waiting entries   {waiting}")
    if status.overload_level is not None:
        lines.append(f"Overload          {_overload_text(status)}")
    if status.partitions_ahead is not None:
        lines.append(f"Partitions ahead  {status.partitions_ahead}")
        lines.append(f"Last batch        {_batch_text(status)}")
    return "\n".join([*lines, *(f"Trouble           {line}" for line in status.trouble)])


def _overload_text(status: "PlatformStatus") -> str:
    levels = ", ".join(f"shard {shard}: {n}" for shard, n in (status.overload_level or {}).items())
    return f"level {levels}; Redis memory {status.redis_memory_share or 0:.0%} used"


def _process_line(process: "ProcessStatus") -> str:
    uptime = "" if process.uptime_s is None else _duration(process.uptime_s)
    pid, port = process.pid or "", process.port or ""
    return f"{process.name:<13}{process.state:<10}{pid:>8}{uptime:>12}{port:>8}"


def _batch_text(status: "PlatformStatus") -> str:
    batch = status.last_batch
    if batch is None:
        return "none yet"
    return (
        f"{batch['committed_at']:%Y-%m-%d %H:%M:%S} UTC: {batch['n_read']:,} read, "
        f"{batch['n_new']:,} new, {batch['n_dup']:,} duplicate, {batch['n_late']:,} late, "
        f"{batch['n_bad']:,} bad"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _to_json(status: "PlatformStatus") -> str:
    values = {**asdict(status), "is_well": status.is_well}
    return json.dumps(values, indent=2, default=str)


def _load(data_dir: Path | None, **overrides: Any) -> "Settings":
    from audit_platform.settings import load_settings

    return load_settings(**overrides, **({} if data_dir is None else {"data_dir": data_dir}))


def _say(sentence: str) -> None:
    typer.echo(sentence)


def _show_trouble(name: str, line: str, is_trouble: bool) -> None:
    if is_trouble:
        _show_all(name, line, is_trouble)


def _show_all(name: str, line: str, is_trouble: bool) -> None:
    del is_trouble
    typer.echo(f"{name:<11} | {line}")


@contextmanager
def _signals_end(platform: "Platform") -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the platform in good order; a second one hurries."""

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        is_starting = not (platform.is_ready or platform.is_stopping)
        platform.ask_to_end()
        if is_starting:
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, end) for number in _END_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
