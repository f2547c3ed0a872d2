"""The fast stack: producers, two drains, Redis, PostgreSQL, and a reader; killed ones come back.

Here: starting and ending it. Not here: faults (`kills.py`), the order of faults (`sweep.py`).
Two drains, so that every moment also tests the lease (F13): one holds it, the other waits.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any, Final

import psycopg

from tests.chaos.harness.kept import Kept
from tests.chaos.harness.oracle import Verdict
from tests.chaos.harness.reader import Reader
from tests.chaos.harness.recovery import Recoveries
from tests.chaos.harness.services import Services, plain, running_services

CLASSES: Final[Mapping[str, int]] = {"standard": 5, "durable": 3, "best_effort": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class FastStack:
    """Everything that runs, and the one source of chance."""

    services: Services
    producers: Sequence[Kept]
    drains: Sequence[Kept]
    reader: Reader
    recoveries: Recoveries
    random: Random
    spared: frozenset[str] = frozenset()
    """Names of processes that no signal may end: their memory is watched over the whole test."""
    thawing: list[Thread] = field(default_factory=list[Thread])
    """Threads that will thaw what is frozen now."""

    @property
    def kept(self) -> list[Kept]:
        """All processes of ours."""
        return [*self.producers, *self.drains]

    def active_drain(self) -> Kept:
        """The drain that holds the lease; any when nobody can say."""
        with suppress(psycopg.Error):
            for (run_id,) in self.services.ask("select run_id from audit.drain_lease"):
                for drain in self.drains:
                    if run_id and run_id.startswith(f"{drain.name}-"):
                        return drain
        return self.random.choice(self.drains)

    def mortal_producer(self) -> Kept:
        """A producer that may be killed."""
        return self.random.choice([one for one in self.producers if one.name not in self.spared])

    def mortal_drain(self) -> Kept:
        """The drain that holds the lease, unless it is spared."""
        active = self.active_drain()
        if active.name not in self.spared:
            return active
        return self.random.choice([one for one in self.drains if one.name not in self.spared])

    def settle(self, *, within_s: float) -> Verdict:
        """Stop logging, let everything arrive, end the producers, judge, end the drains.

        Producers stay until all is well, since what Redis lost only they can send again.
        """
        for thread in self.thawing:
            thread.join()
        for producer in self.producers:
            producer.order("quiet")
        self.services.settled_verdict(within_s=within_s)
        for producer in self.producers:
            producer.finish()
        verdict = self.services.settled_verdict(within_s=within_s)
        for drain in self.drains:
            drain.finish()
        return verdict

    def unasked_ends(self) -> list[str]:
        """Processes that ended by an error of their own, with the end of their log."""
        return [
            f"{kept.name} ended with {end.code}: {kept.last_lines()}"
            for kept in self.kept
            for end in kept.ends
            if end.code > 0
        ]


@contextmanager
def fast_stack(
    *,
    seed: int,
    producers: int = 3,
    rate: float = 150,
    drains: int = 2,
    classes: Mapping[str, int] = CLASSES,
    spared: frozenset[str] = frozenset(),
    **overrides: object,
) -> Iterator[FastStack]:
    """Start everything; wait until the first event is visible.

    Args:
        seed: Of every choice, also in the producers.
        producers: Number of processes.
        rate: Events per second of each.
        drains: Number of processes.
        classes: Weight by durability class.
        spared: Names of processes that are not killed.
        **overrides: Settings of all of them.
    """
    with running_services(**overrides) as services:
        made = [
            producer(services, f"producer-{number}", seed=seed, rate=rate, classes=classes)
            for number in range(producers)
        ]
        reader = Reader(services.admin_url)
        stack = FastStack(
            services=services,
            producers=made,
            drains=[drain(services, f"drain-{name}") for name in "abcdef"[:drains]],
            reader=reader,
            recoveries=Recoveries(services.site, reader.newest_ms),
            random=Random(seed),
            spared=spared,
        )
        try:
            for kept in stack.kept:
                kept.begin()
            reader.start()
            stack.recoveries.start()
            _wait_for_first_event(stack)
            yield stack
        finally:
            stack.recoveries.stop()
            for kept in stack.kept:
                kept.discard()


def producer(
    services: Services,
    name: str,
    *,
    seed: int = 0,
    rate: float = 0,
    classes: Mapping[str, int] = CLASSES,
    limit: int | None = None,
    module: str = "producer_process",
    without: str | None = None,
    **overrides: Any,
) -> Kept:
    """A producer process, not started; rate 0 means as fast as it can."""
    settings = plain(services.settings) | {"producer_name": name, **overrides}
    config = {
        "settings": settings,
        "histories": str(services.histories),
        "seed": seed,
        "rate": rate,
        "classes": dict(classes),
        "limit": limit,
        "without": without,
    }
    return Kept(module, name=name, directory=_logs(services), config=config)


def drain(services: Services, name: str, *, module: str = "drain_process", **more: Any) -> Kept:
    """A drain process, not started."""
    config = {"settings": plain(services.settings), **more}
    return Kept(module, name=name, directory=_logs(services), config=config)


def _logs(services: Services) -> Path:
    return services.directory


def _wait_for_first_event(stack: FastStack) -> None:
    deadline_s, pause = time.monotonic() + 30, Event()
    while not stack.reader.newest_ms():
        assert time.monotonic() < deadline_s, [kept.last_lines() for kept in stack.kept]
        pause.wait(0.05)
