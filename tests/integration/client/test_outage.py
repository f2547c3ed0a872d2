"""Redis stops under load and comes back: calls go on, counts add up, what waited is sent."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from audit_platform.client import AuditClient, BreakerState, ClientStats, DropReason, Durability
from audit_platform.local import redis
from audit_platform.local.ports import any_free_port
from audit_platform.local.redis import RedisConfig, RedisServer
from tests.contract.client.cli_stream import read_stream

pytestmark = pytest.mark.integration

KEY = "audit:{0}:events"
REDIS_TIMEOUT_MS = 2_000
# A call that waited for Redis would take longer. Not much shorter: starting the server's process
# holds the interpreter lock of this one, on a busy machine for half a second (seen in a test).
NO_NETWORK_S = 1.5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test alone, since it is stopped."""
    config = RedisConfig(data_dir=tmp_path, port=any_free_port(), passwords=redis.new_passwords())
    started = RedisServer(config)
    started.start()
    yield started
    started.stop()


def make_client(server: RedisServer, **overrides: Any) -> AuditClient:
    return AuditClient.from_env(
        redis_url=server.config.url("producer"), redis_timeout_ms=REDIS_TIMEOUT_MS, **overrides
    )


def until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        pause.wait(0.01)


def assert_adds_up(stats: ClientStats) -> None:
    waiting = stats.buffered + stats.spooled
    assert stats.accepted == stats.sent + stats.dropped_total + waiting


class Load:
    """Threads that log until told to stop; keeps the longest call and any exception."""

    def __init__(self, client: AuditClient, threads: int = 2) -> None:
        self._client, self._stop = client, threading.Event()
        self.slowest_call_s = 0.0
        self.raised: list[BaseException] = []
        self.calls = [0] * threads
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, thread: int) -> None:
        while not self._stop.wait(0.002):
            begin_s = time.perf_counter()
            try:
                self._client.log("tick", entity=("load", f"{thread}-{self.calls[thread]}"))
            except BaseException as exc:  # noqa: BLE001 - that none comes is the claim
                self.raised.append(exc)
            self.slowest_call_s = max(self.slowest_call_s, time.perf_counter() - begin_s)
            self.calls[thread] += 1


def test_stopped_redis_loses_nothing_and_delays_no_call(server: RedisServer) -> None:
    seen: list[ClientStats] = []
    with make_client(server) as client:
        with Load(client) as load:
            until(lambda: client.stats().sent > 100)
            server.stop()
            until(
                lambda: seen.append(client.stats()) or client.stats().breaker is BreakerState.OPEN
            )
            waiting = client.stats().spooled
            until(lambda: seen.append(client.stats()) or client.stats().spooled > waiting + 200)
            server.start()
            until(lambda: client.stats().breaker is BreakerState.CLOSED)
        assert client.flush(20)
        stats = client.stats()
    entries = read_stream(lambda *a: redis.run_cli(server.config, "admin", *a), KEY)

    for moment in (*seen, stats):
        assert_adds_up(moment)
    assert load.raised == []
    assert load.slowest_call_s < NO_NETWORK_S
    assert stats.accepted == stats.sent == sum(load.calls)
    assert stats.retries >= 5
    assert stats.last_error is None
    stored = {event["entity_id"] for entry in entries for event in entry.events}
    assert stored == {f"{thread}-{n}" for thread in (0, 1) for n in range(load.calls[thread])}
    numbers = [number for entry in entries for number in entry.numbers]
    assert sorted(set(numbers)) == list(range(1, stats.accepted + 1))


def test_silent_redis_delays_no_call_and_repeats_lose_nothing(server: RedisServer) -> None:
    with make_client(server) as client:
        with Load(client) as load:
            until(lambda: client.stats().sent > 100)
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
            until(lambda: client.stats().retries >= 2)
            server.process.send_signal(signal.SIGCONT)
            until(lambda: client.stats().breaker is BreakerState.CLOSED)
        assert client.flush(20)
        stats = client.stats()
    entries = read_stream(lambda *a: redis.run_cli(server.config, "admin", *a), KEY)

    assert load.raised == []
    assert load.slowest_call_s < NO_NETWORK_S
    assert stats.accepted == stats.sent == sum(load.calls)
    # Redis took some entries whose replies were late: they are there twice, byte by byte.
    lines = [line for entry in entries for line in entry.lines]
    assert len(set(lines)) == stats.accepted
    ids = {event["id"] for entry in entries for event in entry.events}
    assert len(ids) == stats.accepted


def test_without_a_disk_drops_are_counted_declared_and_equal_the_gaps(
    server: RedisServer, tmp_path: Path
) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("no directory")
    server.stop()
    with make_client(server, buffer_events=200, spool_dir=nowhere / "spool") as client:
        for number in range(300):
            durability = Durability.BEST_EFFORT if number % 3 else Durability.STANDARD
            client.log("tick", entity=("n", number), durability=durability)
        full = client.stats()
        server.start()
        assert client.flush(30)
        stats = client.stats()
    entries = read_stream(lambda *a: redis.run_cli(server.config, "admin", *a), KEY)

    ticks = [entry for entry in entries if entry.events[0]["action"] == "tick"]
    numbers = {(entry.fields["e"], number) for entry in ticks for number in entry.numbers}
    kept = {int(event["entity_id"]) for entry in ticks for event in entry.events}
    assert_adds_up(full)
    assert full.buffered == 200
    assert stats.sent == 200 == len(numbers)
    assert stats.dropped_total == 100
    assert all(classes.keys() == {Durability.BEST_EFFORT} for classes in stats.dropped.values())
    assert stats.dropped.keys() == {DropReason.BUFFER_FULL, DropReason.SHED}
    assert {number for number in range(300) if number % 3 == 0} <= kept
    declared = {
        (str(event["metadata"]["epoch"]), number)
        for entry in entries
        for event in entry.events
        if event["action"] == "audit.producer.loss"
        for first, last in event["metadata"]["ranges"]
        for number in range(first, last + 1)
    }
    # Each class counts by itself: a hundred `standard` events, two hundred `best_effort` ones.
    assert len(declared) == 100
    assert not declared & numbers
    by_epoch = [
        sorted(number for epoch, number in declared | numbers if epoch == one)
        for one in {epoch for epoch, _ in numbers}
    ]
    assert sorted(by_epoch, key=len) == [list(range(1, 101)), list(range(1, 201))]


def test_full_redis_keeps_events_until_there_is_room(server: RedisServer) -> None:
    def admin(*arguments: str) -> str:
        return redis.run_cli(server.config, "admin", *arguments)

    admin("config", "set", "maxmemory", "1")
    with make_client(server) as client:
        client.log("tick")
        until(lambda: "QueueFull" in (client.stats().last_error or ""))
        until(lambda: client.stats().spooled == 1)

        admin("config", "set", "maxmemory", "0")

        # A refused producer waits 15 s, so that the drain can say how the shard is.
        assert client.flush(40)
        assert client.stats().sent == 1


def test_refused_login_is_retried_and_explained_without_the_password(server: RedisServer) -> None:
    wrong = server.config.url("producer").replace(server.config.passwords["producer"], "hunter2")
    with AuditClient.from_env(redis_url=wrong, close_timeout_s=0) as client:
        client.log("tick")
        until(lambda: client.stats().retries > 1)

        until(lambda: client.stats().spooled == 1)
        assert "hunter2" not in repr(client.stats())


def test_low_preset_waits_and_flush_does_not(server: RedisServer) -> None:
    with make_client(server, batch_preset="low") as client:
        client.log("tick")

        assert not threading.Event().wait(0.2)
        assert client.stats().sent == 0
        assert client.flush()
        assert client.stats().sent == 1


def test_size_of_the_preset_flushes_without_waiting(server: RedisServer) -> None:
    with make_client(server, batch_size=10, batch_interval_ms=60_000) as client:
        for _ in range(10):
            client.log("tick")

        until(lambda: client.stats().sent == 10, timeout_s=5)


def test_adaptive_preset_sends_soon_after_the_first_event(server: RedisServer) -> None:
    with make_client(server) as client:
        client.log("tick")
        until(lambda: client.stats().sent == 1, timeout_s=2)
        # The sender is idle now: the next event has to wake it.
        threading.Event().wait(0.1)

        client.log("tick")

        until(lambda: client.stats().sent == 2, timeout_s=2)
