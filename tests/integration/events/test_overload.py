"""Overload measured on a real Redis: the gauge, what a drain tells producers and Dagster."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from audit_platform.errors import QueueError
from audit_platform.events.backlog import Inspector, MemoryUse
from audit_platform.events.load_gauge import LoadGauge
from audit_platform.events.redis_edge import watermark_key
from audit_platform.events.stream import Consumer
from audit_platform.settings import Settings
from tests.conftest import RedisSpace
from tests.factories import event, wire
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.integration

EMPTY = MemoryUse(used_bytes=0, limit_bytes=0)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def add_aged(shard: Shard, age_s: float) -> None:
    entry_id = f"{now_ms() - int(age_s * 1_000)}-0"
    shard.redis.xadd(shard.key, {"event": wire(event())}, id=entry_id)


@pytest.fixture
def consumer(settings: Settings) -> Iterator[Consumer]:
    url = settings.redis_url_of("consumer")
    with Consumer(url, key_prefix=settings.key_prefix, shard=0) as made:
        yield made


@pytest.fixture
def inspector(settings: Settings) -> Iterator[Inspector]:
    url = settings.redis_url_of("janitor")
    with Inspector(url, key_prefix=settings.key_prefix) as made:
        yield made


@contextmanager
def memory_share(space: RedisSpace, inspector: Inspector, share: float) -> Iterator[None]:
    """Give Redis a limit of which it uses this part now."""
    usual = space.cli("config", "get", "maxmemory").split()[-1]
    limit = int(inspector.memory().used_bytes / share)
    space.cli("config", "set", "maxmemory", str(limit))
    try:
        yield
    finally:
        space.cli("config", "set", "maxmemory", usual)


@pytest.mark.parametrize(("age_s", "level"), [(5, 0), (30, 1), (90, 2), (400, 3)])
def test_level_follows_the_oldest_entry(
    shard: Shard, consumer: Consumer, age_s: float, level: int
) -> None:
    add_aged(shard, age_s)
    shard.add_event(wire(event()))
    gauge = LoadGauge(oldest_ms=consumer.oldest_ms, memory=lambda: EMPTY, clock_ms=now_ms)

    assert gauge.measure() == level
    assert age_s <= gauge.lag_s < age_s + 30


@pytest.mark.parametrize(("share", "level"), [(0.4, 0), (0.6, 1), (0.78, 2), (0.93, 3)])
def test_level_follows_the_memory_of_redis(
    redis_space: RedisSpace, inspector: Inspector, share: float, level: int
) -> None:
    gauge = LoadGauge(oldest_ms=lambda: None, memory=inspector.memory, clock_ms=now_ms)

    with memory_share(redis_space, inspector, share):
        assert gauge.measure() == level


def test_redis_without_a_limit_counts_as_empty(
    redis_space: RedisSpace, inspector: Inspector
) -> None:
    usual = redis_space.cli("config", "get", "maxmemory").split()[-1]
    redis_space.cli("config", "set", "maxmemory", "0")
    try:
        assert inspector.memory().share == 0.0
    finally:
        redis_space.cli("config", "set", "maxmemory", usual)


def test_silent_redis_keeps_the_last_level(shard: Shard, consumer: Consumer) -> None:
    add_aged(shard, 90)
    away = Inspector("redis://127.0.0.1:1/0", key_prefix="audit")
    looks = iter([lambda: EMPTY, away.memory])

    def memory() -> MemoryUse:
        return next(looks)()

    gauge = LoadGauge(oldest_ms=consumer.oldest_ms, memory=memory, clock_ms=now_ms)

    assert [gauge.measure(), gauge.measure()] == [2, 2]
    away.close()


def test_refused_look_is_an_error_that_names_it(settings: Settings, consumer: Consumer) -> None:
    """The consumer may not ask for the memory: that is why the drain asks as the janitor."""
    url = settings.redis_url_of("consumer")
    with Inspector(url, key_prefix=settings.key_prefix) as without_right:
        gauge = LoadGauge(
            oldest_ms=consumer.oldest_ms, memory=without_right.memory, clock_ms=now_ms
        )
        with pytest.raises(QueueError) as refused:
            gauge.measure()

    assert not refused.value.retryable


def test_drain_reports_the_level_and_tells_producers(shard: Shard, redis_space: RedisSpace) -> None:
    add_aged(shard, 90)

    running = shard.drain_beside(drain_idle_s=2.0, observation_interval_s=1.0)
    running.result(60)

    assert max(report.level for report in shard.reports) == 2
    told: Any = shard.redis.hget(watermark_key(redis_space.prefix, 0), "shard")
    # It falls by a step each second once the old entry is stored.
    assert json.loads(told)["level"] < 2
    assert json.loads(told)["lag_s"] == 0.0
