"""Processes that end, are told to end, or fork: real ones, each with its own client."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import RedisSpace
from tests.contract.client.cli_stream import CliEntry, read_stream

pytestmark = pytest.mark.integration

PRELUDE = """
import os, signal, sys, threading
from audit_platform.client import AuditClient

def make(**more):
    # This preset lingers for 30 s: without a drain nothing would be sent.
    return AuditClient.from_env(
        redis_url=sys.argv[1], key_prefix=sys.argv[2],
        **{"batch_preset": "low", "close_timeout_s": 5, **more})

def wait():
    print("ready", flush=True)
    threading.Event().wait()
"""
NOBODY = "redis://127.0.0.1:1/0"


@contextmanager
def running(
    body: str, space: RedisSpace, *, url: str | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a process of its own; it is gone after the block."""
    script = PRELUDE + textwrap.dedent(body)
    process = subprocess.Popen(
        [sys.executable, "-c", script, url or space.url("producer"), space.prefix],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(body: str, space: RedisSpace) -> int:
    with running(body, space) as process:
        process.communicate(timeout=30)
        return process.returncode


def terminate(body: str, space: RedisSpace, *, url: str | None = None) -> int:
    """Send SIGTERM once the script says that it is ready; returns its exit status."""
    with running(body, space, url=url) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        return process.returncode


def written(space: RedisSpace) -> list[CliEntry]:
    return read_stream(space.cli, f"{space.prefix}:{{0}}:events")


def actions(space: RedisSpace) -> list[str]:
    """What the application logged; clients also say where the numbers of a dead one ended."""
    found = [event["action"] for entry in written(space) for event in entry.events]
    return sorted(action for action in found if not action.startswith("audit.producer."))


def test_normal_exit_sends_the_rest(redis_space: RedisSpace) -> None:
    status = run("client = make()\nfor _ in range(100): client.log('tick')", redis_space)

    assert status == 0
    assert actions(redis_space) == ["tick"] * 100


def test_exit_by_an_exception_sends_the_rest(redis_space: RedisSpace) -> None:
    assert run("make().log('tick')\nraise SystemExit(7)", redis_space) == 7
    assert actions(redis_space) == ["tick"]


def test_sigterm_sends_the_rest_and_ends_by_the_signal(redis_space: RedisSpace) -> None:
    status = terminate(
        "client = make()\nfor _ in range(100): client.log('tick')\nwait()", redis_space
    )

    assert status == -signal.SIGTERM
    assert actions(redis_space) == ["tick"] * 100


def test_sigterm_calls_the_handler_that_was_there(redis_space: RedisSpace) -> None:
    body = """
    signal.signal(signal.SIGTERM, lambda *_: (client.log("from handler"), sys.exit(3)))
    client = make()
    client.log("tick")
    wait()
    """

    assert terminate(body, redis_space) == 3
    assert actions(redis_space) == ["from handler", "tick"]


def test_sigterm_is_left_to_the_application_on_request(redis_space: RedisSpace) -> None:
    body = """
    client = AuditClient.from_env(
        handle_sigterm=False, redis_url=sys.argv[1], key_prefix=sys.argv[2], batch_preset="low")
    client.log("tick")
    wait()
    """

    assert terminate(body, redis_space) == -signal.SIGTERM
    assert actions(redis_space) == []


def test_sigterm_drains_all_clients_of_a_process(redis_space: RedisSpace) -> None:
    body = """
    first, second = make(), make()
    first.log("first")
    second.log("second")
    wait()
    """

    assert terminate(body, redis_space) == -signal.SIGTERM
    assert actions(redis_space) == ["first", "second"]


@pytest.mark.parametrize("attempt", range(3))
def test_sigterm_in_the_middle_of_calls_never_hangs(redis_space: RedisSpace, attempt: int) -> None:
    del attempt
    body = """
    client = make(batch_preset="adaptive")
    client.log("tick")
    print("ready", flush=True)
    while True:
        client.log("tick")
    """

    assert terminate(body, redis_space) == -signal.SIGTERM
    numbers = [number for entry in written(redis_space) for number in entry.numbers]
    assert len(numbers) == len(set(numbers)) > 0


def test_sigterm_without_redis_ends_in_the_time_that_the_settings_allow(
    redis_space: RedisSpace,
) -> None:
    begin_s = time.monotonic()

    status = terminate("make(close_timeout_s=1).log('tick')\nwait()", redis_space, url=NOBODY)

    assert status == -signal.SIGTERM
    assert time.monotonic() - begin_s < 10


def test_second_sigterm_ends_at_once(redis_space: RedisSpace) -> None:
    body = "make(close_timeout_s=60).log('tick')\nwait()"
    with running(body, redis_space, url=NOBODY) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        # The first one is being drained: the process is still there.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)

        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=10) == -signal.SIGTERM


def test_forked_child_sends_its_own_events_and_the_parent_the_rest(redis_space: RedisSpace) -> None:
    body = """
    client = make()
    for _ in range(50): client.log("parent")
    child = os.fork()
    if child == 0:
        assert client.stats().accepted == 0
        for _ in range(20): client.log("child")
        client.close()
        os._exit(0 if client.stats().sent == 20 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.log("parent")
    client.close()
    assert client.stats().sent == 51
    """

    assert run(body, redis_space) == 0
    entries = [
        entry
        for entry in written(redis_space)
        if not entry.events[0]["action"].startswith("audit.producer.")
    ]
    assert actions(redis_space) == ["child"] * 20 + ["parent"] * 51
    assert len({event["id"] for entry in entries for event in entry.events}) == 71
    numbers: dict[str, list[int]] = {}
    for entry in entries:
        numbers.setdefault(entry.fields["e"], []).extend(entry.numbers)
    assert sorted(numbers.values(), key=len) == [list(range(1, 21)), list(range(1, 52))]


def test_fork_while_threads_log_leaves_no_lock_behind(redis_space: RedisSpace) -> None:
    body = """
    client = make(batch_preset="adaptive", buffer_events=100_000)
    stop = threading.Event()
    def work():
        while not stop.is_set(): client.log("parent")
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads: thread.start()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            client.log("child")
            client.close()
            os._exit(0 if client.stats().sent == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop.set()
    for thread in threads: thread.join()
    client.close()
    stats = client.stats()
    assert stats.accepted == stats.sent + stats.dropped_total
    """

    assert run(body, redis_space) == 0
    assert actions(redis_space).count("child") == 20


def test_worker_of_multiprocessing_sends_the_rest_at_its_end(redis_space: RedisSpace) -> None:
    body = """
    import multiprocessing
    client = make()
    def work():
        client.log("worker")
    def own():
        make().log("own")
    context = multiprocessing.get_context("fork")
    for target in (work, work, own):
        process = context.Process(target=target)
        process.start()
        process.join()
        assert process.exitcode == 0
    client.log("parent")
    """

    assert run(body, redis_space) == 0
    assert actions(redis_space) == ["own", "parent", "worker", "worker"]


def test_event_logged_while_the_interpreter_ends_is_sent(redis_space: RedisSpace) -> None:
    body = """
    import atexit
    client = make()
    # Runs before the client's own hook, which was registered earlier.
    atexit.register(lambda: client.log("goodbye"))
    """

    assert run(body, redis_space) == 0
    assert actions(redis_space) == ["goodbye"]


def test_sigterm_in_this_process_reaches_the_previous_handler(redis_space: RedisSpace) -> None:
    from audit_platform.client import AuditClient

    called = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: called.set())
    try:
        client = AuditClient.from_env(
            redis_url=redis_space.url("producer"), key_prefix=redis_space.prefix
        )
        client.log("before")
        os.kill(os.getpid(), signal.SIGTERM)
        assert called.wait(5)
        client.log("after")
        client.close()
    finally:
        signal.signal(signal.SIGTERM, before)

    assert actions(redis_space) == ["after", "before"]
