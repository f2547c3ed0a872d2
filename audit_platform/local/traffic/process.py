"""Producer processes of the demo: started, counted, stopped.

Here: the processes, and what each is told. Not here: what they send (`traffic_application.py`
with the SDK, `traffic_legacy.py` without) and how much (`traffic.py`).
Guarantee: a producer is a process of its own that knows the queue's address and nothing else of
the platform, as an application does; it ends when its parent is gone.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event as ProcessEvent
from time import monotonic
from typing import Final, Protocol

from audit_platform.errors import AuditPlatformError

# `spawn`: a fresh interpreter shares no connection, thread or random state with the demo.
_CONTEXT: Final = get_context("spawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Where producers send to: all that an application has to know."""

    redis_url: str
    key_prefix: str
    shards: int


class Signals:
    """What a producer process says and hears while it works."""

    def __init__(self, accepted: "Synchronized[int]", stop: ProcessEvent) -> None:
        """Take the shared counter and the shared stop sign."""
        self._accepted = accepted
        self._stop = stop

    def advance(self, count: int) -> None:
        """Add newly accepted events."""
        self._accepted.value += count  # one writer: needs no lock

    def wait(self, timeout_s: float) -> bool:
        """Wait; True when the producer shall end, also because its parent is gone."""
        parent = parent_process()
        is_orphan = parent is not None and not parent.is_alive()
        return self._stop.wait(max(timeout_s, 0)) or is_orphan


class Job(Protocol):
    """What one producer process does; picklable."""

    def __call__(self, *, signals: Signals) -> None:
        """Produce until done, or until `signals.wait` says so."""
        ...


class Producers:
    """Processes that produce at the same time."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        """Prepare one process per job; nothing starts yet."""
        self._stop = _CONTEXT.Event()
        self._counters = {name: _CONTEXT.Value("q", 0) for name in jobs}
        self._processes: list[BaseProcess] = [
            _CONTEXT.Process(
                target=_main, args=(job, self._counters[name], self._stop), name=name, daemon=True
            )
            for name, job in jobs.items()
        ]

    def start(self) -> None:
        """Start all processes."""
        for process in self._processes:
            process.start()

    @property
    def accepted_count(self) -> int:
        """Events the queue has taken so far, each counted once."""
        return sum(counter.value for counter in self._counters.values())

    @property
    def is_running(self) -> bool:
        """Whether any of them works still."""
        return any(process.is_alive() for process in self._processes)

    def check(self) -> None:
        """See that none has failed.

        Raises:
            AuditPlatformError: Names the producers that ended with an error.
        """
        failed = [process.name for process in self._processes if process.exitcode]
        if failed:
            raise AuditPlatformError(
                f"Producers ended with an error: {', '.join(failed)}. Their messages stand above."
            )

    def stop(self, timeout_s: float) -> None:
        """Ask all to end, wait, and kill what does not."""
        self._stop.set()
        deadline = monotonic() + timeout_s
        for process in self._processes:
            if process.pid is not None:
                process.join(max(0.0, deadline - monotonic()))
                process.kill()
                process.join()


def _main(job: Job, accepted: "Synchronized[int]", stop: ProcessEvent) -> None:
    # Ctrl-C reaches the whole terminal; the demo decides when its producers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job(signals=Signals(accepted, stop))
