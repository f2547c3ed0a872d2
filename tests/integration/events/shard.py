"""One shard as a test sees it: fill its stream, drain it, look at what was stored."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, cast

import psycopg
import redis

from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.drain import run_drain
from audit_platform.events.redis_edge import stream_key
from audit_platform.events.stream import GROUP
from audit_platform.events.tally import DrainReport, DrainSummary
from audit_platform.settings import Settings
from tests.conftest import KEY, Database, RedisSpace

IDLE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter, decrypted."""

    reason: str
    raw: bytes
    entry_id: str
    line_no: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Shard 0 of one test, seen from outside."""

    settings: Settings
    redis: "redis.Redis"
    sql: psycopg.Connection[tuple[Any, ...]]
    key: str
    reports: list[DrainReport] = field(default_factory=list)

    def add(self, fields: Mapping[str, Any]) -> str:
        """XADD any fields; returns the entry id."""
        added: Any = self.redis.xadd(self.key, cast("Any", fields))
        return added.decode()

    def add_event(self, raw: bytes) -> str:
        """Add one event in an entry of its own."""
        return self.add({"event": raw})

    def add_batch(self, lines: Sequence[bytes], **fields: Any) -> str:
        """Add a batch entry; `n` is right unless it is given."""
        return self.add({"v": 1, "n": len(lines), "events": b"\n".join(lines), "t": 0} | fields)

    def drain(self, *, run_id: str = "run-1", **overrides: Any) -> DrainSummary:
        """Drain until idle, in this thread."""
        settings = self.settings.model_copy(update={"drain_idle_s": IDLE_S, **overrides})
        return run_drain(
            settings, shard=0, run_id=run_id, dead_run_id=None, report=self.reports.append
        )

    def drain_beside(self, *, run_id: str = "run-1", **overrides: Any) -> "Future[DrainSummary]":
        """Drain until idle, in a thread of its own."""
        future: Future[DrainSummary] = Future()

        def target() -> None:
            try:
                future.set_result(self.drain(run_id=run_id, **overrides))
            except BaseException as exc:  # noqa: BLE001 - raised by future.result()
                future.set_exception(exc)

        Thread(target=target, daemon=True).start()
        return future

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a query as the administrator."""
        return self.sql.execute(statement.encode()).fetchall()

    def stored_ids(self) -> list[str]:
        """Ids in `audit.event`, with repeats if there were any."""
        return [str(row[0]) for row in self.rows("select id from audit.event order by id")]

    def late(self) -> dict[str, str]:
        """Reason by id of the late rows."""
        return {
            str(row[0]): row[1] for row in self.rows("select id, late_reason from audit.event_late")
        }

    def letters(self) -> list[Letter]:
        """Dead letters in order, decrypted."""
        vault = DeadLetterVault.of_base64(KEY)
        found = self.rows(
            "select reason, raw, entry_id, line_no from audit.dead_letter order by dead_id"
        )
        return [
            Letter(reason=reason, raw=vault.open(raw), entry_id=entry_id, line_no=line_no)
            for reason, raw, entry_id, line_no in found
        ]

    def ledger(self) -> dict[str, int]:
        """Sums over all batches."""
        names = ("n_read", "n_new", "n_dup", "n_late", "n_bad")
        sums = ", ".join(f"coalesce(sum({name}), 0)::int" for name in names)
        return dict(zip(names, self.rows(f"select {sums} from audit.ingest_batch")[0], strict=True))

    def waiting(self) -> tuple[int, int]:
        """Length of the stream and number of pending entries."""
        length: Any = self.redis.xlen(self.key)
        pending: Any = self.redis.xpending(self.key, GROUP)
        return length, pending["pending"]


def wait_until(condition: Callable[[], bool], *, deadline_s: float = 30) -> None:
    """Poll until the condition holds; fails after the deadline."""
    end_s = time.monotonic() + deadline_s
    pause = Event()
    while not condition():
        assert time.monotonic() < end_s, "the condition did not come true in time"
        pause.wait(0.02)


@contextmanager
def opened(settings: Settings, database: Database, space: RedisSpace) -> Iterator[Shard]:
    """Shard 0 of one test, empty; its connections are closed at the end."""
    client = redis.Redis.from_url(space.url("admin"))
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        yield Shard(
            settings=settings, redis=client, sql=connection, key=stream_key(space.prefix, 0)
        )
    client.close()
