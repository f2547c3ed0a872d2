r"""How fast is a drain run against `psql \copy` of the same rows into the same table?

Each round: a backlog of batch entries is drained by `run_drain`; its rows are dumped in their
order on disk; the table is emptied; psql copies the dump into it, indexes, constraints and
server settings being the same. Then a backlog with one event per entry is drained.
The drain's time runs from its call to its last commit, psql's from its start to its end.
"""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from audit_platform.events.drain import run_drain
from audit_platform.local.binaries import PostgresVersion
from benchmarks.backlog import SEED, make_events, put_batches, put_singles
from benchmarks.figures import Figure, options_of, report
from benchmarks.ratios import COPY, ratios_among
from benchmarks.stack import Stack, running_stack

NAME = "drain_rate"
VERSIONS: Sequence[PostgresVersion] = (18, 16)
COLUMNS = (
    "select column_name from information_schema.columns "
    "where table_schema = 'audit' and table_name = 'event' order by ordinal_position"
)
Put = Callable[..., int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Rows per second of one round."""

    drain: float
    copy: float
    drain_singles: float


def measure(*, events: int, rounds: int, version: PostgresVersion = 18) -> list[Figure]:
    """Run the benchmark.

    Args:
        events: Size of each backlog.
        rounds: Rounds, drain and copy in turn.
        version: PostgreSQL; figures of another one than 18 are named so.
    """
    on = "" if version == 18 else f", PostgreSQL {version}"
    with (
        running_stack(drain_idle_s=1, postgres_version=version) as stack,
        TemporaryDirectory(prefix="audit-bench-") as folder,
    ):
        done = [_round(stack, Path(folder) / "rows", events, seed) for seed in range(rounds)]
    return [
        _figure(f"drain, batch entries{on}", [each.drain for each in done], events),
        _figure(COPY + on, [each.copy for each in done], events),
        _figure(f"drain, one event per entry{on}", [each.drain_singles for each in done], events),
    ]


def _round(stack: Stack, dump: Path, events: int, seed: int) -> Round:
    drain = drain_rate(stack, put_batches, make_events(events, seed=SEED + seed))
    copied = _copy_rate(stack, dump, events)
    # The same rows once more, as a program without the SDK sends them.
    singles = drain_rate(stack, put_singles, make_events(events, seed=SEED + seed))
    return Round(drain=drain, copy=copied, drain_singles=singles)


def drain_rate(stack: Stack, put: Put, events: Sequence[bytes]) -> float:
    """Drain these events into the empty table; returns rows per second."""
    stack.empty()
    rate = drain_more(stack, put, events)
    if (stored := _one(stack, "select count(*) from audit.event")) != len(events):
        raise RuntimeError(f"{stored} of {len(events)} rows: the figure would mean nothing")
    return rate


def drain_more(stack: Stack, put: Put, events: Sequence[bytes]) -> float:
    """Drain these events into the table as it is; returns rows per second."""
    put(stack.settings, events)
    started_at = _one(stack, "select clock_timestamp()")
    run_drain(
        stack.settings, shard=0, run_id="benchmark", dead_run_id=None, report=lambda _report: None
    )
    ended_at = _one(stack, "select max(committed_at) from audit.ingest_batch")
    since = f"where committed_at >= '{started_at}'"
    stored = _one(stack, f"select sum(n_new) from audit.ingest_batch {since}")  # noqa: S608 - ours
    if stored != len(events):
        raise RuntimeError(
            f"{stored} of {len(events)} events stored: the figure would mean nothing"
        )
    return len(events) / (ended_at - started_at).total_seconds()


def _copy_rate(stack: Stack, dump: Path, events: int) -> float:
    rows = stack.connection.execute(COLUMNS.encode()).fetchall()
    columns = ", ".join(f'"{row[0]}"' for row in rows)
    _psql(stack, f"\\copy (select {columns} from audit.event) to '{dump}'")  # noqa: S608 - from the catalog
    stack.empty()
    started_at = _one(stack, "select clock_timestamp()")
    _psql(stack, f"\\copy audit.event ({columns}) from '{dump}'")
    ended_at = _one(stack, "select clock_timestamp()")
    if (copied := _one(stack, "select count(*) from audit.event")) != events:
        raise RuntimeError(f"{copied} of {events} rows copied: the figure would mean nothing")
    return events / (ended_at - started_at).total_seconds()


def _psql(stack: Stack, command: str) -> None:
    subprocess.run(
        (str(stack.psql), stack.admin_url, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", command),
        check=True,
        cwd="/",
    )


def _one(stack: Stack, query: str) -> Any:
    row = stack.connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def _figure(name: str, rates: Sequence[float], n: int) -> Figure:
    spread = f"median of {len(rates)}; {min(rates):,.0f} to {max(rates):,.0f}"
    return Figure(name=name, value=median(rates), unit="rows/s", n=n, note=spread)


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    figures = [
        figure
        for version in VERSIONS
        for figure in measure(events=given.events, rounds=given.rounds, version=version)
    ]
    report(NAME, figures, keep=given.keep, ratios=ratios_among(figures))


if __name__ == "__main__":
    main()
