"""What does one `log()` cost its caller, with Redis and without?

Calls come at a steady 1,000 events/s, from one thread and from four, each timed by itself; then as
fast as one thread can. A `durable` call waits for the disk: these come at half the rate at which
one thread can make them, at most at 1,000 events/s, with the spool on a disk and not in memory.
The yardstick in the same run is what applications do otherwise: the standard library's `logging`
with a `QueueHandler`, the same event encoded as JSON by the caller.
"""

import json
import logging
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path

from audit_platform.client import AuditClient, Durability
from audit_platform.local import redis
from audit_platform.local.ports import any_free_port
from audit_platform.local.redis import RedisConfig, RedisServer
from audit_platform.settings import ClientSettings
from benchmarks.figures import Figure, machine, options_of, percentile, report

NAME = "log_call"
RATE = 1_000
THREADS = (1, 4)
WARM_UP_CALLS = 200
CALIBRATION_CALLS = 200
NOT_WAITING = (Durability.BEST_EFFORT, Durability.STANDARD)
DISK = Path("/var/tmp")  # noqa: S108 - kept across starts by the standard, so on a disk
TARGET = "target ≤ 50 us p99"

Call = Callable[[int], object]


def measure(*, seconds: float) -> list[Figure]:
    """Run every scenario, with Redis and without.

    Args:
        seconds: Length of each scenario.
    """
    figures: list[Figure] = []
    with running_redis() as server:
        url = server.config.url("producer")
        with _queue_logging() as call:
            figures += _scenarios("logging + JSON", call, seconds)
        for durability in NOT_WAITING:
            with _client(url) as client:
                figures += _scenarios(durability, call_of(client, durability), seconds)
        with _client(url) as client:
            figures += [_max_rate(client, seconds)]
        with _client(url) as client:
            figures += _durable(client, "durable", seconds)
        server.stop()
        with _client(url) as client:
            figures += _scenarios("standard, Redis stopped", call_of(client), seconds)
        with _client(url) as client:
            figures += _durable(client, "durable, Redis stopped", seconds)
    return figures


def _scenarios(name: str, call: Call, seconds: float, rate: float = RATE) -> list[Figure]:
    figures: list[Figure] = []
    for threads in THREADS:
        took_us = _steady(call, threads=threads, seconds=seconds, rate=rate)
        label = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
        figures += _percentiles(label, took_us, _note(name, rate))
    return figures


def _durable(client: AuditClient, name: str, seconds: float) -> list[Figure]:
    """Find the rate that the disk sustains, then measure at half of it, at most at `RATE`."""
    call = call_of(client, Durability.DURABLE)
    begin = time.perf_counter()
    for number in range(CALIBRATION_CALLS):
        call(number)
    alone = CALIBRATION_CALLS / (time.perf_counter() - begin)
    return _scenarios(name, call, seconds, rate=min(RATE, alone / 2))


def _note(name: str, rate: float) -> str:
    if name.startswith("durable"):
        return f"target ≤ 10 ms p99; at {rate:,.0f} events/s"
    return TARGET if name.startswith("standard") else ""


def _percentiles(label: str, took_us: Sequence[float], note: str) -> list[Figure]:
    ordered = sorted(took_us)
    worst_of_1000 = ordered[int(len(ordered) * 0.999)]
    figures = [
        (f"{label}, p50", percentile(ordered, 50), ""),
        (f"{label}, p99", percentile(ordered, 99), note),
        (f"{label}, p99.9", worst_of_1000, ""),
    ]
    return [
        Figure(name=name, value=value, unit="us", n=len(ordered), note=text)
        for name, value, text in figures
    ]


def _steady(call: Call, *, threads: int, seconds: float, rate: float) -> list[float]:
    """Call at `rate` from all threads together; returns microseconds per call."""
    took_us: list[list[float]] = [[] for _ in range(threads)]

    def work(position: int) -> None:
        mine = took_us[position]
        pause, period_s = threading.Event(), threads / rate
        calls = int(seconds * rate / threads) + WARM_UP_CALLS
        # In turn: four threads that wake in the same microsecond would measure each other's wake.
        next_at = time.perf_counter() + position / rate
        for number in range(calls):
            next_at += period_s
            pause.wait(max(0.0, next_at - time.perf_counter()))
            begin = time.perf_counter_ns()
            call(number)
            mine.append((time.perf_counter_ns() - begin) / 1000)
        del mine[:WARM_UP_CALLS]

    _run_all([threading.Thread(target=work, args=(position,)) for position in range(threads)])
    return [value for mine in took_us for value in mine]


def _max_rate(client: AuditClient, seconds: float) -> Figure:
    """Call without pause; what the sender could not keep up with is named, not hidden."""
    call = call_of(client)
    begin = time.perf_counter()
    calls = 0
    while time.perf_counter() - begin < seconds:
        for _ in range(100):
            call(calls)
        calls += 100
    elapsed_s = time.perf_counter() - begin
    return Figure(
        name="standard, one thread without pause",
        value=calls / elapsed_s,
        unit="calls/s",
        n=calls,
        note=f"target ≥ 50,000; {client.stats().dropped_total:,} dropped, buffer full",
    )


def _run_all(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def call_of(client: AuditClient, durability: Durability = Durability.STANDARD) -> Call:
    """A call with a believable event of this class."""

    def call(number: int) -> None:
        client.log(
            "order.update",
            entity=("order", f"A-{number}"),
            user_id="7",
            changes={"status": {"old": "open", "new": "paid"}},
            metadata={"amount": 12.5, "currency": "EUR", "lines": 3},
            durability=durability,
        )

    return call


@contextmanager
def _queue_logging() -> Iterator[Call]:
    """The standard library's way: JSON in the caller, a queue, a thread that swallows it."""
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    logger = logging.Logger("benchmark")  # noqa: LOG001 - outside the tree: no other handler
    logger.addHandler(QueueHandler(records))
    listener = QueueListener(records, logging.NullHandler())
    listener.start()
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def call(number: int) -> None:
        event = {
            "action": "order.update",
            "entity_type": "order",
            "entity_id": f"A-{number}",
            "user_id": "7",
            "changes": {"status": {"old": "open", "new": "paid"}},
            "metadata": {"amount": 12.5, "currency": "EUR", "lines": 3},
        }
        logger.info(encode(event))

    yield call
    listener.stop()


@contextmanager
def _client(url: str) -> Iterator[AuditClient]:
    # Not below /tmp, which is memory on many systems.
    with tempfile.TemporaryDirectory(prefix="audit-bench-", dir=DISK) as spool:
        settings = ClientSettings(redis_url=url, close_timeout_s=0.5, spool_dir=Path(spool))
        client = AuditClient(settings, handle_sigterm=False)
        yield client
        client.close()


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """One Redis with an append-only file, empty, for one block."""
    with tempfile.TemporaryDirectory(prefix="audit-bench-") as folder:
        config = RedisConfig(
            data_dir=Path(folder), port=any_free_port(), passwords=redis.new_passwords()
        )
        server = RedisServer(config)
        server.start()
        yield server
        server.stop()


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    given = options.parse_args()
    figures = measure(seconds=given.seconds)
    report(NAME, figures, keep=given.keep)
    if given.json:
        content = {"machine": machine(), "figures": [asdict(figure) for figure in figures]}
        given.json.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
