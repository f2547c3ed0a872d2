"""What one start of the platform will do: which services are ours, where they listen, their URLs.

Here: turning settings, secrets and free ports into one frozen plan. Not here: acting on it.
Guarantee: a service is embedded unless the user named another one; a URL that only repeats what
an earlier start wrote into `platform.env` does not count as named by the user.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import SecretStr

from audit_platform.errors import WrongServerVersion
from audit_platform.local.platform_secrets import PlatformSecrets
from audit_platform.local.ports import claim_port
from audit_platform.local.postgres import PostgresConfig
from audit_platform.local.redis import RedisConfig, RedisUser
from audit_platform.settings import ENV_PREFIX, PLATFORM_ENV, Settings, origins

AUDIT_DATABASE: Final = "audit"
_REDIS_USERS: Final[Mapping[str, RedisUser]] = {
    "redis_url": "producer",
    "redis_consumer_url": "consumer",
    "redis_sensor_url": "sensor",
    "redis_janitor_url": "janitor",
}


class Service(StrEnum):
    """Names of the processes, in status, logs and messages."""

    POSTGRES = "postgres"
    REDIS = "redis"
    CODE_SERVER = "code-server"
    DAEMON = "daemon"
    WEBSERVER = "webserver"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformPlan:
    """Everything that is settled before the first process starts.

    Attributes:
        data_dir: Absolute, without symbolic links; also the mark of our processes.
        settings: As read.
        secrets: Of the data directory.
        ports: Port by service that listens here.
        postgres: The embedded server, None when the user named another one.
        redis: Likewise.
        admin_url: Administrator of the audit database.
        values: URLs and keys of the running platform by setting name, for example `writer_url`,
            what producers must agree on (key prefix, shards), and where archived partitions lie.
        given: Names of the URLs and keys that the user gave; they are never written to a file.
    """

    data_dir: Path
    settings: Settings
    secrets: PlatformSecrets = field(repr=False)
    ports: Mapping[Service, int]
    postgres: PostgresConfig | None = field(repr=False)
    redis: RedisConfig | None = field(repr=False)
    admin_url: str = field(repr=False)
    values: Mapping[str, str] = field(repr=False)
    given: frozenset[str]

    @property
    def ui_url(self) -> str:
        """Address of the Dagster UI."""
        return f"http://{self.settings.host}:{self.ports[Service.WEBSERVER]}"

    @property
    def file_values(self) -> dict[str, str]:
        """What `platform.env` says, by variable name: all values but those the user gave."""
        return {
            f"{ENV_PREFIX}{name.upper()}": value
            for name, value in self.values.items()
            if name not in self.given
        }

    @property
    def log_dir(self) -> Path:
        """Where the log of each process lies."""
        return self.data_dir / "logs"


def make_plan(settings: Settings, secrets: PlatformSecrets, *, random: Random) -> PlatformPlan:
    """Settle services, ports and URLs.

    Args:
        settings: As read; port 0 means any free one.
        secrets: Of the data directory.
        random: Source of free ports.

    Raises:
        PortTaken: A port is in use; names the setting to change.
        WrongServerVersion: The data directory has a cluster of another PostgreSQL version.
    """
    data_dir = Path(os.path.realpath(settings.data_dir))
    written = read_platform_env(data_dir)
    ports = _claim_ports(settings, written, random=random)
    postgres = redis = None
    if Service.POSTGRES in ports:
        _refuse_other_version(data_dir, settings.postgres_version)
        postgres = PostgresConfig(
            data_dir=data_dir,
            port=ports[Service.POSTGRES],
            password=secrets.database["admin"],
            version=settings.postgres_version,
            host=settings.host,
        )
    if Service.REDIS in ports:
        redis = RedisConfig(
            data_dir=data_dir / "redis",
            port=ports[Service.REDIS],
            passwords=secrets.redis,
            host=settings.host,
            key_pattern=f"{settings.key_prefix}:*",
            maxmemory_bytes=settings.redis_maxmemory_bytes,
        )
    admin_url = postgres.url(AUDIT_DATABASE) if postgres else _secret(settings.database_url)
    made = {
        **_redis_urls(settings, redis),
        **_database_urls(admin_url, secrets, postgres),
        "dead_letter_key": secrets.dead_letter_key,
        "cursor_key": secrets.cursor_key,
    }
    given = {name: given_by_user(settings, name, written) for name in made}
    # Redis is the user's as a whole or not at all: a single URL beside the embedded server could
    # only be a left-over, and those of the other roles come from the one URL given.
    given |= (
        dict.fromkeys(_REDIS_USERS) if redis else {n: given[n] or made[n] for n in _REDIS_USERS}
    )
    return PlatformPlan(
        data_dir=data_dir,
        settings=settings,
        secrets=secrets,
        ports=ports,
        postgres=postgres,
        redis=redis,
        admin_url=admin_url,
        values={
            **{name: given[name] or value for name, value in made.items()},
            "key_prefix": settings.key_prefix,
            "shards": str(settings.shards),
            **_archive_urls(settings, data_dir, written),
        },
        given=frozenset(name for name, value in given.items() if value is not None),
    )


def read_platform_env(data_dir: Path) -> dict[str, str]:
    """Read what the last start wrote, by setting name; empty before the first."""
    values = dotenv_values(data_dir / PLATFORM_ENV, interpolate=False)
    return {
        name.removeprefix(ENV_PREFIX).lower(): value
        for name, value in values.items()
        if value is not None
    }


def given_by_user(settings: Settings, name: str, written: Mapping[str, str]) -> str | None:
    """Return the text of a secret setting that the user gave; None for defaults and our own."""
    value = getattr(settings, name)
    if name not in settings.model_fields_set or not isinstance(value, SecretStr):
        return None
    text = value.get_secret_value()
    return None if not text or text == written.get(name) else text


def _claim_ports(
    settings: Settings, written: Mapping[str, str], *, random: Random
) -> dict[Service, int]:
    wanted = [(Service.WEBSERVER, settings.webserver_port, "AUDIT_WEBSERVER_PORT")]
    if settings.database_url is None:
        wanted.append((Service.POSTGRES, settings.postgres_port, "AUDIT_POSTGRES_PORT"))
    if given_by_user(settings, "redis_url", written) is None:
        wanted.append((Service.REDIS, settings.redis_port, "AUDIT_REDIS_PORT"))
    # Named ports first: a free one is chosen around them.
    wanted.sort(key=lambda claim: claim[1] == 0)
    taken: set[int] = set()
    ports = {
        service: claim_port(
            settings.host, port, setting=setting, service=service, taken=taken, random=random
        )
        for service, port, setting in wanted
    }
    # Nobody connects to the code server but our daemon and our UI, so no setting names its port.
    ports[Service.CODE_SERVER] = claim_port(
        settings.host, 0, setting="", service=Service.CODE_SERVER, taken=taken, random=random
    )
    return ports


def _refuse_other_version(data_dir: Path, version: int) -> None:
    """Refuse to start an empty cluster beside one that holds the events.

    Raises:
        WrongServerVersion: Names the version to set.
    """
    found = {
        path.name.partition(".")[0].removeprefix("postgres-")
        for path in data_dir.glob("postgres-*")
    }
    if found and str(version) not in found:
        raise WrongServerVersion(
            f"The events in {data_dir} are in PostgreSQL {min(found)}: set "
            f"AUDIT_POSTGRES_VERSION={min(found)}, or AUDIT_DATA_DIR to a new directory.",
            setting="AUDIT_POSTGRES_VERSION",
        )


def _redis_urls(settings: Settings, redis: RedisConfig | None) -> dict[str, str]:
    if redis is not None:
        return {name: redis.url(user) for name, user in _REDIS_USERS.items()}
    # A server without users serves all by one URL.
    return dict.fromkeys(_REDIS_USERS, _secret(settings.redis_url))


def _database_urls(
    admin_url: str, secrets: PlatformSecrets, postgres: PostgresConfig | None
) -> dict[str, str]:
    from audit_platform.db import dagster_storage, migrate  # noqa: PLC0415 - a second of Alembic

    logins = {
        f"{role}_url": migrate.with_login(admin_url, f"audit_{role}", secrets.database[role])
        for role in ("writer", "reader", "maint")
    }
    database = "dagster"
    if postgres is None:
        # A server that is not ours may hold another platform's storage.
        database = f"{urlsplit(admin_url).path.lstrip('/') or 'postgres'}_dagster"
    return {
        **logins,
        "dagster_url": migrate.with_login(
            migrate.with_database(admin_url, database),
            dagster_storage.LOGIN,
            secrets.database["dagster"],
        ),
    }


def _archive_urls(settings: Settings, data_dir: Path, written: Mapping[str, str]) -> dict[str, str]:
    """Where this start archives: what the user says now, else the data directory.

    A command in another shell has to look in the same place. What only the last start wrote does
    not count, so that a copy that is no longer wanted ends, and a moved data directory takes its
    archive along.
    """
    sources = origins(data_dir=settings.data_dir)
    urls = {"archive_url": (data_dir / "archive").as_uri()}
    for name in ("archive_url", "archive_copy_url"):
        value: str | None = getattr(settings, name)
        is_repeated = value == written.get(name) and sources[name] == PLATFORM_ENV
        if value is not None and not is_repeated:
            urls[name] = value
    return urls


def _secret(value: SecretStr | None) -> str:
    return "" if value is None else value.get_secret_value()
