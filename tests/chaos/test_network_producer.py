"""N01, N07, N09 on the producer's side: a line that cuts, swallows, or comes and goes."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_platform.client import BreakerState, Durability
from tests.chaos.harness.fault_proxy import Direction, Fault, FaultProxy
from tests.chaos.harness.producing import BOTH_CLASSES, CLASSES, draining, producing
from tests.chaos.harness.traffic import OUTAGE_S, seconds_until
from tests.conftest import RedisSpace
from tests.integration.events.shard import Shard

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180 + 4 * OUTAGE_S)]

SEED = 7
XADD_REPLY = re.compile(rb"\$\d+\r\n\d{13}-\d+\r\n")
# A call that waits for the network would take the client's time-out of 500 ms. The largest of
# many calls on a busy machine is no figure; their median is.
CALL_LIMIT_S = 0.05


@pytest.fixture
def to_redis(redis_space: RedisSpace) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", redis_space.config.port, seed=SEED) as proxy:
        yield proxy


@BOTH_CLASSES
def test_an_entry_whose_reply_was_cut_is_sent_again_and_stored_once(
    shard: Shard,
    redis_space: RedisSpace,
    to_redis: FaultProxy,
    tmp_path: Path,
    durability: Durability,
) -> None:
    """N01: XADD executed, the reply cut, three times."""
    to_redis.set(Direction.TO_CLIENT, Fault(cut_at=XADD_REPLY, cuts=3))
    url = to_redis.url(redis_space.url("producer"))
    with producing(url, shard, tmp_path, durability) as producer:
        producer.log(20)
        assert producer.client.flush(20)
        entries = shard.redis.xlen(shard.key)

        with draining(shard):
            producer.check(shard)
    assert to_redis.counters.cut == 3
    assert isinstance(entries, int)
    assert entries > 3, "the entries whose replies were cut are in the stream, too"
    assert shard.ledger()["n_dup"] >= 20


@CLASSES
def test_behind_a_black_hole_calls_stay_short_and_the_disk_takes_over(
    shard: Shard,
    redis_space: RedisSpace,
    to_redis: FaultProxy,
    tmp_path: Path,
    durability: Durability,
) -> None:
    """N07; ten minutes in the long run."""
    url = to_redis.url(redis_space.url("producer"))
    with producing(url, shard, tmp_path, durability) as producer:
        producer.log(20)
        assert producer.client.flush(20)
        to_redis.set_both(Fault(is_black_hole=True))
        taken_s: list[float] = []
        end_s, pause = time.monotonic() + OUTAGE_S, threading.Event()
        while time.monotonic() < end_s:
            begin_s = time.perf_counter()
            producer.log(1)
            taken_s.append(time.perf_counter() - begin_s)
            pause.wait(0.002)
        seconds_until(lambda: producer.client.stats().spool_bytes > 0)
        spooled = producer.client.stats().spool_bytes
        assert producer.client.stats().dropped == {}
        to_redis.heal()

        with draining(shard):
            producer.check(shard)
    assert to_redis.counters.swallowed_bytes > 0
    assert sorted(taken_s)[len(taken_s) // 2] < CALL_LIMIT_S
    # The figure of the report: bytes on disk per event that waited there.
    assert spooled / len(taken_s) < 2_000


def test_a_toggled_link_opens_the_breaker_and_bounds_reconnects(
    shard: Shard, redis_space: RedisSpace, to_redis: FaultProxy, tmp_path: Path
) -> None:
    """N09: on and off at 1 Hz, then off until the circuit opens, then on."""
    url, states = to_redis.url(redis_space.url("producer")), set[BreakerState]()
    stop = threading.Event()
    with producing(url, shard, tmp_path, Durability.STANDARD) as producer:
        logging = threading.Thread(target=producer.log_until, args=(stop,), daemon=True)
        logging.start()
        rounds, pause = max(2, int(OUTAGE_S)), threading.Event()
        for _ in range(rounds):
            to_redis.refuse()
            pause.wait(0.5)
            to_redis.listen_again()
            pause.wait(0.5)
        reconnects = to_redis.counters.accepted
        to_redis.refuse()
        seconds_until(lambda: producer.client.stats().breaker is BreakerState.OPEN)
        to_redis.listen_again()

        def is_closed() -> bool:
            states.add(producer.client.stats().breaker)
            return BreakerState.CLOSED in states

        seconds_until(is_closed)
        stop.set()
        logging.join()

        with draining(shard):
            producer.check(shard)
    assert to_redis.counters.refused == rounds + 1
    assert reconnects <= 20 * rounds
    assert producer.client.stats().breaker is BreakerState.CLOSED
