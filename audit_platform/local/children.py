"""The processes of the platform: what each one is started with.

Here: one `ChildSpec` per service and the environment of the Dagster processes. Not here: starting
(`processes.py`), order and restarts (`supervisor.py`), server configuration (`postgres.py`,
`redis.py`).
Guarantee: no secret on a command line; the environment of a child is complete, because a child
runs in another directory and sees no `.env`.
"""

import signal
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from audit_platform.local import dagster_home, postgres, redis
from audit_platform.local.log_lines import LineFormat
from audit_platform.local.platform_plan import PlatformPlan, Service
from audit_platform.local.processes import MARK, ChildSpec
from audit_platform.settings import ENV_PREFIX, Settings, environment_for_child

_ARCHIVE_URLS: Final = frozenset({"archive_url", "archive_copy_url"})


def postgres_child(plan: PlatformPlan, where: postgres.PostgresPlace) -> ChildSpec:
    """PostgreSQL in the foreground, as the user that `where` names."""
    return ChildSpec(
        name=Service.POSTGRES,
        argv=tuple(postgres.command(where)),
        environment=environment_for_child(),
        cwd=where.cluster,
        log_path=plan.log_dir / f"{Service.POSTGRES}.log",
        line_format=LineFormat.POSTGRES,
        # Fast shutdown: ends sessions and writes a checkpoint. SIGTERM would wait for sessions.
        end_signal=signal.SIGINT,
        death_signal=signal.SIGINT,
        popen_options=postgres.process_options(where),
    )


def redis_child(plan: PlatformPlan, config: redis.RedisConfig) -> ChildSpec:
    """Redis in the foreground; its configuration must be written."""
    return ChildSpec(
        name=Service.REDIS,
        argv=tuple(redis.command(config)),
        environment=environment_for_child(),
        cwd=config.data_dir,
        log_path=plan.log_dir / f"{Service.REDIS}.log",
        line_format=LineFormat.REDIS,
        death_signal=signal.SIGTERM,
    )


def dagster_children(plan: PlatformPlan, home: Path) -> dict[Service, ChildSpec]:
    """Code server, daemon and webserver; `home` is DAGSTER_HOME, already written."""
    host = plan.settings.host
    changes: dict[str, str | None] = {
        **settings_environment(plan.settings, data_dir=plan.data_dir),
        **{f"{ENV_PREFIX}{name.upper()}": value for name, value in plan.values.items()},
        **dagster_home.dagster_environment(home, plan.values["dagster_url"]),
        MARK: str(plan.data_dir),
        # Runs act as writer and reader; the administrator stays with the supervisor.
        "AUDIT_DATABASE_URL": None,
    }
    environment = environment_for_child(**changes)
    ports, log_level = plan.ports, plan.settings.log_level
    commands = {
        Service.CODE_SERVER: dagster_home.code_server_command(
            host, ports[Service.CODE_SERVER], log_level=log_level
        ),
        Service.DAEMON: dagster_home.daemon_command(home, log_level=log_level),
        Service.WEBSERVER: dagster_home.webserver_command(
            home, host, ports[Service.WEBSERVER], log_level=log_level
        ),
    }
    return {
        service: ChildSpec(
            name=service,
            argv=argv,
            environment=environment,
            cwd=home,
            log_path=plan.log_dir / f"{service}.log",
            line_format=LineFormat.DAGSTER,
        )
        for service, argv in commands.items()
    }


def settings_environment(settings: Settings, *, data_dir: Path) -> dict[str, str]:
    """Write settings as the variables they are read from; those without a value are left out.

    The services' URLs are left out too: they come from `platform.env`, which knows the ports. The
    archive is no service of the platform; its URLs are passed on. Paths become absolute, because
    the child runs in another directory.
    """
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    values["data_dir"] = data_dir
    return {
        f"{ENV_PREFIX}{name.upper()}": _text(value)
        for name, value in values.items()
        if value is not None and (not name.endswith("_url") or name in _ARCHIVE_URLS)
    }


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    if isinstance(value, Path):
        return str(value.absolute())
    return value.value if isinstance(value, StrEnum) else str(value)
