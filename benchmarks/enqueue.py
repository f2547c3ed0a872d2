"""How many events per second does a producer get into Redis?

`log()` in a loop, without a drain: from the first call until Redis has acknowledged every event,
which is what `flush()` waits for. The loop pauses while the client's buffer is nearly full, so
that nothing is dropped. The yardsticks in the same run send ready-made events by `XADD`, one entry
per event, as a program without the SDK does: one at a time, and a thousand per round trip.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import redis

from audit_platform.client import AuditClient
from audit_platform.events.redis_edge import stream_key
from audit_platform.local.redis import RedisServer
from audit_platform.settings import ClientSettings
from benchmarks.backlog import make_events
from benchmarks.figures import Figure, options_of, report
from benchmarks.log_call import DISK, call_of, running_redis
from benchmarks.ratios import ENQUEUE, XADD_ALONE, XADD_PIPELINED, ratios_among

NAME = "enqueue"
PREFIX: Final = "audit"
LOOK_EVERY: Final = 2_000
PIPELINED: Final = 1_000
FLUSH_TIMEOUT_S: Final = 120.0


def measure(*, events: int, rounds: int) -> list[Figure]:
    """Run the benchmark.

    Args:
        events: Events of each round; a fifth of it one at a time.
        rounds: Rounds of each kind, in turn.
    """
    made = make_events(events)
    few = made[: max(1, events // 5)]
    rates: dict[str, list[float]] = {ENQUEUE: [], XADD_PIPELINED: [], XADD_ALONE: []}
    with (
        running_redis() as server,
        TemporaryDirectory(prefix="audit-bench-", dir=DISK) as folder,
    ):
        for number in range(rounds):
            spool = Path(folder) / str(number)
            rates[ENQUEUE].append(_log_all(server, spool, events))
            rates[XADD_PIPELINED].append(_xadd(server, made, PIPELINED))
            rates[XADD_ALONE].append(_xadd(server, few, 1))
    return [
        _figure(ENQUEUE, rates[ENQUEUE], events),
        _figure(XADD_PIPELINED, rates[XADD_PIPELINED], events),
        _figure(XADD_ALONE, rates[XADD_ALONE], len(few)),
    ]


def _log_all(server: RedisServer, spool: Path, events: int) -> float:
    """Log all; what nobody confirms and exceeds the resend window also goes to the spool."""
    _clear(server)
    settings = ClientSettings(redis_url=server.config.url("producer"), spool_dir=spool)
    client = AuditClient(settings, handle_sigterm=False)
    call, pause = call_of(client), threading.Event()
    most = settings.buffer_events - LOOK_EVERY
    begin = time.perf_counter()
    for number in range(events):
        call(number)
        if number % LOOK_EVERY == 0:
            while client.stats().buffered > most:
                pause.wait(0.001)
    is_sent = client.flush(FLUSH_TIMEOUT_S)
    elapsed_s = time.perf_counter() - begin
    stats = client.stats()
    client.close()
    if not is_sent or stats.sent != events:
        raise RuntimeError(f"{stats.sent} of {events} events sent: the figure would mean nothing")
    return events / elapsed_s


def _xadd(server: RedisServer, events: Sequence[bytes], at_once: int) -> float:
    _clear(server)
    client = redis.Redis.from_url(server.config.url("producer"), lib_name=None, lib_version=None)
    key = stream_key(PREFIX, 0)
    send = _one_by_one(client, key) if at_once == 1 else _pipelined(client, key)
    client.ping()
    begin = time.perf_counter()
    for start in range(0, len(events), at_once):
        send(events[start : start + at_once])
    elapsed_s = time.perf_counter() - begin
    client.close()
    return len(events) / elapsed_s


def _one_by_one(client: redis.Redis, key: str) -> Callable[[Sequence[bytes]], None]:
    def send(events: Sequence[bytes]) -> None:
        for event in events:
            client.xadd(key, {"event": event})

    return send


def _pipelined(client: redis.Redis, key: str) -> Callable[[Sequence[bytes]], None]:
    def send(events: Sequence[bytes]) -> None:
        pipe = client.pipeline(transaction=False)
        for event in events:
            pipe.xadd(key, {"event": event})
        pipe.execute()

    return send


def _clear(server: RedisServer) -> None:
    client = redis.Redis.from_url(server.config.url("admin"))
    client.flushall()
    client.close()


def _figure(name: str, rates: Sequence[float], n: int) -> Figure:
    spread = f"median of {len(rates)}; {min(rates):,.0f} to {max(rates):,.0f}"
    return Figure(name=name, value=median(rates), unit="events/s", n=n, note=spread)


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--events", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    figures = measure(events=given.events, rounds=given.rounds)
    report(NAME, figures, keep=given.keep, ratios=ratios_among(figures))


if __name__ == "__main__":
    main()
