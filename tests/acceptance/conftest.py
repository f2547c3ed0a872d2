"""The real stack, once per test process: PostgreSQL, Redis, code server, daemon, webserver.

Nothing here is faked or injected: the platform starts as `audit-platform up` starts it, on free
ports, and the tests talk to it over HTTP, SQL, Redis and signals.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from audit_platform.db.pool import connected, translated
from audit_platform.events.stream import Appender
from audit_platform.local import postgres
from audit_platform.local.platform_state import read_state
from audit_platform.local.supervisor import Platform
from audit_platform.settings import Settings, load_settings
from tests import factories
from tests.acceptance.dagster_api import DagsterApi, eventually

FIRST_EVENT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The running platform, seen from outside."""

    platform: Platform
    settings: Settings
    api: DagsterApi
    logs_at_start: dict[str, str]
    """Log text by process, as it stood when the first event was stored."""

    @property
    def data_dir(self) -> Path:
        """Where an application beside the platform finds it."""
        return self.platform.plan.data_dir

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask PostgreSQL as administrator, each time anew: tests stop the server in between."""
        url = self.platform.plan.admin_url
        with connected(url, application="tests") as connection, translated():
            return connection.execute(query.encode(), values).fetchall()

    def stored(self, action: str) -> Counter[str]:
        """Rows by `entity_id` of all events with an action, late ones included."""
        query = "select entity_id, count(*) from audit.event_all where action = %s group by 1"
        return Counter({str(entity): int(count) for entity, count in self.ask(query, action)})

    def send(self, *, action: str) -> str:
        """Put one event into the queue without the SDK; returns its id."""
        made = factories.event(action=action)
        url = self.settings.redis_url.get_secret_value()
        with Appender(url, key_prefix=self.settings.key_prefix) as appender:
            appender.append_event(0, factories.wire(made))
        return made["id"]

    def storing_run(self, event_id: str) -> str | None:
        """Dagster run that stored an event, None while it is not stored."""
        query = (
            "select run_id from audit.event join audit.ingest_batch using (batch_id) where id = %s"
        )
        return next((row[0] for row in self.ask(query, event_id)), None)

    def draining_processes(self) -> set[int]:
        """Processes that drain, found by their end of a connection; sensors are writers too."""
        query = (
            "select client_port from pg_stat_activity"
            " where usename = 'audit_writer'"
            " and starts_with(application_name, 'audit-platform drain ')"
        )
        ports = {row[0] for row in self.ask(query)}
        return {
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.pid and connection.laddr and connection.laddr.port in ports
        }

    def server_processes(self, service: str) -> list[psutil.Process]:
        """An embedded server and its children."""
        if service == "postgres":
            config = self.platform.plan.postgres
            assert config is not None
            pid = postgres.postmaster_pid(postgres.place(config))
        else:
            state = read_state(self.data_dir)
            pid = state.pids[service] if state else None
        assert pid is not None
        server = psutil.Process(pid)
        return [server, *server.children(recursive=True)]


@contextmanager
def running_stack() -> Iterator[Stack]:
    """The platform, warm: one event has gone all the way; nothing of it is left afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="audit-acceptance-"))
    directory.chmod(0o711)  # PostgreSQL runs as another user when root tests
    settings = load_settings(
        data_dir=directory / "data", postgres_port=0, redis_port=0, webserver_port=0
    )
    with Platform(settings) as platform:
        plan, running = platform.plan, platform.running_settings
        stack = Stack(
            platform=platform,
            settings=running,
            api=DagsterApi(plan.ui_url),
            logs_at_start={},
        )
        first = stack.send(action="acceptance.first")
        eventually(lambda: stack.storing_run(first), within_s=FIRST_EVENT_S, what="the first event")
        stack.logs_at_start.update(
            {path.stem: path.read_text(errors="replace") for path in plan.log_dir.glob("*.log")}
        )
        yield stack
    if platform.plan.postgres is not None:
        postgres.remove(platform.plan.postgres)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The platform of all tests of this directory."""
    with running_stack() as running:
        yield running
