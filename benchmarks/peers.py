"""How fast do two peers store the same rows: a BullMQ and TypeORM processor, and Django?

Each writes the same events into `audit.event` itself, on the same PostgreSQL and Redis, with the
same durability settings; so partitions, indexes and constraints are the same. Our drain of these
events is measured before, between and after. The programs are in `peer_programs/`; what they
need is installed below the user's cache directory, never in the work tree. Where node, npm or a
package registry is missing, the figures of that peer are left out, and the reason is printed.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import redis

from benchmarks.backlog import SEED, make_events, put_batches
from benchmarks.drain_rate import drain_rate
from benchmarks.figures import Figure, options_of, report
from benchmarks.peer_setup import PROGRAMS, SetupFailed, django_python, node_program
from benchmarks.ratios import BEST_BULLMQ, BEST_DJANGO, PEER_YARDSTICK, ratios_among
from benchmarks.stack import Stack, running_stack

NAME = "peers"
AT_ONCE: Final = 500
DJANGO_BATCHES: Final = (50, 500, 5_000)
ID_BY_DATABASE: Final = b"alter table audit.event alter column id set default gen_random_uuid()"
ID_BY_PRODUCER: Final = b"alter table audit.event alter column id drop default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How the BullMQ processor runs.

    Attributes:
        batch: Events per write.
        concurrency: Jobs in work at the same time, per process.
        processes: Worker processes.
        is_insert: `insert()` instead of `save()`, which the document uses.
        note: What is special.
    """

    batch: int
    concurrency: int = 1
    processes: int = 1
    is_insert: bool = False
    note: str = ""

    @property
    def label(self) -> str:
        """Its name in the table."""
        write = "insert()" if self.is_insert else "save()"
        return (
            f"BullMQ + TypeORM {write}, batch {self.batch}, concurrency {self.concurrency}"
            f"{f', {self.processes} processes' if self.processes > 1 else ''}"
        )


SETTINGS: Final = (
    Setting(batch=50, note="as its document describes it"),
    Setting(batch=500, note="as its document, larger batch"),
    Setting(batch=500, concurrency=50),
    Setting(batch=500, concurrency=50, is_insert=True),
    Setting(batch=1_000, concurrency=500, is_insert=True),
    Setting(batch=1_000, concurrency=500, processes=2, is_insert=True),
)


def measure(*, events: int) -> list[Figure]:
    """Run the benchmark.

    Args:
        events: Rows that each setting stores.
    """
    made = make_events(events, seed=SEED)
    with (
        running_stack(drain_idle_s=1) as stack,
        TemporaryDirectory(prefix="audit-bench-") as folder,
    ):
        file = Path(folder) / "events"
        file.write_bytes(b"\n".join(made) + b"\n")
        ours = [drain_rate(stack, put_batches, made)]
        figures = _bullmq(stack, file, events)
        ours.append(drain_rate(stack, put_batches, made))
        figures += _django(stack, file, events)
        ours.append(drain_rate(stack, put_batches, made))
    spread = f"median of {len(ours)}; {min(ours):,.0f} to {max(ours):,.0f}"
    yardstick = Figure(
        name=PEER_YARDSTICK, value=median(ours), unit="rows/s", n=events, note=spread
    )
    return [yardstick, *figures]


def _bullmq(stack: Stack, file: Path, events: int) -> list[Figure]:
    try:
        program = node_program()
    except SetupFailed as exc:
        print(f"BullMQ + TypeORM left out: {exc}", flush=True)
        return []
    peer = BullMq(stack=stack, file=file, events=events, command=("node", str(program)))
    # TypeORM's `save()` takes generated ids, or asks for each row first whether it exists.
    stack.connection.execute(ID_BY_DATABASE)
    note = f"{AT_ONCE} jobs at once, one process"
    figures = [
        _figure("BullMQ enqueue, add()", peer.enqueue(is_bulk=False), events, note, "jobs/s"),
        _figure("BullMQ enqueue, addBulk()", peer.enqueue(is_bulk=True), events, note, "jobs/s"),
    ]
    processed = [
        _figure(setting.label, peer.process(setting), events, setting.note) for setting in SETTINGS
    ]
    stack.connection.execute(ID_BY_PRODUCER)
    return [*figures, *processed, _best(BEST_BULLMQ, processed)]


def _django(stack: Stack, file: Path, events: int) -> list[Figure]:
    try:
        python = django_python()
    except SetupFailed as exc:
        print(f"Django left out: {exc}", flush=True)
        return []
    command = (str(python), str(PROGRAMS / "django_bulk.py"))
    figures: list[Figure] = []
    for batch in DJANGO_BATCHES:
        stack.empty()
        order = {"database_url": stack.admin_url, "events": str(file), "batch": batch}
        elapsed_s = _run([command], order)
        _check(stack, events)
        name = f"Django bulk_create(), batch {batch:,}"
        figures.append(_figure(name, events / elapsed_s, events, "reads a file, no queue"))
    return [*figures, _best(BEST_DJANGO, figures)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BullMq:
    """The queue and its workers, as separate programs."""

    stack: Stack
    file: Path
    events: int
    command: tuple[str, ...]

    def enqueue(self, *, is_bulk: bool) -> float:
        """Put all events into an empty queue; returns jobs per second."""
        client = redis.Redis.from_url(self._redis_url)
        client.flushdb()
        client.close()
        order = self._order(command="enqueue", is_bulk=is_bulk, at_once=AT_ONCE)
        return self.events / _run([self.command], order)

    def process(self, setting: Setting) -> float:
        """Store a full queue; returns rows per second from the first worker's start."""
        self.enqueue(is_bulk=True)
        self.stack.empty()
        order = self._order(
            command="process",
            batch=setting.batch,
            concurrency=setting.concurrency,
            is_insert=setting.is_insert,
            events_expected=self.events,
        )
        elapsed_s = _run([self.command] * setting.processes, order)
        _check(self.stack, self.events)
        return self.events / elapsed_s

    @property
    def _redis_url(self) -> str:
        # A database of its own on the same server: emptied without touching our stream.
        return self.stack.redis_admin_url.removesuffix("/0") + "/1"

    def _order(self, **more: object) -> dict[str, object]:
        return {
            "redis_url": self._redis_url,
            "database_url": self.stack.admin_url,
            "events": str(self.file),
            **more,
        }


def _run(commands: Sequence[Sequence[str]], order: Mapping[str, object]) -> float:
    """Run programs with one order; returns seconds from the first begin to the first end.

    Raises:
        RuntimeError: All ended without having reached the end.
    """
    # One pipe for all: a line is written as a whole.
    reading, writing = os.pipe()
    programs: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=writing, text=True)
            programs.append(program)
            assert program.stdin  # noqa: S101 - asked for above
            with program.stdin as orders:
                json.dump(order, orders)
        os.close(writing)
        begins: list[float] = []
        with open(reading, encoding="utf-8") as lines:  # noqa: PTH123 - a pipe
            for line in lines:
                reported = json.loads(line)
                if "end_ms" in reported:
                    return (reported["end_ms"] - min(begins)) / 1000
                begins.append(reported["begin_ms"])
        raise RuntimeError(f"{commands[0][0]} ended early: the figure would mean nothing")
    finally:
        for program in programs:
            program.terminate()
            program.wait(timeout=60)


def _check(stack: Stack, events: int) -> None:
    row = stack.connection.execute(b"select count(*) from audit.event").fetchone()
    if row is None or row[0] != events:
        raise RuntimeError(f"{row} of {events} rows stored: the figure would mean nothing")


def _best(name: str, figures: Sequence[Figure]) -> Figure:
    best = max(figures, key=lambda figure: figure.value)
    return Figure(name=name, value=best.value, unit=best.unit, n=best.n, note=best.name)


def _figure(name: str, rate: float, events: int, note: str, unit: str = "rows/s") -> Figure:
    return Figure(name=name, value=rate, unit=unit, n=events, note=note)


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--events", type=int, default=300_000)
    given = options.parse_args()
    figures = measure(events=given.events)
    report(NAME, figures, keep=given.keep, ratios=ratios_among(figures))


if __name__ == "__main__":
    main()
