"""Brings the services to the state that the platform needs, before Dagster starts.

Here: reachability and versions, databases and roles, partitions ahead, consumer groups; each
failure becomes one line that names the setting to change. Not here: the statements (`db/`,
`retention/lifecycle.py`, `events/stream.py`), starting servers (`supervisor.py`).
Guarantee: safe to run again, and beside another start on the same servers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from audit_platform.errors import (
    AuditPlatformError,
    DatabaseError,
    DatabaseUnavailable,
    QueueError,
    QueueUnavailable,
    ServiceUnreachable,
    StartRefused,
    WrongServerVersion,
)
from audit_platform.local.platform_plan import AUDIT_DATABASE, PlatformPlan
from audit_platform.settings import Settings

MIN_REDIS_VERSION: Final = (6, 2)


def prepare_database(plan: PlatformPlan) -> None:
    """Create databases, schema, roles and passwords where missing.

    Raises:
        ServiceUnreachable: No answer, or the login was refused.
        WrongServerVersion: PostgreSQL before 16.
        StartRefused: A revision failed.
    """
    # Alembic and SQLAlchemy take a second to import: not for `status` or `down`.
    from audit_platform.db import dagster_storage, migrate  # noqa: PLC0415

    passwords = plan.secrets.database
    with _database_errors(plan.admin_url):
        if plan.postgres is not None:
            migrate.create_database(plan.postgres.url("postgres"), AUDIT_DATABASE)
        migrate.migrate(plan.admin_url)
        # Where the user names the logins, somebody else gives out their passwords.
        if not plan.given >= {"writer_url", "reader_url", "maint_url"}:
            migrate.set_passwords(plan.admin_url, {role: passwords[role] for role in migrate.ROLES})
        if "dagster_url" not in plan.given:
            database = urlsplit(plan.values["dagster_url"]).path.lstrip("/")
            dagster_storage.create_dagster_storage(
                plan.admin_url, database=database, password=passwords["dagster"]
            )


def prepare_partitions(maint_url: str, settings: Settings, *, now: datetime) -> int:
    """Create partitions ahead; returns how many follow the present one.

    Raises:
        StartRefused: The partitions could not be made.
    """
    from audit_platform.db.pool import connected  # noqa: PLC0415
    from audit_platform.retention.lifecycle import ensure_ahead  # noqa: PLC0415

    with _database_errors(maint_url), connected(maint_url, application="up") as connection:
        report = ensure_ahead(
            connection,
            now=now,
            ahead=settings.partitions_ahead,
            interval=settings.partition_interval,
        )
    return report.partitions_ahead


def prepare_queue(plan: PlatformPlan) -> None:
    """Check the Redis server and create the consumer group of each shard at 0.

    Raises:
        ServiceUnreachable: No answer, or the login was refused.
        WrongServerVersion: Redis before 6.2.
    """
    from audit_platform.events.backlog import Inspector  # noqa: PLC0415
    from audit_platform.events.stream import Consumer  # noqa: PLC0415

    settings, url = plan.settings, plan.values["redis_janitor_url"]
    with _queue_errors(url):
        with Inspector(url, key_prefix=settings.key_prefix) as inspector:
            inspector.ping()
            check_redis_version(inspector.version())
        for shard in range(settings.shards):
            with Consumer(url, key_prefix=settings.key_prefix, shard=shard) as consumer:
                consumer.ensure_group()


def check_redis_version(version: tuple[int, ...]) -> None:
    """Refuse a server that lacks XAUTOCLAIM and command rules of users.

    Raises:
        WrongServerVersion: Names the version found and the setting.
    """
    if version < MIN_REDIS_VERSION:
        found = ".".join(str(part) for part in version)
        raise WrongServerVersion(
            f"Redis {found} is too old, 6.2 or later is needed: "
            "set AUDIT_REDIS_URL to a newer server.",
            setting="AUDIT_REDIS_URL",
        )


def endpoint(url: str) -> str:
    """Host and port of a URL, without user, password and path."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or ''}".rstrip(":")


@contextmanager
def _database_errors(url: str) -> Iterator[None]:
    try:
        yield
    except DatabaseUnavailable as exc:
        raise ServiceUnreachable(
            f"PostgreSQL does not answer at {endpoint(url)}: "
            "start it, or correct AUDIT_DATABASE_URL.",
            setting="AUDIT_DATABASE_URL",
        ) from exc
    except DatabaseError as exc:
        raise _start_refused("AUDIT_DATABASE_URL", exc) from exc


@contextmanager
def _queue_errors(url: str) -> Iterator[None]:
    try:
        yield
    except QueueUnavailable as exc:
        raise ServiceUnreachable(
            f"Redis does not answer at {endpoint(url)}: start it, or correct AUDIT_REDIS_URL.",
            setting="AUDIT_REDIS_URL",
        ) from exc
    except QueueError as exc:
        raise _start_refused("AUDIT_REDIS_URL", exc) from exc


def _start_refused(setting: str, exc: AuditPlatformError) -> StartRefused:
    return StartRefused(f"{exc.message.rstrip('.')}: check {setting}.", setting=setting)
