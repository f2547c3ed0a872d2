"""R01, R03, R04: Redis out of memory, with a full disk, with a failing disk: lost 0.

A living producer and drains run meanwhile; the error counters of Redis prove each refusal.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_platform.client import Durability
from audit_platform.settings import Settings
from tests.chaos.harness.own_redis import OwnRedis, own_redis, shard_on
from tests.chaos.harness.producing import CLASSES, Producer, draining, producing
from tests.chaos.harness.small_disk import MEBIBYTE, small_disk
from tests.chaos.harness.syscall_faults import injected
from tests.chaos.harness.traffic import seconds_until
from tests.conftest import Database
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.chaos


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path / "redis") as started:
        yield started


@pytest.fixture
def own_shard(server: OwnRedis, settings: Settings, database: Database) -> Iterator[Shard]:
    with shard_on(server, settings, database) as made:
        yield made


def log_until_refused(producer: Producer, server: OwnRedis, code: str) -> None:
    """Log until Redis has refused; what it refuses waits at the producer."""

    def log_more() -> bool:
        producer.log(100)
        return server.count_of_error(code) > 0

    seconds_until(log_more)
    producer.log(200)


@CLASSES
def test_redis_out_of_memory_refuses_and_the_drain_goes_on(
    server: OwnRedis, own_shard: Shard, tmp_path: Path, durability: Durability
) -> None:
    """R01: what drains makes the room that lets the producer go on."""
    used = int(server.ask("INFO", "memory")["used_memory"])
    server.ask("CONFIG", "SET", "maxmemory", used + 1_500_000)
    url = own_shard.settings.redis_url.get_secret_value()
    with producing(url, own_shard, tmp_path, durability) as producer:
        log_until_refused(producer, server, "OOM")

        with draining(own_shard):
            producer.check(own_shard)

    assert server.count_of_error("OOM") > 0


@CLASSES
def test_a_full_disk_of_redis_refuses_and_loses_nothing(
    settings: Settings, database: Database, tmp_path: Path, durability: Durability
) -> None:
    """R03 with `everysec`: XADD answers MISCONF until there is room again."""
    with (
        small_disk(tmp_path / "disk", 2 * MEBIBYTE) as disk,
        own_redis(disk.path / "redis") as server,
        shard_on(server, settings, database) as shard,
        producing(
            shard.settings.redis_url.get_secret_value(), shard, tmp_path, durability
        ) as producer,
    ):
        producer.log(50)
        seconds_until(lambda: shard.redis.xlen(shard.key) > 0)
        disk.fill()
        log_until_refused(producer, server, "MISCONF")
        disk.free()

        with draining(shard):
            producer.check(shard)
        assert server.count_of_error("MISCONF") > 0


@CLASSES
def test_a_full_disk_ends_a_redis_that_syncs_always_and_nothing_is_lost(
    settings: Settings, database: Database, tmp_path: Path, durability: Durability
) -> None:
    """R03 with `always`: Redis exits rather than lie; started again, it gets the rest."""
    with (
        small_disk(tmp_path / "disk", 2 * MEBIBYTE) as disk,
        own_redis(disk.path / "redis", "appendfsync always") as server,
        shard_on(server, settings, database) as shard,
        producing(
            shard.settings.redis_url.get_secret_value(), shard, tmp_path, durability
        ) as producer,
    ):
        producer.log(50)
        seconds_until(lambda: shard.redis.xlen(shard.key) > 0)
        disk.fill()
        process = server.server.process
        assert process is not None

        def has_exited() -> bool:
            producer.log(20)
            return process.poll() is not None

        seconds_until(has_exited)
        producer.log(100)
        disk.free()
        server.server.start()

        with draining(shard):
            producer.check(shard)
        assert process.returncode not in {None, 0}


@CLASSES
def test_a_failing_fdatasync_of_redis_refuses_and_loses_nothing(
    server: OwnRedis, own_shard: Shard, tmp_path: Path, durability: Durability
) -> None:
    """R04: EIO from the disk; MISCONF until Redis is started again.

    Redis 6.2.14 tries no further fdatasync while it refuses writes: it stays so (seen here).
    """
    url = own_shard.settings.redis_url.get_secret_value()
    with producing(url, own_shard, tmp_path, durability) as producer:
        log = tmp_path / "strace.log"
        with injected(server.pid, "fdatasync", "error=EIO", log=log) as injection:
            log_until_refused(producer, server, "MISCONF")
            assert injection.count > 0
        server.server.kill()
        server.server.start()

        with draining(own_shard):
            producer.check(own_shard)
