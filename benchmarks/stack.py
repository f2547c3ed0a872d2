"""PostgreSQL, Redis and a migrated database for one benchmark, as production configures them.

Here: starting and emptying. Durability is on (fsync, synchronous_commit, append-only file): a
benchmark without it would answer another question.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from audit_platform.db import migrate
from audit_platform.db.pool import Connection, connect
from audit_platform.local import redis
from audit_platform.local.binaries import PostgresVersion, postgres_bin
from audit_platform.local.ports import any_free_port
from audit_platform.local.postgres import (
    PostgresConfig,
    PostgresServer,
    new_password,
    remove,
)
from audit_platform.local.redis import RedisConfig, RedisServer
from audit_platform.retention.lifecycle import ensure_ahead
from audit_platform.settings import Settings, load_settings

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
DATABASE = "audit"
EMPTY = (
    b"truncate audit.event, audit.event_late, audit.dead_letter, audit.ingest_batch, "
    b"audit.ingest_range, audit.producer_epoch, audit.producer_numbers"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Running services of one benchmark."""

    settings: Settings
    admin_url: str
    redis_admin_url: str
    psql: Path
    connection: Connection
    """As administrator."""

    def empty(self) -> None:
        """Remove all rows and write what is dirty, so that every round starts alike."""
        self.connection.execute(EMPTY)
        self.connection.execute(b"checkpoint")


@contextmanager
def running_stack(**overrides: object) -> Iterator[Stack]:
    """Start the services in a directory of their own and remove it afterwards.

    Args:
        **overrides: Settings that the benchmark wants different.
    """
    directory = Path(tempfile.mkdtemp(prefix="audit-bench-"))
    directory.chmod(0o711)  # PostgreSQL runs as another user when root benchmarks
    version: PostgresVersion = 16 if overrides.get("postgres_version") == 16 else 18
    config = PostgresConfig(
        data_dir=directory, port=any_free_port(), password=new_password(), version=version
    )
    memory = overrides.get("redis_maxmemory_bytes", 2 << 30)
    database, queue = PostgresServer(config), _redis(directory, int(str(memory)))
    try:
        database.start()
        queue.start()
        yield from _stack(config, queue.config, directory, overrides)
    finally:
        queue.stop()
        database.stop()
        remove(config)
        shutil.rmtree(directory, ignore_errors=True)


def _redis(directory: Path, maxmemory_bytes: int) -> RedisServer:
    return RedisServer(
        RedisConfig(
            data_dir=directory / "redis",
            port=any_free_port(),
            passwords=redis.new_passwords(),
            maxmemory_bytes=maxmemory_bytes,
        )
    )


def _stack(
    config: PostgresConfig, queue: RedisConfig, directory: Path, overrides: dict[str, object]
) -> Iterator[Stack]:
    migrate.create_database(config.url("postgres"), DATABASE)
    migrate.migrate(config.url(DATABASE))
    urls = migrate.set_passwords(
        config.url(DATABASE), {role: new_password() for role in migrate.ROLES}
    )
    maint = connect(urls.maint_url, application="benchmark")
    ensure_ahead(maint, now=datetime.now(UTC), ahead=7, interval="day")
    maint.close()
    settings = load_settings(
        **{
            "data_dir": directory / "data",
            "redis_url": queue.url("producer"),
            "redis_consumer_url": queue.url("consumer"),
            "redis_sensor_url": queue.url("sensor"),
            "redis_janitor_url": queue.url("janitor"),
            "writer_url": urls.writer_url,
            "reader_url": urls.reader_url,
            "maint_url": urls.maint_url,
            "dead_letter_key": KEY,
            "cursor_key": KEY,
            **overrides,
        }
    )
    connection = connect(config.url(DATABASE), application="benchmark")
    yield Stack(
        settings=settings,
        admin_url=config.url(DATABASE),
        redis_admin_url=queue.url("admin"),
        psql=postgres_bin(config.version) / "psql",
        connection=connection,
    )
    connection.close()
