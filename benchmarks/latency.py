"""How long from `log()` to a row that another connection sees, while a drain run is active?

One process logs at a steady rate, one drains, this one watches the ledger: a batch is visible
when its row is. The latency of an event runs from the return of its `log()` to the first look
at which its batch was visible; the watcher looks every 5 ms.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from audit_platform.client import AuditClient
from audit_platform.db.pool import connected
from audit_platform.events.drain import run_drain
from audit_platform.events.lease import request_stop
from audit_platform.settings import Settings
from benchmarks.figures import Figure, options_of, percentile, report
from benchmarks.stack import Stack, running_stack

NAME = "latency"
RATES = (100, 1_000, 20_000)
SHORTEST_PAUSE_S = 0.002
"""Above 500 events/s the producer logs in bursts: a wait for each would cost more than `log()`."""
BUFFER_EVENTS = 100_000
"""Five seconds of the highest rate: a stall is to be seen as latency, not as a drop."""
LOOK_S = 0.005
WARM_UP_S = 2.0
DEADLINE_S = 60.0
UNSEEN = "select batch_id from audit.ingest_batch where batch_id <> all (%s)"
BATCH_OF = "select entity_id, batch_id from audit.event where entity_type = 'benchmark'"


def measure(*, seconds: float, rates: Sequence[int] = RATES) -> list[Figure]:
    """Run the benchmark at each rate.

    Args:
        seconds: Length of each, without the warm-up.
        rates: Events per second.
    """
    figures: list[Figure] = []
    with (
        running_stack(buffer_events=BUFFER_EVENTS) as stack,
        TemporaryDirectory(prefix="audit-bench-") as folder,
    ):
        for rate in rates:
            stack.empty()
            with draining(stack):
                waits, offered = _waits(stack, Path(folder) / f"accepted-{rate}", rate, seconds)
            figures += _figures(waits, rate, offered)
    return figures


def _figures(waits: Sequence[float], rate: int, offered: float) -> list[Figure]:
    name = f"accepted → visible at {rate:,} events/s"
    note = f"target ≤ 1 s p99; {offered:,.0f} events/s were logged"
    return [
        Figure(name=f"{name}, p50", value=percentile(waits, 50) * 1000, unit="ms", n=len(waits)),
        Figure(
            name=f"{name}, p99",
            value=percentile(waits, 99) * 1000,
            unit="ms",
            n=len(waits),
            note=note,
        ),
    ]


@contextmanager
def draining(stack: Stack) -> Iterator[None]:
    """Drain in a process of its own for one block."""
    process = get_context("spawn").Process(target=drain, args=(stack.settings,))
    process.start()
    try:
        yield
    finally:
        with connected(
            stack.settings.database_url_of("writer"), application="benchmark"
        ) as connection:
            request_stop(connection)
        process.join(DEADLINE_S)


def drain(settings: Settings) -> None:
    """Drain until asked to stop; runs in a process of its own."""
    run_drain(settings, shard=0, run_id="benchmark", dead_run_id=None, report=lambda _report: None)


def produce(settings: Settings, path: str, rate: int, seconds: float) -> None:
    """Log at a steady rate and write number and time of each; runs in a process of its own.

    Open loop: what a slow call delayed is logged at once afterwards, so that the rate is kept.
    """
    client = AuditClient(settings)
    accepted: list[tuple[int, float]] = []
    pause = Event()
    started_at, total = time.time(), int(rate * seconds)
    while len(accepted) < total:
        due = min(total, int((time.time() - started_at) * rate) + 1)
        for number in range(len(accepted), due):
            client.log(
                "benchmark.tick", entity=("benchmark", str(number)), metadata={"number": number}
            )
            accepted.append((number, time.time()))
        pause.wait(max(SHORTEST_PAUSE_S, started_at + due / rate - time.time()))
    client.close()
    Path(path).write_text("".join(f"{number} {moment}\n" for number, moment in accepted))


def _waits(stack: Stack, path: Path, rate: int, seconds: float) -> tuple[list[float], float]:
    """Latency of each event after the warm-up, and the rate that the producer reached."""
    producer = get_context("spawn").Process(
        target=produce, args=(stack.settings, str(path), rate, seconds + WARM_UP_S)
    )
    producer.start()
    seen = _watch(stack, producer, expected=int(rate * (seconds + WARM_UP_S)))
    lines = (line.split() for line in path.read_text().splitlines())
    accepted = {number: float(moment) for number, moment in lines}
    began_at, ended_at = min(accepted.values()), max(accepted.values())
    rows = stack.connection.execute(BATCH_OF.encode()).fetchall()
    waits = [
        seen[batch_id] - accepted[number]
        for number, batch_id in rows
        if accepted[number] >= began_at + WARM_UP_S
    ]
    return waits, len(accepted) / (ended_at - began_at)


def _watch(stack: Stack, producer: BaseProcess, *, expected: int) -> dict[object, float]:
    """Note when each batch became visible, until everything expected is stored."""
    seen: dict[object, float] = {}
    pause = Event()
    deadline = time.monotonic() + DEADLINE_S + expected / 50
    while time.monotonic() < deadline:
        rows = stack.connection.execute(UNSEEN.encode(), [list(seen)]).fetchall()
        seen |= dict.fromkeys((row[0] for row in rows), time.time())
        if not rows and not producer.is_alive() and _stored_count(stack) >= expected:
            return seen
        pause.wait(LOOK_S)
    raise RuntimeError(f"{_stored_count(stack)} of {expected} events stored in time")


def _stored_count(stack: Stack) -> int:
    row = stack.connection.execute(
        b"select coalesce(sum(n_new), 0) from audit.ingest_batch"
    ).fetchone()
    return int(row[0]) if row else 0


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--seconds", type=float, default=20)
    given = options.parse_args()
    figures = measure(seconds=given.seconds)
    report(NAME, figures, keep=given.keep)


if __name__ == "__main__":
    main()
