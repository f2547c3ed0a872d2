"""Does a small Redis hold when a producer is twice as fast as the drain, and who loses what?

Redis has 64 MB. Every batch of the drain waits in the database, so that its rate is known; one
process logs twice that rate in all three durability classes. Redis' memory is watched meanwhile.
Then the drain gets its speed back, the producer sends what waits on its disk, and rows are compared
with calls: nothing of `standard` and `durable` may be missing, and what is missing of `best_effort`
must be exactly what the producer declared as lost.

That overload really happened is part of the result: without shedding and spilling the bytes that
were logged and not stored would not have fit.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, Final

from audit_platform.client import AuditClient
from audit_platform.errors import AuditUnavailable
from audit_platform.events.backlog import Inspector
from audit_platform.events.policy import Durability
from audit_platform.settings import Settings
from benchmarks.figures import Figure, options_of, report
from benchmarks.latency import draining
from benchmarks.stack import Stack, running_stack

NAME = "redis_bounded"
MIB: Final = 1 << 20
BATCH_ROWS: Final = 500
BATCH_S: Final = 1.0
DRAIN_RATE: Final = BATCH_ROWS / BATCH_S
"""Events per second that the slowed drain stores at most."""
FASTER: Final = 2.0
DURABLE_RATE: Final = 50.0
PADDING: Final = "x" * 6_000
# Of ten events: six standard, four best_effort; durable ones come from a thread of their own.
BEST_EFFORT_OF_TEN: Final = 4
SETTLE_S: Final = 240.0
LOOK_S: Final = 0.1
# Redis counts buffers of its connections and of the append-only file, and lets one command pass.
ALLOWED_OVER: Final = 1.1
SLOW: Final = (
    "create function public.slow_down() returns trigger language plpgsql as "
    f"'begin perform pg_sleep({BATCH_S}); return null; end';"
    "create trigger slow_down after insert on audit.ingest_batch for each row "
    "execute function public.slow_down()"
)
FAST: Final = "drop function public.slow_down cascade"
STORED: Final = (
    "select entity_type, entity_id, count(*) from audit.event where action = 'benchmark.tick' "
    "group by entity_type, entity_id"
)
LOST: Final = """
with u as (
  select producer_id, epoch, kind, r from audit.ingest_range
  union all select producer_id, epoch, 'got', got from audit.producer_progress
  union all select producer_id, epoch, 'declared', declared from audit.producer_progress),
g as (
  select coalesce(range_agg(r) filter (where kind = 'got'), '{}') as got,
    coalesce(range_agg(r) filter (where kind = 'declared'), '{}') as declared
  from u group by producer_id, epoch),
h as (
  select declared - got as lost, declared as announced,
    int8multirange(int8range(1, upper(got + declared))) - (got + declared) as gaps from g)
select coalesce(sum((select sum(upper(x) - lower(x)) from unnest(lost) x)), 0)::bigint,
  coalesce(sum((select sum(upper(x) - lower(x)) from unnest(gaps) x)), 0)::bigint,
  coalesce(sum((select sum(upper(x) - lower(x)) from unnest(announced) x)), 0)::bigint from h
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """What the producer did.

    Attributes:
        accepted: Calls by durability class that were taken.
        refused: `durable` calls that raised.
        dropped: Accepted events given up, by the client's own count, by reason and class.
        highest_level: Of the overload levels it saw.
        most_spooled: Bytes of its spool at most.
        seconds: How long it logged.
        longest_call_ms: Slowest call that is not `durable`.
        is_settled: Whether everything it kept was confirmed at the end.
    """

    accepted: Mapping[str, int]
    refused: int
    dropped: Mapping[str, int]
    highest_level: int
    most_spooled: int
    seconds: float
    longest_call_ms: float
    is_settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it.

    Attributes:
        missing: Accepted calls without a row, by durability class.
        duplicated: Rows beyond one per call.
        declared: Numbers that the producer declared lost and that are not stored.
        announced: All numbers that it declared lost; an entry that a full Redis took before it
            refused the next one may have been given up afterwards, and is stored all the same.
        gaps: Numbers that nobody accounts for.
        most_memory: Largest `used_memory` of Redis.
        limit: Its `maxmemory`.
        unstored_bytes: Least bytes that were logged and not stored when the logging ended.
    """

    produced: Produced
    missing: Mapping[str, int]
    duplicated: int
    declared: int
    announced: int
    gaps: int
    most_memory: int
    limit: int
    unstored_bytes: int


def measure(*, seconds: float, maxmemory_bytes: int = 64 * MIB) -> list[Figure]:
    """Run the benchmark.

    Args:
        seconds: How long the producer is too fast.
        maxmemory_bytes: Limit of Redis.
    """
    found = run(seconds=seconds, maxmemory_bytes=maxmemory_bytes)
    made, accepted = found.produced, found.produced.accepted
    limit_mib = found.limit / MIB
    kept = accepted["standard"] + accepted["durable"]
    return [
        Figure(
            name="Redis memory at twice the drain's rate, most",
            value=found.most_memory / MIB,
            unit="MiB",
            n=sum(accepted.values()),
            note=f"limit {limit_mib:g} MiB, {found.unstored_bytes / MIB:.0f} MiB were not stored",
        ),
        Figure(
            name="standard and durable lost under overload",
            value=found.missing["standard"] + found.missing["durable"],
            unit="events",
            n=kept,
            note=f"bound {3 / kept:.1e}; spool {made.most_spooled / MIB:.0f} MiB at most",
        ),
        Figure(
            name="best_effort dropped under overload",
            value=found.missing["best_effort"],
            unit="events",
            n=accepted["best_effort"],
            note=f"declared {found.declared}, gaps {found.gaps}, level {made.highest_level}",
        ),
        Figure(
            name="slowest log() under overload, not durable",
            value=made.longest_call_ms,
            unit="ms",
            n=accepted["standard"] + accepted["best_effort"],
        ),
    ]


def run(*, seconds: float, maxmemory_bytes: int, **overrides: object) -> Outcome:
    """Overload a stack of its own and look at what is left.

    Args:
        seconds: How long the producer is too fast.
        maxmemory_bytes: Limit of Redis.
        **overrides: Settings that the caller wants different.
    """
    settings: dict[str, object] = {
        "redis_maxmemory_bytes": maxmemory_bytes,
        "drain_batch_rows": BATCH_ROWS,
        "drain_connections": 1,
        # Half a second a batch is the load, not a fault: nothing is resent because of it.
        "resend_after_s": 60.0,
        **overrides,
    }
    with running_stack(**settings) as stack, TemporaryDirectory(prefix="audit-bench-") as folder:
        stack.connection.execute(SLOW.encode())
        with draining(stack), _watched(stack) as memory:
            report = Path(folder) / "produced"
            producer = _start_producer(stack.settings, report, seconds)
            _wait(producer, report.with_suffix(".logged"), seconds + SETTLE_S)
            stored = _count_rows(stack)
            stack.connection.execute(FAST.encode())
            _wait(producer, report, SETTLE_S)
            producer.join(SETTLE_S)
        return _outcome(stack, Produced(**json.loads(report.read_text())), stored, memory[0])


def _start_producer(settings: Settings, report: Path, seconds: float) -> BaseProcess:
    producer = get_context("spawn").Process(target=produce, args=(settings, str(report), seconds))
    producer.start()
    return producer


def _wait(producer: BaseProcess, path: Path, longest_s: float) -> None:
    deadline, pause = time.monotonic() + longest_s, Event()
    while not path.exists():
        if time.monotonic() > deadline or not producer.is_alive():
            raise RuntimeError(f"the producer did not write {path.name} in time")
        pause.wait(LOOK_S)


def produce(settings: Settings, report: str, seconds: float) -> None:
    """Log in all classes, wait until all is settled; runs in a process of its own."""
    client, stop = AuditClient(settings), Event()
    seen = {"level": 0, "spooled": 0}
    accepted, refused = Counter[str](), Counter[str]()
    watcher = Thread(target=_watch_client, args=(client, stop, seen))
    durable = Thread(target=_log_durable, args=(client, seconds, accepted, refused))
    watcher.start()
    durable.start()
    began_s = time.monotonic()
    longest_s = _log_others(client, seconds, accepted)
    durable.join()
    took_s = time.monotonic() - began_s
    Path(report).with_suffix(".logged").touch()
    is_settled = _settles(client)
    stop.set()
    watcher.join()
    dropped = {
        f"{reason} {kind}": count
        for reason, by_class in client.stats().dropped.items()
        for kind, count in by_class.items()
    }
    client.close()
    made = Produced(
        accepted=dict(accepted),  # `asdict` cannot copy a Counter
        refused=refused["durable"],
        dropped=dropped,
        highest_level=seen["level"],
        most_spooled=seen["spooled"],
        seconds=took_s,
        longest_call_ms=longest_s * 1_000,
        is_settled=is_settled,
    )
    written = Path(report).with_suffix(".part")
    written.write_text(json.dumps(asdict(made)))
    written.rename(report)


def _log_others(client: AuditClient, seconds: float, accepted: Counter[str]) -> float:
    rate, number, longest_s = DRAIN_RATE * FASTER - DURABLE_RATE, 0, 0.0
    began_s, pause = time.monotonic(), Event()
    while (due_s := number / rate) < seconds:
        pause.wait(max(0.0, began_s + due_s - time.monotonic()))
        kind = "best_effort" if number % 10 < BEST_EFFORT_OF_TEN else "standard"
        before_s = time.perf_counter()
        _log(client, kind, number)
        longest_s = max(longest_s, time.perf_counter() - before_s)
        accepted[kind] += 1
        number += 1
    return longest_s


def _log_durable(
    client: AuditClient, seconds: float, accepted: Counter[str], refused: Counter[str]
) -> None:
    began_s, number, pause = time.monotonic(), 0, Event()
    while (due_s := number / DURABLE_RATE) < seconds:
        pause.wait(max(0.0, began_s + due_s - time.monotonic()))
        try:
            _log(client, "durable", number)
            accepted["durable"] += 1
        except AuditUnavailable:
            refused["durable"] += 1
        number += 1


def _log(client: AuditClient, kind: str, number: int) -> None:
    client.log(
        "benchmark.tick",
        entity=(kind, str(number)),
        metadata={"padding": PADDING},
        durability=Durability(kind),
    )


def _watch_client(client: AuditClient, stop: Event, seen: dict[str, int]) -> None:
    while not stop.wait(LOOK_S):
        stats = client.stats()
        seen["level"] = max(seen["level"], stats.level)
        seen["spooled"] = max(seen["spooled"], stats.spool_bytes)


def _settles(client: AuditClient) -> bool:
    """Wait until nothing waits in memory, on disk, or for its confirmation."""
    deadline, pause = time.monotonic() + SETTLE_S, Event()
    while time.monotonic() < deadline:
        stats = client.stats()
        if not (stats.buffered or stats.spooled or stats.unconfirmed):
            return True
        pause.wait(LOOK_S)
    return False


@contextmanager
def _watched(stack: Stack) -> Iterator[list[int]]:
    """Watch the memory of Redis; the list holds the most."""
    most, stop = [0], Event()

    def watch() -> None:
        url = stack.settings.redis_url_of("janitor")
        with Inspector(url, key_prefix=stack.settings.key_prefix) as inspector:
            while not stop.wait(LOOK_S):
                most[0] = max(most[0], inspector.memory().used_bytes)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        stop.set()
        watcher.join()


def _count_rows(stack: Stack) -> int:
    row = stack.connection.execute(b"select count(*) from audit.event").fetchone()
    return int(row[0]) if row else 0


def _outcome(stack: Stack, produced: Produced, stored: int, most_memory: int) -> Outcome:
    rows: list[tuple[Any, ...]] = stack.connection.execute(STORED.encode()).fetchall()
    found = Counter[str](kind for kind, _, _ in rows)
    lost = stack.connection.execute(LOST.encode()).fetchone()
    if lost is None:
        raise RuntimeError("the ledger does not answer")
    logged = sum(produced.accepted.values())
    return Outcome(
        produced=produced,
        missing={kind.value: produced.accepted[kind] - found[kind] for kind in Durability},
        duplicated=sum(count - 1 for _, _, count in rows),
        declared=int(lost[0]),
        announced=int(lost[2]),
        gaps=int(lost[1]),
        most_memory=most_memory,
        limit=stack.settings.redis_maxmemory_bytes,
        unstored_bytes=max(0, logged - stored) * len(PADDING),
    )


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--seconds", type=float, default=120)
    given = options.parse_args()
    figures = measure(seconds=given.seconds)
    report(NAME, figures, keep=given.keep)


if __name__ == "__main__":
    main()
