"""The real stack under kills: `audit-platform up` as a user starts it, producers beside it.

Here: starting it on ports that stay, finding its processes, killing them. Not here: the loop
(`test_platform_sweep.py`), rules (`oracle.py`).
Guarantee: a kill counts only when the process that was there before is gone afterwards.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event
from typing import Any, Final

import psutil
import psycopg

from audit_platform.local.platform_secrets import SECRETS_FILE
from audit_platform.local.platform_state import read_state
from audit_platform.local.ports import any_free_port
from audit_platform.local.processes import marked_processes
from audit_platform.settings import environment_for_child, load_settings
from tests.chaos.harness.fast_stack import CLASSES
from tests.chaos.harness.kept import Kept
from tests.chaos.harness.reader import Reader
from tests.chaos.harness.recovery import Recoveries
from tests.chaos.harness.services import plain
from tests.chaos.harness.site import Site
from tests.conftest import POSTGRES_VERSION

PROGRAM: Final = Path(sysconfig.get_path("scripts")) / "audit-platform"
READY_S: Final = 120.0
GONE_S: Final = 30.0
_DRAINING: Final = (
    "select client_port from pg_stat_activity where usename = 'audit_writer' and state is not null"
)


@dataclass(slots=True, kw_only=True)
class PlatformStack:
    """A running platform and the processes that log to it."""

    data_dir: Path
    environment: dict[str, str] = field(repr=False)
    random: Random
    process: "subprocess.Popen[bytes]" = field(init=False)
    producers: list[Kept] = field(default_factory=list[Kept])
    starts: int = 0

    @property
    def log(self) -> Path:
        """What `up` prints, over all starts."""
        return self.data_dir.with_name("up.txt")

    def up(self) -> None:
        """Start the platform and wait until it is ready."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                (PROGRAM, "up", "--data-dir", self.data_dir),
                stdout=output,
                stderr=output,
                env=self.environment,
            )
        self.starts += 1
        eventually(
            lambda: self.process.poll() is not None or self._ready_count() >= self.starts,
            within_s=READY_S,
            what="a ready platform",
        )
        assert self.process.poll() is None, self.log.read_text()[-3000:]

    def _ready_count(self) -> int:
        return len(re.findall(r"Ready after", self.log.read_text()))

    @property
    def site(self) -> Site:
        """What the oracle needs, as administrator."""
        secrets: Any = json.loads((self.data_dir / SECRETS_FILE).read_text())
        state = read_state(self.data_dir)
        assert state is not None
        postgres, redis = (state.ports[name] for name in ("postgres", "redis"))
        admin, queue = secrets["database"]["admin"], secrets["redis"]["admin"]
        return Site(
            database_url=f"postgresql://audit_admin:{admin}@127.0.0.1:{postgres}/audit",
            redis_url=f"redis://admin:{queue}@127.0.0.1:{redis}/0",
            dead_letter_key=secrets["dead_letter_key"],
            key_prefix="audit",
            histories=self.data_dir.with_name("histories"),
        )

    def add_producers(self, count: int, *, seed: int, rate: float) -> None:
        """Start producers that find the platform as applications do."""
        settings = load_settings(data_dir=self.data_dir)
        for number in range(count):
            name = f"application-{number}"
            config = {
                "settings": plain(settings) | {"producer_name": name},
                "histories": str(self.site.histories),
                "seed": seed,
                "rate": rate,
                "classes": dict(CLASSES),
            }
            kept = Kept(
                "producer_process", name=name, directory=self.data_dir.parent, config=config
            )
            kept.begin()
            self.producers.append(kept)

    def run_workers(self) -> list[psutil.Process]:
        """Processes that hold a writer's connection, found by their end of it."""
        with suppress(psycopg.Error, psutil.Error):
            ports = {row[0] for row in self.site.ask(_DRAINING)}
            found = {
                connection.pid
                for connection in psutil.net_connections("tcp")
                if connection.pid and connection.laddr and connection.laddr.port in ports
            }
            return [psutil.Process(pid) for pid in sorted(found)]
        return []

    def service(self, name: str) -> list[psutil.Process]:
        """A process of the supervisor by its name; none while it is not there."""
        state = read_state(self.data_dir)
        with suppress(psutil.Error, KeyError):
            if state is not None:
                return [psutil.Process(state.pids[name])]
        return []

    def second_daemon(self) -> "subprocess.Popen[bytes]":
        """Start another daemon on the same Dagster home (F13), as the first was started."""
        (daemon,) = self.service("daemon")
        with self.data_dir.with_name("second-daemon.log").open("ab") as output:
            return subprocess.Popen(
                daemon.cmdline(),
                env=daemon.environ(),
                cwd=daemon.cwd(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def launched_runs(self) -> int:
        """Ingest runs that Dagster knows of; those that found the lease held are among them."""
        url = load_settings(data_dir=self.data_dir).database_url_of("dagster")
        with psycopg.connect(url) as connection:
            row = connection.execute(
                b"select count(*) from runs where pipeline_name like 'ingest%'"
            ).fetchone()
        assert row is not None
        return int(row[0])

    def all_processes(self) -> list[psutil.Process]:
        """The supervisor and everything that carries its mark."""
        marked = marked_processes(str(self.data_dir.resolve()))
        return [psutil.Process(self.process.pid), *marked]

    def restart(self) -> None:
        """After the supervisor died: wait until its guardian has cleared up, then start again."""
        self.process.wait(GONE_S)
        eventually(
            lambda: not marked_processes(str(self.data_dir.resolve())),
            within_s=GONE_S,
            what="the end of all processes",
        )
        self.up()


def kill(processes: Sequence[psutil.Process]) -> int:
    """SIGKILL processes; returns how many of them are gone."""
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(list(processes), timeout=10)
    return len(processes) - len(alive)


def eventually(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Poll until true.

    Raises:
        AssertionError: Time is over; names what did not come.
    """
    deadline_s, pause = time.monotonic() + within_s, Event()
    while not condition():
        assert time.monotonic() < deadline_s, f"no {what} within {within_s:g} s"
        pause.wait(0.1)


@contextmanager
def platform_stack(*, seed: int, producers: int, rate: float) -> Iterator[PlatformStack]:
    """Start the platform and its applications; remove everything afterwards."""
    parent = Path(tempfile.mkdtemp(prefix="audit-platform-chaos-"))
    parent.chmod(0o711)
    ports = {name: str(any_free_port()) for name in ("POSTGRES", "REDIS", "WEBSERVER")}
    stack = PlatformStack(
        data_dir=parent / "data",
        environment=environment_for_child(
            AUDIT_POSTGRES_VERSION=str(POSTGRES_VERSION),
            **{f"AUDIT_{name}_PORT": port for name, port in ports.items()},
        ),
        random=Random(seed),
    )
    try:
        stack.up()
        stack.add_producers(producers, seed=seed, rate=rate)
        yield stack
    finally:
        for kept in stack.producers:
            kept.discard()
        with suppress(psutil.Error, ProcessLookupError):
            kill(stack.all_processes())
        with suppress(subprocess.TimeoutExpired):
            stack.process.wait(GONE_S)
        shutil.rmtree(parent, ignore_errors=True)
        _remove_cluster(stack.data_dir)


def _remove_cluster(data_dir: Path) -> None:
    """The cluster may lie elsewhere when root runs the tests; nothing is left of it."""
    for pointer in data_dir.glob("*.elsewhere"):
        shutil.rmtree(pointer.read_text().strip(), ignore_errors=True)


@contextmanager
def watched(stack: PlatformStack) -> Iterator[tuple[Reader, Recoveries]]:
    """Read and time recoveries during a block."""
    reader = Reader(stack.site.database_url)
    recoveries = Recoveries(stack.site, reader.newest_ms)
    reader.start()
    recoveries.start()
    try:
        eventually(lambda: reader.newest_ms() > 0, within_s=READY_S, what="a first visible event")
        yield reader, recoveries
    finally:
        recoveries.stop()


def exists(process: psutil.Process) -> bool:
    """Whether this very process lives."""
    with suppress(psutil.Error, OSError):
        return process.is_running() and process.pid != os.getpid()
    return False
