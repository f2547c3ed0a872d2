"""F14 to F18: Redis loses what it had acknowledged; a living producer sends it again: lost 0.

Each test first proves the loss in Redis by counting, with nothing drained meanwhile; then drains
run, and the sets are compared. The control without resending is the proof itself: what Redis lost
came only once from a sender that does not resend.

Length: one table of the catalogue, one test or two for each of its rows.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from audit_platform.client import Durability
from audit_platform.settings import Settings
from tests.chaos.harness.extent import full_only
from tests.chaos.harness.fault_proxy import Direction, Fault, FaultProxy
from tests.chaos.harness.own_redis import OwnRedis, own_redis, shard_on
from tests.chaos.harness.producing import BOTH_CLASSES, CLASSES, Producer, draining, producing
from tests.chaos.harness.syscall_faults import injected
from tests.chaos.harness.traffic import seconds_until
from tests.conftest import Database
from tests.factories import event, wire
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.chaos

SEED = 18
SLOW_S = 4
FLIPPED_TO = b"\xff"
LOG_AND_WAIT: Final = """
import json, sys, threading
from audit_platform.client import AuditClient, Durability

client = AuditClient.from_env(**json.loads(sys.stdin.readline()))
for durability in (Durability.STANDARD, Durability.DURABLE):
    for number in range(20):
        client.log("user.suspend", entity=("number", f"{durability}-{number}"),
                   durability=durability)
assert client.flush(10)
print("sent", flush=True)
threading.Event().wait()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path / "redis") as started:
        yield started


@pytest.fixture
def own_shard(server: OwnRedis, settings: Settings, database: Database) -> Iterator[Shard]:
    with shard_on(server, settings, database) as made:
        yield made


@pytest.fixture
def producer(own_shard: Shard, tmp_path: Path, durability: Durability) -> Iterator[Producer]:
    url = own_shard.settings.redis_url.get_secret_value()
    with producing(url, own_shard, tmp_path, durability) as made:
        yield made


def sent(producer: Producer) -> int:
    """Log some events and wait until Redis has acknowledged all; returns how many in all."""
    for _ in range(5):
        producer.log(10)
        assert producer.client.flush(10)
    return len(producer.accepted)


def events_in(shard: Shard) -> int:
    """Events of the stream, counted by what their entries declare."""
    entries: Any = shard.redis.xrange(shard.key)
    return sum(int(fields[b"n"]) for _, fields in entries)


def entry_ids(shard: Shard) -> list[bytes]:
    """Ids of the stream's entries; each begins with the milliseconds at which it was added."""
    entries: Any = shard.redis.xrange(shard.key)
    return [entry_id for entry_id, _ in entries]


def synced_size(server: OwnRedis) -> int:
    """Size of the append-only file when all of it is on the disk: after a second of silence."""
    sizes: list[int] = []

    def is_steady() -> bool:
        sizes.append(server.aof.stat().st_size)
        # fdatasync follows each second; the poll looks every 20 ms.
        return len(sizes) > 75 and len(set(sizes[-75:])) == 1

    seconds_until(is_steady)
    return sizes[-1]


def test_a_slow_disk_loses_acknowledged_entries_in_redis(
    server: OwnRedis, own_shard: Shard, tmp_path: Path
) -> None:
    """F14, the proof and the control: a sender that does not resend loses them for good."""
    synced_size(server)
    acknowledged: set[str] = set()
    with injected(server.pid, "fdatasync", f"delay_enter={SLOW_S * 1_000_000}", log=tmp_path / "s"):
        stop = threading.Event()
        threading.Timer(1.6, stop.set).start()
        while not stop.wait(0.005):
            one = event()
            own_shard.add_event(wire(one))
            acknowledged.add(one["id"])
        server.server.kill()
    server.server.start()
    own_shard.drain()

    lost = acknowledged - set(own_shard.stored_ids())
    assert lost, f"0 of {len(acknowledged)} lost: the disk was not slow"


@CLASSES
@full_only
def test_a_slow_disk_and_a_kill_lose_nothing_end_to_end(
    server: OwnRedis, own_shard: Shard, producer: Producer, tmp_path: Path
) -> None:
    """F14 with `everysec`, fdatasync delayed by 4 s, SIGKILL."""
    synced_size(server)
    log = tmp_path / "strace.log"
    with injected(server.pid, "fdatasync", f"delay_enter={SLOW_S * 1_000_000}", log=log):
        stop = threading.Event()
        threading.Timer(1.6, stop.set).start()
        producer.log_until(stop)
        assert producer.client.flush(10)
        acknowledged = events_in(own_shard)
        server.server.kill()
    server.server.start()
    lost_in_redis = acknowledged - events_in(own_shard)

    with draining(own_shard):
        producer.check(own_shard)
    assert lost_in_redis > 0, f"Redis kept all {acknowledged}"


def test_always_loses_nothing_in_redis_itself(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """F14 with `always`: slow, and the kill takes nothing."""
    with (
        own_redis(tmp_path / "redis", "appendfsync always") as server,
        shard_on(server, settings, database) as shard,
    ):
        log = tmp_path / "strace.log"
        with injected(server.pid, "fdatasync", "delay_enter=50000", log=log) as injection:
            accepted = [event() for _ in range(20)]
            for one in accepted:
                shard.add_event(wire(one))
            assert injection.count >= 20
            server.server.kill()
        server.server.start()

        assert shard.redis.xlen(shard.key) == 20


@CLASSES
@pytest.mark.parametrize("is_inside_record", [False, True], ids=["at_record", "inside_record"])
def test_a_power_loss_costs_redis_its_tail_and_us_nothing(
    server: OwnRedis, own_shard: Shard, producer: Producer, is_inside_record: bool
) -> None:
    """F15: SIGKILL, and the append-only file is cut to what was on the disk."""
    sent(producer)
    size = synced_size(server)
    sent(producer)
    acknowledged = events_in(own_shard)
    server.server.kill()
    last = server.aof.stat().st_size
    assert last > size
    with server.aof.open("r+b") as file:
        # 40 bytes short of the end is the middle of the last record: its event alone has 200.
        file.truncate(last - 40 if is_inside_record else size)
    server.server.start()
    left = events_in(own_shard)

    with draining(own_shard):
        producer.check(own_shard)
    assert left < acknowledged, "the cut took something away"


@CLASSES
def test_a_flipped_byte_keeps_redis_from_starting_and_the_resend_brings_all_back(
    server: OwnRedis, own_shard: Shard, producer: Producer
) -> None:
    """F16: Redis refuses to start; its file is removed, and the producer has everything."""
    sent(producer)
    synced_size(server)
    server.server.kill()
    content = server.aof.read_bytes()
    # The length of a record in the middle; within an event's text Redis would not notice.
    middle = content.index(b"\r\n*", len(content) // 2) + 2
    server.aof.write_bytes(content[:middle] + FLIPPED_TO + content[middle + 1 :])
    assert server.refuses_to_start()
    log = (server.config.data_dir / "redis.log").read_text()
    server.aof.unlink()
    empty_from_ms = time.time_ns() // 1_000_000
    server.server.start()
    # The producer may have sent something again by now; nothing of before is there.
    assert all(int(one.partition(b"-")[0]) >= empty_from_ms for one in entry_ids(own_shard))

    with draining(own_shard):
        producer.check(own_shard)
    assert "Bad file format" in log


@BOTH_CLASSES
@pytest.mark.parametrize("command", ["FLUSHALL", "DEL"])
def test_a_deleted_stream_is_sent_again(
    server: OwnRedis, own_shard: Shard, producer: Producer, command: str
) -> None:
    """F17: the group starts again at 0, and what nobody confirmed comes back."""
    acknowledged = sent(producer)
    assert events_in(own_shard) == acknowledged
    server.ask(command, *([own_shard.key] if command == "DEL" else []))
    assert not own_shard.redis.exists(own_shard.key)

    with draining(own_shard):
        producer.check(own_shard)


@CLASSES
@full_only
def test_a_deleted_stream_under_load_is_sent_again(
    server: OwnRedis, own_shard: Shard, producer: Producer
) -> None:
    """F17 while drains and the producer are at work."""
    stop = threading.Event()
    with draining(own_shard):
        logging = threading.Thread(target=producer.log_until, args=(stop,), daemon=True)
        logging.start()
        for _ in range(3):
            threading.Event().wait(0.4)
            server.ask("FLUSHALL")
        stop.set()
        logging.join()

        producer.check(own_shard)


@CLASSES
def test_a_failover_to_a_lagging_replica_loses_nothing_end_to_end(
    server: OwnRedis,
    settings: Settings,
    database: Database,
    tmp_path: Path,
    durability: Durability,
) -> None:
    """F18: replication stalls, the primary dies, the replica takes over without the tail."""
    with (
        FaultProxy("127.0.0.1", server.config.port, seed=SEED) as replication,
        FaultProxy("127.0.0.1", server.config.port, seed=SEED) as clients,
        shard_on(server, settings, database, proxy=clients) as shard,
        own_redis(
            tmp_path / "replica",
            f"replicaof 127.0.0.1 {replication.port}",
            "masteruser admin",
            f"masterauth {server.config.passwords['admin']}",
            "repl-diskless-sync-delay 0",
            like=server,
        ) as replica,
        producing(
            shard.settings.redis_url.get_secret_value(), shard, tmp_path, durability
        ) as producer,
    ):
        first = sent(producer)
        replica_view = redis.Redis.from_url(replica.config.url("admin"))
        seconds_until(lambda: replica_view.xlen(shard.key) == shard.redis.xlen(shard.key) > 0)
        replication.set(Direction.TO_CLIENT, Fault(is_stalled=True))
        acknowledged = sent(producer)
        replicated = replica_view.xlen(shard.key)
        on_primary = shard.redis.xlen(shard.key)
        server.server.kill()
        replication.reset_connections()
        replica.ask("REPLICAOF", "NO", "ONE")
        clients.retarget("127.0.0.1", replica.config.port)
        clients.reset_connections()
        replica_view.close()

        with draining(shard):
            producer.check(shard)
    assert replication.counters.stalled_chunks > 0
    assert first < acknowledged
    assert isinstance(replicated, int)
    assert isinstance(on_primary, int)
    assert replicated < on_primary, "the tail was lost in Redis"


def test_what_a_killed_producer_lost_is_named_exactly(
    server: OwnRedis, own_shard: Shard, tmp_path: Path
) -> None:
    """F17 and the producer is gone too: `durable` comes from its disk, `standard` is a gap."""
    values = {
        "redis_url": own_shard.settings.redis_url.get_secret_value(),
        "key_prefix": own_shard.settings.key_prefix,
        "producer_name": "faults-killed",
        "spool_dir": str(tmp_path / "spool"),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", LOG_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(values).encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"sent\n"
        server.ask("FLUSHALL")
        process.kill()

    with (
        producing(
            values.pop("redis_url"), own_shard, tmp_path, Durability.DURABLE, **values
        ) as heir,
        draining(own_shard),
    ):
        heir.log(1)
        heir.accepted |= {f"durable-{number}" for number in range(20)}
        heir.check(own_shard, missing=((1, 20),))
