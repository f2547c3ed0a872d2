"""How long until a backlog is gone after SIGKILL of what drains it, on the whole platform?

Each kill: an application logs at a steady rate, a drain run is active, the victims get SIGKILL. The
time runs from the kill until an event that was queued after it is visible and the oldest entry of
the queue is younger than a second. A killed supervisor is started again 0.5 s later, as an init
system would.
"""

import os
import random
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Final
from uuid import uuid4

import psutil

from audit_platform.client import AuditClient
from audit_platform.db.pool import connected
from audit_platform.errors import AuditPlatformError
from audit_platform.events.backlog import Backlog
from audit_platform.local import postgres
from audit_platform.local.platform_state import PlatformState, read_state
from audit_platform.local.ports import any_free_port
from audit_platform.settings import Settings, environment_for_child, load_settings
from benchmarks.figures import Figure, options_of, percentile, report

NAME = "recovery"
SEED = 20_261_122
RATE = 200
SPREAD_S = 10.0
START_AGAIN_S = 0.5
LOOK_S = 0.05
READY_S = 120.0
DEADLINE_S = 180.0
TARGET_S = 30.0
PORTS: Final = ("AUDIT_POSTGRES_PORT", "AUDIT_REDIS_PORT", "AUDIT_WEBSERVER_PORT")
PROGRAM: Final = Path(sysconfig.get_path("scripts")) / "audit-platform"
WRITERS = "select distinct client_port from pg_stat_activity where application_name like %s"
STORED = "select 1 from audit.event_all where entity_id = %s"


class RunningPlatform:
    """`audit-platform up` in a process of its own, which may be killed and started again."""

    def __init__(self, data_dir: Path) -> None:
        """Start it; `wait_ready` waits."""
        self.data_dir = data_dir
        # The same ports after each start: applications keep their URLs.
        self._ports = {name: str(any_free_port()) for name in PORTS}
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again."""
        with self.data_dir.with_suffix(".log").open("ab") as output:
            self.process = subprocess.Popen(
                (PROGRAM, "up", "--data-dir", self.data_dir),
                stdout=output,
                stderr=output,
                env=environment_for_child(**self._ports),
            )

    def wait_ready(self) -> None:
        """Wait until everything answers."""
        _until(lambda: self.state().is_ready, READY_S, "a ready platform")

    def state(self) -> PlatformState:
        """Ports and processes now."""
        state = read_state(self.data_dir)
        if state is None:
            raise ProcessLookupError("no platform runs")
        return state

    def settings(self) -> Settings:
        """Settings of the running platform, with its URLs."""
        return load_settings(data_dir=self.data_dir)

    def drains(self) -> set[int]:
        """Processes of the drain runs that are connected to PostgreSQL."""
        # As their own role: PostgreSQL hides the ports of other roles' sessions.
        url = self.settings().database_url_of("writer")
        with connected(url, application="benchmark") as connection:
            rows = connection.execute(WRITERS.encode(), ["audit-platform drain %"]).fetchall()
        ports = {row[0] for row in rows}
        return {
            each.pid
            for each in psutil.net_connections("tcp")
            if each.pid and each.laddr and each.laddr.port in ports
        }

    def is_stored(self, entity_id: str) -> bool:
        """Whether an event is visible."""
        url = self.settings().database_url_of("maint")
        with connected(url, application="benchmark", role="audit_owner") as connection:
            return connection.execute(STORED.encode(), [entity_id]).fetchone() is not None

    def oldest_s(self) -> float:
        """Age of the oldest entry of the queue; 0 if there is none."""
        settings = self.settings()
        with Backlog(settings.redis_url_of("sensor"), key_prefix=settings.key_prefix) as backlog:
            oldest_ms = backlog.state(0).oldest_ms
        return 0.0 if oldest_ms is None else time.time() - oldest_ms / 1_000


def _drain(platform: RunningPlatform) -> None:
    _kill(platform.drains())


def _drain_and_code_server(platform: RunningPlatform) -> None:
    _kill({*platform.drains(), platform.state().pids["code-server"]})


def _daemon(platform: RunningPlatform) -> None:
    _kill({platform.state().pids["daemon"]})


def _supervisor(platform: RunningPlatform) -> None:
    platform.process.kill()
    platform.process.wait()
    Event().wait(START_AGAIN_S)
    platform.start()


VICTIMS: Final[Mapping[str, Callable[[RunningPlatform], None]]] = {
    "run": _drain,
    "run and code server": _drain_and_code_server,
    "daemon": _daemon,
    "whole platform": _supervisor,
}


def measure(
    *, kills: int, seed: int = SEED, victims: Sequence[str] = tuple(VICTIMS)
) -> list[Figure]:
    """Run the benchmark.

    Args:
        kills: Of each kind.
        seed: Of order and waits.
        victims: Kinds, of `VICTIMS`.
    """
    rng = random.Random(seed)
    order = [victim for victim in victims for _ in range(kills)]
    rng.shuffle(order)
    took: dict[str, list[float]] = {victim: [] for victim in victims}
    with _running() as platform, _load(platform):
        for victim in order:
            _until(lambda: bool(platform.drains()), DEADLINE_S, "a drain run at work")
            Event().wait(rng.uniform(0, SPREAD_S))
            seconds = _recovery_s(platform, VICTIMS[victim])
            print(f"{victim}: {seconds:.1f} s", flush=True)
            took[victim].append(seconds)
    every = [seconds for each in took.values() for seconds in each]
    return [
        *_figures("any kill", every),
        *(figure for victim, seconds in took.items() for figure in _figures(victim, seconds)),
    ]


def _figures(name: str, seconds: Sequence[float]) -> list[Figure]:
    values = {"p50": percentile(seconds, 50), "p95": percentile(seconds, 95), "max": max(seconds)}
    return [
        Figure(
            name=f"recovery after SIGKILL of {name}, {kind}",
            value=value,
            unit="s",
            n=len(seconds),
            note=f"target ≤ {TARGET_S:g} s" if kind == "p95" else "",
        )
        for kind, value in values.items()
    ]


def _recovery_s(platform: RunningPlatform, kill: Callable[[RunningPlatform], None]) -> float:
    began_s, marker = time.monotonic(), f"marker-{uuid4().hex}"
    kill(platform)
    with AuditClient(load_settings(data_dir=platform.data_dir), handle_sigterm=False) as client:
        client.log("benchmark.marker", entity=("benchmark", marker))
        _until(
            lambda: platform.is_stored(marker) and platform.oldest_s() < 1.0,
            DEADLINE_S,
            "an empty queue",
        )
    return time.monotonic() - began_s


@contextmanager
def _running() -> Iterator[RunningPlatform]:
    directory = Path(tempfile.mkdtemp(prefix="audit-bench-"))
    directory.chmod(0o711)  # PostgreSQL runs as another user when root benchmarks
    platform = RunningPlatform(directory / "data")
    try:
        platform.wait_ready()
        yield platform
    finally:
        platform.process.send_signal(signal.SIGTERM)
        platform.process.wait(DEADLINE_S)
        postgres.remove(_cluster(platform.data_dir))
        shutil.rmtree(directory, ignore_errors=True)


def _cluster(data_dir: Path) -> postgres.PostgresConfig:
    return postgres.PostgresConfig(data_dir=data_dir, port=0, password="")


@contextmanager
def _load(platform: RunningPlatform) -> Iterator[None]:
    """Log at a steady rate from a thread, also while nothing answers."""
    ended = Event()
    client = AuditClient(platform.settings(), handle_sigterm=False)

    def work() -> None:
        while not ended.wait(1 / RATE):
            client.log("benchmark.load", entity=("benchmark", "load"))

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        client.close()


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not _holds(condition):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_s:g} s: {what}")
        Event().wait(LOOK_S)


def _holds(condition: Callable[[], bool]) -> bool:
    with suppress(AuditPlatformError, OSError, KeyError):
        return condition()
    return False


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--kills", type=int, default=5, help="of each kind")
    options.add_argument("--victims", nargs="*", default=list(VICTIMS), choices=list(VICTIMS))
    options.add_argument("--seed", type=int, default=SEED)
    given = options.parse_args()
    print(f"seed {given.seed}", flush=True)
    figures = measure(kills=given.kills, seed=given.seed, victims=given.victims)
    report(NAME, figures, keep=given.keep)


if __name__ == "__main__":
    main()
