"""PostgreSQL and Redis of one fault test, as production configures them, free to be killed.

Here: starting, killing, freezing and starting again; settings for everything that uses them. Not
here: processes of ours (`kept.py`), what to do to whom (`sweep.py`).
Guarantee: durability is on (fsync, synchronous_commit, append-only file each second): what a kill
loses here it would lose in production. `stop` leaves no process and no directory behind.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, RLock
from typing import Any, Final

import psutil
import psycopg
from pydantic import SecretStr

from audit_platform.db import migrate
from audit_platform.db.pool import connected
from audit_platform.errors import StartRefused
from audit_platform.local import postgres, redis
from audit_platform.local.ports import any_free_port
from audit_platform.local.postgres import PostgresConfig, PostgresServer
from audit_platform.local.redis import RedisConfig, RedisServer
from audit_platform.retention.lifecycle import ensure_ahead
from audit_platform.settings import Settings, load_settings
from tests.chaos.harness.oracle import Verdict
from tests.chaos.harness.site import Site
from tests.chaos.harness.stored import Stored
from tests.conftest import KEY, POSTGRES_VERSION

DATABASE: Final = "audit"
START_LIMIT_S: Final = 60.0


class Postgres:
    """The database server; `start` after an end waits until nothing of the old one is left."""

    def __init__(self, config: PostgresConfig) -> None:
        """Settle the place; nothing starts yet."""
        self.config, self.server, self.lock = config, PostgresServer(config), RLock()

    def start(self) -> None:
        """Start, however often the leftovers of a killed server forbid it."""
        _persist(self.server.start, self.lock)

    def end(self, number: signal.Signals) -> bool:
        """Signal the postmaster alone and wait for its end: SIGKILL, SIGQUIT or SIGINT.

        Returns:
            False when a minute was too short and an immediate stop followed, as operators do. Seen
            twice with 18.4 at load 20: the postmaster waits for a checkpointer that sleeps.
        """
        with self.lock, suppress(subprocess.TimeoutExpired):
            self.server._end(number)
            return True
        print(f"PostgreSQL does not end: {self._what_runs()}")  # noqa: T201 - for the report
        with self.lock:
            self.server._end(signal.SIGQUIT)
        return False

    def _what_runs(self) -> str:
        """Processes of the server with their state, and the end of its log."""
        lines = [f"{one.pid} {one.status()} {one.cmdline()}" for one in self.processes()]
        log = self.config.data_dir / f"postgres-{self.config.version}.log"
        return "\n".join([*lines, log.read_text(errors="replace")[-3000:]])

    def processes(self) -> list[psutil.Process]:
        """The postmaster and its children, as they are now."""
        return [] if self.server.process is None else _tree(self.server.process.pid)

    def kill_all(self) -> None:
        """SIGKILL every process of the server at one moment, as a machine's end would."""
        with self.lock:
            _signal(reversed(self.processes()), signal.SIGKILL)
            self.server.kill()

    def kill_backend(self, application: str) -> bool:
        """SIGKILL one session of an application; False when there is none."""
        query = b"select pid from pg_stat_activity where application_name like %s limit 1"
        with suppress(psycopg.Error, ProcessLookupError):
            with psycopg.connect(self.config.url(DATABASE), connect_timeout=2) as connection:
                row = connection.execute(query, (f"%{application}%",)).fetchone()
            if row is not None:
                os.kill(row[0], signal.SIGKILL)
                return True
        return False

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the server during a block: its sockets stay open and answer nothing."""
        processes = self.processes()
        try:
            _signal(processes, signal.SIGSTOP)
            yield
        finally:
            _signal(processes, signal.SIGCONT)


class Redis:
    """The queue."""

    def __init__(self, config: RedisConfig) -> None:
        """Keep the configuration; nothing starts yet."""
        self.config, self.server, self.lock = config, RedisServer(config), RLock()

    def start(self) -> None:
        """Start."""
        _persist(self.server.start, self.lock)

    def end(self, number: signal.Signals) -> None:
        """Signal it and wait for its end: SIGKILL or SIGTERM."""
        with self.lock:
            self.server._end(number)

    def cli(self, *arguments: str) -> str:
        """Run the wheel's `redis-cli` as administrator."""
        return redis.run_cli(self.config, "admin", *arguments)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the server during a block."""
        process = self.server.process
        processes = _tree(process.pid) if process is not None else []
        try:
            _signal(processes, signal.SIGSTOP)
            yield
        finally:
            _signal(processes, signal.SIGCONT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Running services of one test and the settings that lead to them."""

    directory: Path
    postgres: Postgres
    redis: Redis
    settings: Settings

    @property
    def admin_url(self) -> str:
        """The database, as administrator."""
        return self.postgres.config.url(DATABASE)

    @property
    def histories(self) -> Path:
        """Where producers write what they did."""
        return self.directory / "histories"

    @property
    def site(self) -> Site:
        """What the oracle needs."""
        return Site(
            database_url=self.admin_url,
            redis_url=self.redis.config.url("admin"),
            dead_letter_key=KEY,
            key_prefix=self.settings.key_prefix,
            histories=self.histories,
            shards=self.settings.shards,
        )

    def versions(self) -> tuple[str, str]:
        """Of PostgreSQL and Redis, as the servers say."""
        [(server,)] = self.ask("show server_version")
        lines = self.redis.cli("info", "server").splitlines()
        found = [line.partition(":")[2] for line in lines if line.startswith("redis_version:")]
        return str(server), found[0]

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask PostgreSQL as administrator, over a new connection."""
        return self.site.ask(query, *values)

    def stored(self) -> Stored:
        """Read what is stored now."""
        return self.site.stored()

    def waiting(self) -> tuple[int, int]:
        """Pending entries and length of the streams."""
        return self.site.waiting()

    def verdict(self) -> Verdict:
        """Judge the histories against what is stored now."""
        return self.site.verdict()

    def settled_verdict(self, *, within_s: float) -> Verdict:
        """Judge again and again until nothing is wrong; the last verdict when time is over."""
        return self.site.settled_verdict(within_s=within_s)


@contextmanager
def running_services(**overrides: object) -> Iterator[Services]:
    """Start both servers in a directory of their own and remove it afterwards.

    Args:
        **overrides: Settings that a test wants different.
    """
    directory = Path(tempfile.mkdtemp(prefix="audit-chaos-"))
    directory.chmod(0o711)  # PostgreSQL runs as another user when root tests
    config = PostgresConfig(
        data_dir=directory,
        port=any_free_port(),
        password=postgres.new_password(),
        version=POSTGRES_VERSION,
    )
    database, queue = Postgres(config), Redis(_redis_config(directory))
    try:
        database.start()
        queue.start()
        settings = _settings(config, queue.config, directory, overrides)
        yield Services(directory=directory, postgres=database, redis=queue, settings=settings)
    finally:
        # A test may have frozen them.
        for server in (database.server.process, queue.server.process):
            if server is not None:
                _signal(_tree(server.pid), signal.SIGCONT)
        queue.end(signal.SIGKILL)
        database.end(signal.SIGQUIT)
        postgres.remove(config)
        shutil.rmtree(directory, ignore_errors=True)


def plain(settings: Settings) -> dict[str, Any]:
    """What was set, as JSON for a child's standard input, with the secrets."""
    secrets = {
        name: value.get_secret_value() for name, value in settings if isinstance(value, SecretStr)
    }
    return settings.model_dump(mode="json", exclude_unset=True) | secrets


def _redis_config(directory: Path) -> RedisConfig:
    return RedisConfig(
        data_dir=directory / "redis", port=any_free_port(), passwords=redis.new_passwords()
    )


def _settings(
    config: PostgresConfig, queue: RedisConfig, directory: Path, overrides: dict[str, object]
) -> Settings:
    migrate.create_database(config.url("postgres"), DATABASE)
    migrate.migrate(config.url(DATABASE))
    urls = migrate.set_passwords(
        config.url(DATABASE), {role: postgres.new_password() for role in migrate.ROLES}
    )
    with connected(urls.maint_url, application="tests", role="audit_owner") as connection:
        ensure_ahead(connection, now=datetime.now(UTC), ahead=7, interval="day")
    values: dict[str, Any] = {
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
        # Short, so that a run left for dead or frozen is replaced within the test.
        "lease_ttl_s": 5,
        **overrides,
    }
    return load_settings(**values)


def _persist(start: Any, lock: RLock) -> None:
    """Start again while children of a killed server still hold its memory."""
    deadline_s, pause = time.monotonic() + START_LIMIT_S, Event()
    with lock:
        while True:
            try:
                start()
            except StartRefused:
                if time.monotonic() > deadline_s:
                    raise
                pause.wait(0.1)
            else:
                return


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(processes: Any, number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
