"""How many bytes does Dagster keep, per million events and per day of a trickle?

The whole platform runs as `audit-platform up` starts it: daemon, sensors, schedules, runs and their
observations, on PostgreSQL. Counted is the growth of every table of Dagster's database with indexes
and TOAST, while events come at a steady rate; ticks of sensors that find nothing are part of it.
Autovacuum works as in production; nothing is vacuumed, purged or deleted for the figure, although
after a day Dagster purges ticks that skipped and after seven the janitor deletes drain runs.

Both figures are linear in time from one drain run to the next (600 s), so windows of that length
are scaled up. A shorter window cuts a run in two and is not kept.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Final

from audit_platform.client import AuditClient
from audit_platform.db.pool import Connection, connect
from benchmarks.figures import Figure, options_of, report
from benchmarks.idle_start import running_platform

NAME = "dagster_storage"
RATE: Final = 100.0
TRICKLE_S: Final = 60.0
TARGET_MB: Final = 5.0
TRICKLE_TARGET_MB: Final = 30.0
WARM_UP_S: Final = 20.0
DAY_S: Final = 86_400
MB: Final = 1e6
SIZE: Final = (
    "select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c "
    "join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and n.nspname = 'public'"
)
ROWS: Final = (
    "select (select count(*) from job_ticks), "
    "(select count(*) from runs where pipeline_name = 'ingest'), "
    "(select count(*) from event_logs), "
    "(select count(*) from event_logs where dagster_event_type = 'ASSET_OBSERVATION')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What Dagster keeps at one moment, or how much more between two."""

    bytes_: int
    ticks: int
    drains: int
    event_rows: int
    observations: int

    def since(self, before: "Kept") -> "Kept":
        """Growth from an earlier moment to this one."""
        return Kept(
            bytes_=self.bytes_ - before.bytes_,
            ticks=self.ticks - before.ticks,
            drains=self.drains - before.drains,
            event_rows=self.event_rows - before.event_rows,
            observations=self.observations - before.observations,
        )

    def note(self) -> str:
        """What it consists of."""
        return (
            f"{self.drains} drain runs, {self.observations} observations, {self.ticks} ticks, "
            f"{self.event_rows} event rows"
        )


def measure(*, busy_s: float, trickle_s: float) -> list[Figure]:
    """Run the benchmark.

    Args:
        busy_s: Length of the window at 100 events/s.
        trickle_s: Length of the window at one event a minute.
    """
    # Longer runs than the default idle time of a benchmark: production's own.
    with running_platform(drain_idle_s=30, drain_idle_longest_s=300) as platform:
        plan, settings = platform.plan, platform.running_settings
        dagster = connect(plan.values["dagster_url"], application="benchmark")
        client = AuditClient(settings, handle_sigterm=False)
        figures: list[Figure] = []
        for window, seconds, rate in (
            (_busy_figures, busy_s, RATE),
            (_trickle_figures, trickle_s, 1 / TRICKLE_S),
        ):
            # Relations that were empty take their first pages in the warm-up.
            _produce(client, rate, WARM_UP_S)
            before = _kept(dagster)
            sent = _produce(client, rate, seconds)
            figures += window(_kept(dagster).since(before), seconds, sent)
        client.close()
        dagster.close()
    return figures


def _busy_figures(grown: Kept, seconds: float, sent: int) -> list[Figure]:
    return [
        Figure(
            name=f"Dagster storage per million events at {RATE:g} events/s",
            value=grown.bytes_ / sent,
            unit="MB",
            n=sent,
            note=f"target ≤ {TARGET_MB:g} MB; in {seconds:g} s {grown.note()}",
        )
    ]


def _trickle_figures(grown: Kept, seconds: float, sent: int) -> list[Figure]:
    days = seconds / DAY_S
    return [
        Figure(
            name="Dagster storage per day at one event a minute",
            value=grown.bytes_ / MB / days,
            unit="MB",
            n=sent,
            note=f"target ≤ {TRICKLE_TARGET_MB:g} MB; in {seconds:g} s {grown.note()}",
        ),
        Figure(
            name="drain runs per day at one event a minute",
            value=grown.drains / days,
            unit="runs",
            n=grown.drains,
        ),
    ]


def _kept(dagster: Connection) -> Kept:
    bytes_ = dagster.execute(SIZE.encode()).fetchone()
    rows = dagster.execute(ROWS.encode()).fetchone()
    if bytes_ is None or rows is None:
        raise RuntimeError("Dagster's database gives no sizes")
    ticks, drains, event_rows, observations = rows
    return Kept(
        bytes_=int(bytes_[0]),
        ticks=ticks,
        drains=drains,
        event_rows=event_rows,
        observations=observations,
    )


def _produce(client: AuditClient, rate: float, seconds: float) -> int:
    """Log at a steady rate; returns how many events."""
    return _paced(
        lambda number: client.log("benchmark.tick", entity=("benchmark", str(number))),
        rate,
        seconds,
    )


def _paced(act: Callable[[int], object], rate: float, seconds: float) -> int:
    began_s, number, pause = time.monotonic(), 0, Event()
    while (due_s := number / rate) < seconds:
        pause.wait(max(0.0, began_s + due_s - time.monotonic()))
        act(number)
        number += 1
    pause.wait(max(0.0, began_s + seconds - time.monotonic()))
    return number


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--busy", type=float, default=600, help="seconds at 100 events/s")
    options.add_argument("--trickle", type=float, default=600, help="seconds at one a minute")
    given = options.parse_args()
    figures = measure(busy_s=given.busy, trickle_s=given.trickle)
    report(NAME, figures, keep=given.keep)


if __name__ == "__main__":
    main()
