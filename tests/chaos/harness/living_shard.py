"""A shard whose database may be away: each look opens a connection and waits for the server.

Here: the shard of tests that kill or starve their own PostgreSQL. Not here: the servers
(`services.py`).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import psycopg
import redis

from audit_platform.events.redis_edge import stream_key
from audit_platform.events.stream import GROUP
from tests.chaos.harness.services import Services
from tests.integration.events.shard import Shard

_LIMIT_S: Final = 60.0
_EMPTIED: Final = """
truncate audit.event, audit.event_late, audit.ingest_batch, audit.ingest_range,
  audit.producer_numbers, audit.producer_sampled, audit.producer_name,
  audit.dead_letter
"""


class Found:
    """The answer to a statement; its connection is closed already."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        """Keep the rows."""
        self._rows = rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows."""
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """The first row."""
        return self._rows[0] if self._rows else None


class Reconnecting:
    """Stands in for a connection: each statement has its own, and waits for the server."""

    def __init__(self, url: str) -> None:
        """Remember the database."""
        self._url = url

    def execute(self, query: Any, params: Any = None) -> Found:
        """Run one statement, again and again while the server is away."""
        deadline_s, pause = time.monotonic() + _LIMIT_S, threading.Event()
        while True:
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as connection:
                    cursor = connection.execute(query, params)
                    return Found(cursor.fetchall() if cursor.description else [])
            except psycopg.OperationalError:
                if time.monotonic() > deadline_s:
                    raise
                pause.wait(0.1)


@contextmanager
def living_shard(services: Services) -> Iterator[Shard]:
    """Shard 0 of these services, emptied, with its group."""
    sql = Reconnecting(services.admin_url)
    sql.execute(_EMPTIED)
    client = redis.Redis.from_url(services.redis.config.url("admin"))
    client.flushall()
    key = stream_key(services.settings.key_prefix, 0)
    client.xgroup_create(key, GROUP, id="0", mkstream=True)
    yield Shard(settings=services.settings, redis=client, sql=cast("Any", sql), key=key)
    client.close()
