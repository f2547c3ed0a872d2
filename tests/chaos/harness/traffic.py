"""Stamped events straight into a stream, their ids kept, and the comparison with what was stored.

Here: what a test without a producer process needs. Not here: the history of a whole run
(`history.py`) and its oracle (`oracle.py`).
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import SecretStr

from audit_platform.settings import Settings
from tests.chaos.harness.fault_proxy import FaultProxy
from tests.factories import event, wire
from tests.integration.events.shard import Shard

OUTAGE_S: Final = float(os.environ.get("AUDIT_TEST_OUTAGE_S", "2"))
"""Length of outages; the fault catalogue asks for 600, which the long run sets."""

GAPS: Final = """
select int8multirange(int8range(1, %(last)s, '[]')) - coalesce(range_agg(r), '{}') as gaps
from (
  select r from audit.ingest_range where producer_id = 1 and epoch = 1 and kind = 'got'
  union all select got from audit.producer_progress where producer_id = 1 and epoch = 1) as known
"""


class Traffic:
    """Producer 1, epoch 1: everything that it put into the stream of a shard."""

    def __init__(self) -> None:
        """Start with nothing accepted."""
        self.ids: set[str] = set()
        self.last_seq = 0

    def add(self, shard: Shard, *, batches: int = 1, size: int = 50) -> None:
        """Append batch entries of new events."""
        for _ in range(batches):
            made = [event() for _ in range(size)]
            shard.add_batch([wire(one) for one in made], p=1, e=1, s=self.last_seq + 1)
            self.last_seq += size
            self.ids |= {one["id"] for one in made}

    def add_until(self, shard: Shard, stop: threading.Event, *, pause_s: float = 0.02) -> None:
        """Append batches until told to stop; for a thread of its own."""
        while not stop.wait(pause_s):
            self.add(shard)

    def check(self, shard: Shard) -> None:
        """Compare sets: lost 0, unexpected 0, duplicated 0, no gap; nothing waits."""
        stored = shard.stored_ids()
        assert set(stored) == self.ids
        assert len(stored) == len(self.ids)
        assert shard.waiting() == (0, 0)
        found = shard.sql.execute(GAPS, {"last": self.last_seq}).fetchone()
        assert found is not None
        assert not found[0], f"gaps: {found[0]}"
        sums = shard.ledger()
        assert sums["n_read"] == sum(sums[name] for name in ("n_new", "n_dup", "n_late", "n_bad"))
        assert sums["n_new"] == len(self.ids)


def through(
    settings: Settings, *, redis: FaultProxy | None = None, postgres: FaultProxy | None = None
) -> Settings:
    """The same settings, with the drain's connections led through proxies."""
    changes: dict[str, Any] = {}
    if redis is not None:
        for name in ("redis_url", "redis_consumer_url", "redis_janitor_url"):
            changes[name] = _led(settings, name, redis)
    if postgres is not None:
        changes["writer_url"] = _led(settings, "writer_url", postgres)
    return settings.model_copy(update=changes)


def _led(settings: Settings, name: str, proxy: FaultProxy) -> SecretStr:
    return SecretStr(proxy.url(getattr(settings, name).get_secret_value()))


def started(
    target: Callable[..., object], *arguments: Any, **options: Mapping[str, Any] | Any
) -> threading.Thread:
    """Run something beside the test."""
    thread = threading.Thread(target=target, args=arguments, kwargs=options, daemon=True)
    thread.start()
    return thread


def seconds_until(
    condition: Callable[[], bool],
    *,
    deadline_s: float = 60,
    otherwise: Callable[[], str] = lambda: "the condition did not come true in time",
) -> float:
    """Poll until the condition holds; returns how long it took."""
    begin_s, pause = time.monotonic(), threading.Event()
    while not condition():
        assert time.monotonic() - begin_s < deadline_s, otherwise()
        pause.wait(0.02)
    return time.monotonic() - begin_s
