"""A place to judge: where its database, its queue and its histories are.

Here: looking at them by the oracle, once or until all is well. Not here: what runs there
(`services.py`, `platform_stack.py`), the rules (`oracle.py`).
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import redis

from audit_platform.events.redis_edge import stream_key
from tests.chaos.harness.history import read_history
from tests.chaos.harness.oracle import Verdict, judge
from tests.chaos.harness.stored import Stored, read_stored, waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """URLs are those of administrators."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    dead_letter_key: str = field(repr=False)
    key_prefix: str
    histories: Path
    shards: int = 1

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask PostgreSQL over a new connection."""
        with psycopg.connect(self.database_url, connect_timeout=5) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def stored(self) -> Stored:
        """Read what is stored now."""
        return read_stored(
            database_url=self.database_url,
            redis_url=self.redis_url,
            key_prefix=self.key_prefix,
            dead_letter_key=self.dead_letter_key,
            shards=self.shards,
        )

    def waiting(self) -> tuple[int, int]:
        """Pending entries and length of the streams."""
        return waiting(self.redis_url, key_prefix=self.key_prefix, shards=self.shards)

    def oldest_waiting_ms(self, client: redis.Redis) -> int:
        """Time of the oldest entry of any stream, milliseconds since 1970; now when all are empty.

        Args:
            client: Of the caller, who may look many times a second.

        Raises:
            redis.RedisError: No answer.
        """
        oldest = time.time_ns() // 1_000_000
        for shard in range(self.shards):
            found: Any = client.xrange(stream_key(self.key_prefix, shard), count=1)
            if found:
                oldest = min(oldest, int(found[0][0].partition(b"-")[0]))
        return oldest

    def verdict(self) -> Verdict:
        """Judge the histories against what is stored now."""
        return judge(read_history(self.histories), self.stored())

    def settled_verdict(self, *, within_s: float) -> Verdict:
        """Judge again and again until nothing is wrong; the last verdict when time is over."""
        deadline_s, pause = time.monotonic() + within_s, Event()
        while True:
            verdict = self.verdict()
            if not verdict.problems() or time.monotonic() > deadline_s:
                return verdict
            pause.wait(0.5)
