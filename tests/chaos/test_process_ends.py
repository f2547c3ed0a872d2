"""How a producer ends decides what its events are worth: SIGTERM loses none, SIGKILL what it says.

F04: SIGTERM at full load. F24: SIGKILL with a full linger buffer; the loss equals the gap that the
successor's `audit.producer.end` makes visible, exactly.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIGKILL, SIGTERM

import pytest

from tests.chaos.harness.fast_stack import drain, producer
from tests.chaos.harness.history import read_history
from tests.chaos.harness.kept import Kept
from tests.chaos.harness.services import Services, running_services
from tests.integration.events.shard import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

END_LIMIT_S = 10.0
LOGGED = 900


@pytest.fixture
def services() -> Iterator[Services]:
    with running_services() as running:
        yield running


@contextmanager
def kept_running(*processes: Kept) -> Iterator[None]:
    for kept in processes:
        kept.begin()
    try:
        yield
    finally:
        for kept in processes:
            kept.discard()


def has_stored(services: Services, count: int) -> Callable[[], bool]:
    return lambda: services.ask("select count(*) from audit.event") >= [(count,)]


def test_sigterm_at_full_load_ends_in_time_and_loses_nothing(services: Services) -> None:
    drains = drain(services, "drain-a")
    logs = producer(services, "busy", classes={"standard": 8, "durable": 1, "best_effort": 1})
    with kept_running(drains, logs):
        wait_until(has_stored(services, 2_000), deadline_s=60)
        took_s = {}
        for kept in (drains, logs):
            # The keeper starts the drain again: somebody has to store what the producer leaves.
            (kept.release if kept is drains else kept.hold)()
            start, began_s = kept.starts - 1, time.monotonic()
            kept.signal(SIGTERM)
            end = kept.wait_for_end(start, within_s=60)
            took_s[kept.name] = time.monotonic() - began_s
            assert end is not None
            assert end.code == 0, kept.last_lines()
        verdict = services.settled_verdict(within_s=60)

    print(verdict, took_s)  # noqa: T201
    assert verdict.problems() == []
    assert verdict.excused == 0
    assert max(took_s.values()) <= END_LIMIT_S


@pytest.mark.parametrize(
    ("durability", "loses"), [("standard", True), ("best_effort", True), ("durable", False)]
)
def test_a_killed_producer_loses_what_its_class_allows_and_the_gap_says_so(
    services: Services, durability: str, loses: bool
) -> None:
    """Nothing has left the buffer when the kill comes: the linger of this producer is a minute."""
    logs = producer(
        services,
        "lingering",
        classes={durability: 1},
        limit=LOGGED,
        batch_interval_ms=60_000,
        batch_size=1_000,
        buffer_events=10_000,
    )
    with kept_running(drain(services, "drain-a"), logs):
        wait_until(lambda: len(read_history(services.histories).ok) == LOGGED, deadline_s=60)
        logs.signal(SIGKILL)
        end = logs.wait_for_end(0, within_s=10)
        wait_until(lambda: logs.starts == 2)
        logs.finish()
        verdict = services.settled_verdict(within_s=60)

    assert end is not None
    assert end.is_killed
    lost = verdict.lost.get(durability, 0)
    assert verdict.problems() == []
    assert verdict.gap_count == verdict.excused == lost
    assert (lost > 0) == loses
