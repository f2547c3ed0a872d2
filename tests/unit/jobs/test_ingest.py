"""The observer of a drain run: what it tells Dagster, and what happens when that fails."""

from dataclasses import replace
from typing import Any

import dagster as dg

from audit_platform.events.tally import DrainReport
from audit_platform.jobs.ingest import Observer

REPORT = DrainReport(
    rows=2_000,
    batches=1,
    rows_per_s=200.0,
    lag_p50_s=0.1,
    lag_p99_s=0.2,
    bytes_=350_000,
    duplicates=0,
    late=0,
    dead_letters=0,
    dead_by_reason={},
    redis_lost=0,
    backlog=0,
)


class Storage:
    """Stands for Dagster's event log: keeps observations, or refuses them like a dead server."""

    def __init__(self) -> None:
        self.is_down = False
        self.numbers: list[dict[str, Any]] = []

    def log_event(self, observation: dg.AssetObservation) -> None:
        if self.is_down:
            raise ConnectionError("server closed the connection unexpectedly")
        self.numbers.append({name: value.value for name, value in observation.metadata.items()})


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_busy_run_observes_each_report_and_nothing_more_at_its_end() -> None:
    storage, clock = Storage(), Clock()
    observer = Observer(storage.log_event, shard=3, clock=clock)

    for _ in range(2):
        clock.now_s += 10
        observer.report(REPORT)
    observer.finish()

    assert [numbers["rows"] for numbers in storage.numbers] == [2_000, 2_000]
    assert storage.numbers[0]["shard"] == "3"
    assert storage.numbers[0]["rows_per_s"] == 200.0


def test_slow_run_observes_once_at_its_end() -> None:
    storage, clock = Storage(), Clock()
    observer = Observer(storage.log_event, shard=0, clock=clock)

    for _ in range(3):
        clock.now_s += 10
        observer.report(replace(REPORT, rows=2, dead_letters=1, dead_by_reason={"too_long": 1}))
    observer.finish()

    (numbers,) = storage.numbers
    assert (numbers["rows"], numbers["dead_letters"]) == (6, 3)
    assert numbers["dead letters by reason"] == {"too_long": 3}


def test_outage_of_the_storage_ends_no_run_and_loses_no_number() -> None:
    storage, clock = Storage(), Clock()
    observer = Observer(storage.log_event, shard=0, clock=clock)

    storage.is_down = True
    clock.now_s += 10
    observer.report(REPORT)
    storage.is_down = False
    clock.now_s += 10
    observer.report(REPORT)

    assert [numbers["rows"] for numbers in storage.numbers] == [4_000]


def test_idle_run_observes_nothing() -> None:
    storage, clock = Storage(), Clock()
    observer = Observer(storage.log_event, shard=0, clock=clock)

    clock.now_s += 600
    observer.report(replace(REPORT, rows=0, batches=0))
    observer.finish()

    assert storage.numbers == []
