"""Fixtures with real services: one PostgreSQL and one Redis per test process, never a mock.

A database per test, cloned from a migrated template; a key prefix per test, never FLUSHALL.
`AUDIT_TEST_PG=16` runs the same tests on PostgreSQL 16. Files of tests lie in memory where there
is enough of it (`memory.py`), and tests go to processes by `scheduling.py`.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import pytest

from audit_platform.db import migrate
from audit_platform.db.pool import connect, connected
from audit_platform.local import redis
from audit_platform.local.ports import any_free_port
from audit_platform.local.postgres import ADMIN, PostgresConfig, PostgresServer, remove
from audit_platform.local.redis import RedisConfig, RedisServer, RedisUser
from audit_platform.retention.lifecycle import ensure_ahead
from audit_platform.settings import Settings, load_settings
from tests.effort import examples
from tests.memory import place_in_memory

# A loaded machine must not fail a property: no time limit for one example. Every run tries others.
hypothesis.settings.register_profile("tests", deadline=None, max_examples=examples(50))
hypothesis.settings.load_profile("tests")

POSTGRES_VERSION = 16 if os.environ.get("AUDIT_TEST_PG") == "16" else 18
TEMPLATE = "audit_template"
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
"""32 known bytes in base64, for dead letters and cursors of tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A migrated database of one test, with partitions from yesterday to a week ahead."""

    name: str
    admin_url: str
    writer_url: str
    reader_url: str
    maint_url: str
    # Of a database that exists where the fixture `dagster_database` is asked for.
    dagster_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSpace:
    """The part of the Redis server that belongs to one test."""

    config: RedisConfig
    prefix: str

    def url(self, user: RedisUser) -> str:
        """URL of one user; `admin` may do everything."""
        return self.config.url(user)

    def cli(self, *arguments: str, user: RedisUser = "admin", stdin: bytes | None = None) -> str:
        """Run the wheel's `redis-cli`: a client that is not ours."""
        return redis.run_cli(self.config, user, *arguments, stdin=stdin)


@pytest.hookimpl(optionalhook=True)
def pytest_configure() -> None:
    """Keep temporary files in memory, before the first is made; the other processes inherit it.

    Not when this module is loaded: benchmarks and drives load it too, and theirs belong on a disk.
    """
    if (memory := place_in_memory()) is not None:
        os.environ["TMPDIR"] = tempfile.tempdir = str(memory)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand the tests to the processes of `make test`."""
    from tests.scheduling import GroupedScheduling

    return GroupedScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """Keep the developer's own AUDIT_ settings out of the tests."""
    kept = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith("AUDIT_") and not name.startswith("AUDIT_TEST_")
    }
    yield
    os.environ.update(kept)


@pytest.fixture(autouse=True)
def _own_spool(monkeypatch: pytest.MonkeyPatch, spool_base: Path) -> None:
    """Give the clients of each test a spool of their own, also those in child processes."""
    monkeypatch.setenv("AUDIT_SPOOL_DIR", str(spool_base / uuid4().hex))


@pytest.fixture(scope="session")
def spool_base() -> Iterator[Path]:
    """Where the spools of all tests lie."""
    path = Path(tempfile.mkdtemp(prefix="audit-spool-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def service_dir() -> Iterator[Path]:
    """A directory that the unprivileged user of PostgreSQL can reach, also when root tests."""
    path = Path(tempfile.mkdtemp(prefix="audit-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(service_dir: Path) -> Iterator[PostgresServer]:
    """The PostgreSQL server of this test process; restart it after stopping it in a test."""
    config = PostgresConfig(
        data_dir=service_dir,
        port=any_free_port(),
        password="admin",
        version=POSTGRES_VERSION,
        is_durable=False,
    )
    server = PostgresServer(config)
    server.start()
    _make_logins_cheap(server)
    yield server
    server.stop()
    remove(config)


def _make_logins_cheap(server: PostgresServer) -> None:
    """Let a password be hashed once, not 4,096 times: tests log in thousands of times."""
    with connected(server.config.url("postgres"), application="tests") as connection:
        connection.execute(f"alter role {ADMIN} set scram_iterations = 1".encode())
        connection.execute("set scram_iterations = 1")
        connection.execute(f"alter role {ADMIN} password '{server.config.password}'".encode())


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer) -> PostgresServer:
    """The server, with a migrated template that has partitions around now."""
    config = postgres_server.config
    migrate.create_database(config.url("postgres"), TEMPLATE)
    migrate.migrate(config.url(TEMPLATE))
    urls = migrate.set_passwords(
        config.url(TEMPLATE), {role: f"{role}-password" for role in migrate.ROLES}
    )
    with connected(urls.maint_url, application="tests", role="audit_owner") as connection:
        now = datetime.now(UTC)
        ensure_ahead(connection, now=now, ahead=8, interval="day")
    return postgres_server


@pytest.fixture
def database(template_database: PostgresServer) -> Iterator[Database]:
    """A fresh migrated database."""
    config = template_database.config
    name = f"audit_{uuid4().hex[:12]}"
    with connected(config.url("postgres"), application="tests") as connection:
        # Files are copied in a third of the time that the log of their pages takes (PostgreSQL 18).
        connection.execute(
            f"create database {name} template {TEMPLATE} strategy file_copy".encode()
        )
        # The grants on a database are not cloned.
        for statement in (
            f"revoke temporary on database {name} from public",
            f"grant temporary on database {name} to audit_writer",
        ):
            connection.execute(statement.encode())
    url = config.url(name)
    yield Database(
        name=name,
        admin_url=url,
        dagster_url=config.url(f"{name}_dagster"),
        **{
            f"{role}_url": migrate.with_login(url, f"audit_{role}", f"{role}-password")
            for role in ("writer", "reader", "maint")
        },
    )
    _drop(config, name)


@pytest.fixture
def dagster_database(postgres_server: PostgresServer, database: Database) -> Iterator[Database]:
    """The database of the test beside an empty one for Dagster."""
    config, name = postgres_server.config, f"{database.name}_dagster"
    migrate.create_database(config.url("postgres"), name)
    yield database
    _drop(config, name)


def _drop(config: PostgresConfig, name: str) -> None:
    connection = connect(config.url("postgres"), application="tests")
    connection.execute(f"drop database {name} with (force)".encode())
    connection.close()


@pytest.fixture(scope="session")
def redis_server(service_dir: Path) -> Iterator[RedisServer]:
    """The Redis server of this test process, with the access rules of production."""
    config = RedisConfig(
        data_dir=service_dir / "redis", port=any_free_port(), passwords=redis.new_passwords()
    )
    server = RedisServer(config)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_space(redis_server: RedisServer) -> RedisSpace:
    """A key prefix of this test on the Redis server."""
    return RedisSpace(config=redis_server.config, prefix=f"audit:{uuid4().hex[:12]}")


@pytest.fixture
def settings(database: Database, redis_space: RedisSpace, tmp_path: Path) -> Settings:
    """Settings wired to the services of this test."""
    return load_settings(
        data_dir=tmp_path,
        redis_url=redis_space.url("producer"),
        redis_consumer_url=redis_space.url("consumer"),
        redis_sensor_url=redis_space.url("sensor"),
        redis_janitor_url=redis_space.url("janitor"),
        key_prefix=redis_space.prefix,
        writer_url=database.writer_url,
        reader_url=database.reader_url,
        maint_url=database.maint_url,
        dagster_url=database.dagster_url,
        dead_letter_key=KEY,
        cursor_key=KEY,
    )
