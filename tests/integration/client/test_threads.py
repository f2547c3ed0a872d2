"""Many threads share one client: nothing is lost, doubled or numbered twice."""

import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from audit_platform.client import AuditClient
from tests.conftest import RedisSpace
from tests.contract.client.cli_stream import read_stream

pytestmark = pytest.mark.integration

THREADS, EVENTS = 8, 5_000


@pytest.fixture
def _switch_often() -> Iterator[None]:
    """Let threads interrupt each other far more often than usual."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before_s)


@pytest.mark.usefixtures("_switch_often")
def test_eight_threads_lose_and_double_nothing(redis_space: RedisSpace) -> None:
    with AuditClient.from_env(
        redis_url=redis_space.url("producer"), key_prefix=redis_space.prefix, buffer_events=50_000
    ) as client:

        def work(thread: int) -> None:
            for number in range(EVENTS):
                client.log("tick", entity=("thread", f"{thread}-{number}"))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(30)
        stats = client.stats()

    entries = read_stream(redis_space.cli, f"{redis_space.prefix}:{{0}}:events")
    events = [event for entry in entries for event in entry.events]
    assert stats.accepted == stats.sent == THREADS * EVENTS
    assert len({event["id"] for event in events}) == len(events) == THREADS * EVENTS
    assert Counter(event["entity_id"].partition("-")[0] for event in events) == {
        str(number): EVENTS for number in range(THREADS)
    }
    numbers = [number for entry in entries for number in entry.numbers]
    assert numbers == list(range(1, THREADS * EVENTS + 1))
