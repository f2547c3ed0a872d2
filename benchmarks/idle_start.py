"""How long from `log()` to a row that another connection sees, when no drain run is active?

The whole platform starts as `audit-platform up` starts it. Each start waits until no drain run is
left, then a random time: the daemon's sensor loop has marks every 5 s, and a benchmark that always
began at the same distance from one would measure that distance. `--stages` prints where the time
of each start went.
"""

import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any

from audit_platform.client import AuditClient
from audit_platform.db.pool import Connection, connect
from audit_platform.local import postgres
from audit_platform.local.supervisor import Platform
from audit_platform.settings import load_settings
from benchmarks.figures import Figure, options_of, percentile, report
from benchmarks.start_stages import MOMENTS, Start, gather_start, moment_now

NAME = "idle_start"
SEED = 20_261_122
IDLE_S = 2.0
"""Of the drain runs, so that a start takes seconds and not half a minute."""
SPREAD_S = 10.0
"""Two marks of the sensor loop: also the seconds right after the end of a run are drawn."""
LOOK_S = 0.005
DEADLINE_S = 60.0
TARGET_S = 5.0
UNFINISHED = "select 1 from runs where status not in ('SUCCESS', 'FAILURE', 'CANCELED') limit 1"
LEASE = "select run_id from audit.drain_lease where run_id is not null and expires_at > now()"
STORED = "select 1 from audit.event where entity_id = %s"


def measure(*, starts: int, seed: int = SEED) -> list[Figure]:
    """Run the benchmark.

    Args:
        starts: Starts from idle; a first one that warms up is not counted.
        seed: Of the waits between them.
    """
    return figures_of(made_starts(starts=starts, seed=seed))


def figures_of(starts: Sequence[Start]) -> list[Figure]:
    """Percentiles of the whole, and medians of the stages."""
    totals, n = [start.total_s for start in starts], len(starts)
    values = {"p50": percentile(totals, 50), "p99": percentile(totals, 99), "max": max(totals)}
    figures = [
        Figure(
            name=f"idle → visible, {name}",
            value=value,
            unit="s",
            n=n,
            note=f"target ≤ {TARGET_S:g} s" if name == "p99" else "",
        )
        for name, value in values.items()
    ]
    for stage in MOMENTS[1:]:
        took = [start.stages()[stage] for start in starts if stage in start.stages()]
        if took:
            note = f"max {max(took):.2f} s"
            figures.append(
                Figure(name=f"stage {stage}", value=median(took), unit="s", n=len(took), note=note)
            )
    cpu = [start.worker_cpu_s for start in starts if start.worker_cpu_s]
    if cpu:
        figures.append(
            Figure(name="CPU of the run worker", value=median(cpu), unit="s", n=len(cpu))
        )
    return figures


def made_starts(*, starts: int, seed: int, show: bool = False) -> list[Start]:
    """Make starts from idle on a platform of their own."""
    rng, made = random.Random(seed), []
    with running_platform() as platform:
        plan, settings = platform.plan, platform.running_settings
        audit = connect(plan.admin_url, application="benchmark")
        dagster = connect(plan.values["dagster_url"], application="benchmark")
        client = AuditClient(settings, handle_sigterm=False)
        for number in range(starts + 1):
            _wait_until_idle(audit, dagster)
            Event().wait(rng.uniform(0, SPREAD_S))
            start = _start(audit, dagster, client, entity_id=f"start-{number}")
            if show:
                print(number, _line(start), flush=True)
            made.append(start)
        client.close()
        audit.close()
        dagster.close()
    return made[1:]


@contextmanager
def running_platform(**overrides: Any) -> Iterator[Platform]:
    """Start the whole platform in a directory of its own and remove it afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="audit-bench-"))
    directory.chmod(0o711)  # PostgreSQL runs as another user when root benchmarks
    settings = load_settings(
        **{
            "data_dir": directory / "data",
            "postgres_port": 0,
            "redis_port": 0,
            "webserver_port": 0,
            "drain_idle_s": IDLE_S,
            "drain_idle_longest_s": IDLE_S,
            **overrides,
        }
    )
    platform = Platform(settings)
    try:
        with platform:
            yield platform
    finally:
        if platform.plan.postgres is not None:
            postgres.remove(platform.plan.postgres)
        shutil.rmtree(directory, ignore_errors=True)


def _wait_until_idle(audit: Connection, dagster: Connection) -> None:
    """Wait until no drain holds its shard and Dagster has recorded the end of every run."""
    deadline = time.monotonic() + DEADLINE_S
    while _is_any(audit, LEASE) or _is_any(dagster, UNFINISHED):
        if time.monotonic() > deadline:
            raise RuntimeError(f"a run is active after {DEADLINE_S:g} s without events")
        Event().wait(0.05)


def _start(audit: Connection, dagster: Connection, client: AuditClient, *, entity_id: str) -> Start:
    client.log("benchmark.start", entity=("benchmark", entity_id))
    logged, leased, deadline = moment_now(), None, time.monotonic() + DEADLINE_S
    while not _is_any(audit, STORED, entity_id):
        if leased is None and _is_any(audit, LEASE):
            leased = moment_now()
        if time.monotonic() > deadline:
            raise RuntimeError(f"event {entity_id} is not stored after {DEADLINE_S:g} s")
        Event().wait(LOOK_S)
    return gather_start(
        audit, dagster, entity_id=entity_id, logged=logged, visible=moment_now(), leased=leased
    )


def _is_any(connection: Connection, query: str, *values: object) -> bool:
    return connection.execute(query.encode(), values).fetchone() is not None


def _line(start: Start) -> str:
    stages = " ".join(f"{name} {took:.2f}" for name, took in start.stages().items())
    return f"{start.total_s:.2f} s: {stages}; worker CPU {start.worker_cpu_s:.2f} s"


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--starts", type=int, default=20)
    options.add_argument("--seed", type=int, default=SEED, help=f"of the waits, default {SEED}")
    options.add_argument("--stages", action="store_true", help="print each start")
    given = options.parse_args()
    print(f"seed {given.seed}", flush=True)
    figures = figures_of(made_starts(starts=given.starts, seed=given.seed, show=given.stages))
    report(NAME, figures, keep=given.keep)


if __name__ == "__main__":
    main()
