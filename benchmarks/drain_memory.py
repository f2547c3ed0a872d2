"""How much memory does a drain take while a large backlog waits?

A backlog of batch entries lies in Redis; a child process, which has imported the code location as
a run of the ingest job has, drains it with `run_drain` and reports the peak of its resident memory
(`VmHWM`) before and after. Redis and PostgreSQL are processes of their own and not in it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr

from audit_platform.events.drain import run_drain
from audit_platform.settings import Settings, load_settings
from benchmarks.backlog import SEED, make_events, put_batches
from benchmarks.figures import Figure, options_of, report
from benchmarks.memory import peak_kib
from benchmarks.stack import running_stack

NAME = "drain_memory"
AT_ONCE = 100_000
CHILD = "from benchmarks.drain_memory import drain_and_report; drain_and_report()"


def measure(*, events: int) -> list[Figure]:
    """Run the benchmark.

    Args:
        events: Size of the backlog.
    """
    with running_stack(drain_idle_s=1) as stack:
        for seed, count in enumerate(_parts(events)):
            put_batches(stack.settings, make_events(count, seed=SEED + seed))
        reported = subprocess.run(
            (sys.executable, "-c", CHILD),
            input=json.dumps(_plain(stack.settings)),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        row = stack.connection.execute(b"select count(*) from audit.event").fetchone()
    if row is None or row[0] != events:
        raise RuntimeError(f"{row} of {events} events stored: the figure would mean nothing")
    peaks = json.loads(reported.splitlines()[-1])
    return [
        _figure("memory of a run before it drains", peaks["before_kib"], events, "code imported"),
        _figure("peak memory of a drain", peaks["after_kib"], events, "target ≤ 500 MB"),
    ]


def drain_and_report() -> None:
    """Drain as the settings on standard input say; print both peaks. Runs in the child."""
    import audit_platform.definitions  # noqa: PLC0415 - what a run has imported counts too

    assert audit_platform.definitions  # noqa: S101 - imported for its size
    settings = load_settings(**json.load(sys.stdin))
    before_kib = peak_kib()
    run_drain(settings, shard=0, run_id="benchmark", dead_run_id=None, report=lambda _report: None)
    print(json.dumps({"before_kib": before_kib, "after_kib": peak_kib()}))


def _parts(events: int) -> Iterator[int]:
    """Make few events at a time: this process need not be large either."""
    for start in range(0, events, AT_ONCE):
        yield min(AT_ONCE, events - start)


def _plain(settings: Settings) -> dict[str, Any]:
    secrets = {
        name: value.get_secret_value() for name, value in settings if isinstance(value, SecretStr)
    }
    return settings.model_dump(mode="json", exclude_unset=True) | secrets


def _figure(name: str, kib: int, n: int, note: str) -> Figure:
    return Figure(name=name, value=kib * 1024 / 1e6, unit="MB", n=n, note=note)


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--events", type=int, default=1_000_000)
    given = options.parse_args()
    figures = measure(events=given.events)
    report(NAME, figures, keep=given.keep)


if __name__ == "__main__":
    main()
