"""The public calls without any service: nothing raises, everything is counted."""

import asyncio
import logging
import signal
import threading
import time
from typing import Any

import pytest

from audit_platform.client import AuditClient, BreakerState, DropReason, Durability
from audit_platform.client.core import producer_id_of
from audit_platform.errors import InvalidSetting
from audit_platform.settings import load_client_settings
from tests.unit.client.conftest import NOBODY, logged


def test_event_waits_in_the_buffer_with_its_defaults(client: AuditClient) -> None:
    client.log("user.suspend", entity=("user", "42"))

    (event,) = logged(client)
    assert (event["action"], event["tenant_id"], event["entity_id"]) == (
        "user.suspend",
        "acme",
        "42",
    )


def test_bad_calls_never_raise_and_are_counted_by_kind(client: AuditClient) -> None:
    misuse: Any = client
    misuse.log("a", metadata={"o": object()})
    misuse.log("a", colour="red")
    misuse.log(None)
    misuse.log("a", metadata={"blob": "x" * 70_000})
    misuse.log_many([{"action": "ok"}, {"no": "action"}, 7])
    misuse.log_many(None)

    stats = client.stats()
    # Three were taken, as calls, before anybody looked at their arguments.
    assert (stats.accepted, stats.buffered) == (4, 1)
    assert stats.dropped == {DropReason.INVALID: {Durability.STANDARD: 3}}
    assert stats.rejected == {"metadata": 2, "unexpected": 1, "action": 2, "internal": 2}
    assert stats.rejected_total == 7


def test_bad_calls_are_logged_once_per_kind_with_field_and_remedy(
    client: AuditClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            client.log("a", severity=9)
        client.stats()

    (record,) = caplog.records
    assert "severity" in record.getMessage()
    assert "pass 0 (debug) to 5 (critical)" in record.getMessage()


def test_arguments_whose_methods_raise_are_counted(client: AuditClient) -> None:
    class Hostile(dict[str, object]):
        def items(self) -> Any:
            raise OSError("no")

    client.log("a", metadata=Hostile(a=1))

    assert client.stats().rejected == {"internal": 1}


def test_log_many_takes_each_event_by_itself(client: AuditClient) -> None:
    client.log_many({"action": "user.activate", "entity": ("user", str(n))} for n in range(3))

    assert [event["entity_id"] for event in logged(client)] == ["0", "1", "2"]


def test_contexts_nest_and_end(client: AuditClient) -> None:
    with client.context(user_id="7", request_id="r-1"):
        with client.context(user_id="8"):
            client.log("inner")
        client.log("outer")
    client.log("outside")

    inner, outer, outside = logged(client)
    assert (inner["user_id"], inner["context"]["request_id"]) == ("8", "r-1")
    assert outer["user_id"] == "7"
    assert "user_id" not in outside
    assert "request_id" not in outside["context"]


def test_context_follows_tasks_and_does_not_leak_between_them(client: AuditClient) -> None:
    async def request(number: int, all_inside: asyncio.Barrier) -> None:
        with client.context(request_id=f"r-{number}"):
            await all_inside.wait()
            await asyncio.gather(step(number, all_inside), step(number, all_inside))

    async def step(number: int, all_inside: asyncio.Barrier) -> None:
        await all_inside.wait()
        client.log("step", metadata={"number": number})

    async def serve() -> None:
        all_inside = asyncio.Barrier(5)
        await asyncio.gather(*(request(number, all_inside) for number in range(5)))

    asyncio.run(serve())

    events = logged(client)
    assert len(events) == 10
    for event in events:
        assert event["context"]["request_id"] == f"r-{event['metadata']['number']}"


def test_bad_context_is_counted_and_the_block_runs(client: AuditClient) -> None:
    with client.context(request_id=object(), user_id="7"):
        client.log("a")

    assert client.stats().accepted == 1
    assert client.stats().rejected == {"context": 1}


def test_exception_passes_through_a_context(client: AuditClient) -> None:
    with pytest.raises(KeyError), client.context(user_id="7"):
        raise KeyError

    client.log("after")
    assert "user_id" not in logged(client)[0]


def test_without_redis_calls_do_not_wait_and_the_circuit_opens() -> None:
    with AuditClient.from_env(redis_url=NOBODY, close_timeout_s=0) as client:
        begin_s = time.perf_counter()
        for _ in range(100):
            client.log("a")
        took_s = time.perf_counter() - begin_s

        assert took_s < 1
        _until(lambda: client.stats().breaker is BreakerState.OPEN)
        stats = client.stats()
        assert (stats.accepted, stats.buffered + stats.spooled, stats.sent) == (100, 100, 0)
        assert stats.retries >= 5
        assert stats.last_error is not None
        assert "QueueUnavailable" in stats.last_error


def test_flush_without_redis_ends_in_time() -> None:
    with AuditClient.from_env(redis_url=NOBODY, close_timeout_s=0) as client:
        client.log("a")

        assert not client.flush(timeout_s=0.05)


def test_close_counts_what_it_could_not_send_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    client = AuditClient.from_env(redis_url=NOBODY)
    client.log("a")
    client.log("b", durability=Durability.BEST_EFFORT)

    client.close(timeout_s=0.05)
    client.log("late")

    stats = client.stats()
    assert stats.dropped == {
        DropReason.CLOSE_TIMEOUT: {Durability.BEST_EFFORT: 1},
        DropReason.CLOSED: {Durability.STANDARD: 1},
    }
    assert (stats.accepted, stats.spooled, stats.dropped_total) == (3, 1, 2)
    assert "1 audit events were not sent" in caplog.text
    assert "1 audit events wait on disk" in caplog.text


def test_closing_twice_does_nothing() -> None:
    client = AuditClient.from_env(redis_url=NOBODY)

    client.close()
    client.close()

    assert client.stats().accepted == 0


def test_password_of_the_url_appears_in_no_statistic() -> None:
    url = "redis://producer:hunter2@127.0.0.1:notaport/0"
    with AuditClient.from_env(redis_url=url, close_timeout_s=0) as client:
        client.log("a")
        _until(lambda: client.stats().retries > 0)

        assert "hunter2" not in repr(client.stats())


def test_sigterm_handler_is_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    client = AuditClient.from_env(redis_url=NOBODY)
    during = signal.getsignal(signal.SIGTERM)
    client.close()

    assert during is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_handler_is_left_alone_when_asked_or_outside_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGTERM)
    made: list[AuditClient] = []

    made.append(AuditClient.from_env(redis_url=NOBODY, handle_sigterm=False))
    thread = threading.Thread(target=lambda: made.append(AuditClient.from_env(redis_url=NOBODY)))
    thread.start()
    thread.join()

    assert signal.getsignal(signal.SIGTERM) is before
    assert len(made) == 2
    for client in made:
        client.close()


def test_wrong_setting_is_named() -> None:
    with pytest.raises(InvalidSetting, match="AUDIT_SHARDS"):
        AuditClient.from_env(shards=0)


def test_seeding_the_global_generator_does_not_repeat_ids() -> None:
    import random

    ids: set[str] = set()
    for _ in range(2):
        random.seed(7)
        with AuditClient(
            load_client_settings(redis_url=NOBODY, batch_preset="low", close_timeout_s=0)
        ) as client:
            client.log("a", timestamp="2026-11-22T19:07:39.123456+00:00")
            ids.add(logged(client)[0]["id"])

    assert len(ids) == 2


def test_producer_id_is_stable_and_has_31_bits() -> None:
    assert producer_id_of("shop@web-1", 0) == producer_id_of("shop@web-1", 0)
    assert producer_id_of("shop@web-1", 0) != producer_id_of("shop@web-1", 1)
    assert all(0 <= producer_id_of(f"p{n}", 0) < 1 << 31 for n in range(1_000))


def _until(condition: Any, timeout_s: float = 20) -> None:
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)
