"""All benchmarks in one table: `make bench`, or `python -m benchmarks [--quick] [names…]`.

Each figure is compared with the committed run before it. A full run replaces the JSON in
`results/` and the tables in `docs/benchmarks.md`; `--quick` tries the scripts and keeps nothing.
"""

import argparse
from collections.abc import Callable

from benchmarks import (
    archive_export,
    archive_restore,
    border_reader,
    dagster_storage,
    drain_memory,
    drain_rate,
    enqueue,
    growth,
    history_search,
    idle_start,
    latency,
    log_call,
    peers,
    recovery,
    redis_bounded,
)
from benchmarks.document import write_document
from benchmarks.figures import Figure, print_figures, read_last, write_result
from benchmarks.ratios import ratios_among, ratios_of

Measure = Callable[[bool], list[Figure]]


def _measure_drain(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    events, rounds = (8_000, 1) if is_quick else (200_000, 3)
    return [
        figure
        for version in drain_rate.VERSIONS
        for figure in drain_rate.measure(events=events, rounds=rounds, version=version)
    ]


def _measure_enqueue(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    events, rounds = (5_000, 1) if is_quick else (100_000, 3)
    return enqueue.measure(events=events, rounds=rounds)


def _measure_peers(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    return peers.measure(events=5_000 if is_quick else 300_000)


def _measure_memory(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    return drain_memory.measure(events=20_000 if is_quick else 1_000_000)


def _measure_growth(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    if is_quick:
        return growth.measure(rows=200_000, events=8_000, rounds=1)
    return growth.measure(rows=30_000_000, events=200_000, rounds=3)


def _measure_latency(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    return latency.measure(seconds=3 if is_quick else 30)


def _measure_call(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    return log_call.measure(seconds=1 if is_quick else 10)


def _measure_storage(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    seconds = 20 if is_quick else 600
    return dagster_storage.measure(busy_s=seconds, trickle_s=seconds)


def _measure_idle_start(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    return idle_start.measure(starts=2 if is_quick else 20)


def _measure_recovery(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    if is_quick:
        return recovery.measure(kills=2, victims=["run"])
    return recovery.measure(kills=5)


def _measure_bounded(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    if is_quick:
        return redis_bounded.measure(seconds=12, maxmemory_bytes=16 << 20)
    return redis_bounded.measure(seconds=120)


def _measure_export(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    rows, rounds = (50_000, 1) if is_quick else (archive_export.ROWS, 3)
    return archive_export.measure(rows=rows, rounds=rounds)


def _measure_restore(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    if is_quick:
        return archive_restore.measure(rows=50_000, events=8_000, rounds=1)
    return archive_restore.measure(rows=archive_restore.ROWS, events=200_000, rounds=2)


def _measure_history(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    if is_quick:
        return history_search.measure(rows=150_000, searches=20)
    return history_search.measure(rows=history_search.ROWS, searches=history_search.SEARCHES)


def _measure_border(is_quick: bool) -> list[Figure]:  # noqa: FBT001 - one table of functions
    return border_reader.measure(rows=3_000, rounds=1 if is_quick else 3)


BENCHMARKS: dict[str, Measure] = {
    drain_rate.NAME: _measure_drain,
    drain_memory.NAME: _measure_memory,
    peers.NAME: _measure_peers,
    growth.NAME: _measure_growth,
    latency.NAME: _measure_latency,
    idle_start.NAME: _measure_idle_start,
    recovery.NAME: _measure_recovery,
    log_call.NAME: _measure_call,
    enqueue.NAME: _measure_enqueue,
    dagster_storage.NAME: _measure_storage,
    redis_bounded.NAME: _measure_bounded,
    border_reader.NAME: _measure_border,
    archive_export.NAME: _measure_export,
    archive_restore.NAME: _measure_restore,
    history_search.NAME: _measure_history,
}


def main() -> None:
    """Run the named benchmarks, all without names; print one table; keep full runs."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(BENCHMARKS)}")
    options.add_argument("--quick", action="store_true", help="tiny sizes, nothing is kept")
    given = options.parse_args()
    if unknown := set(given.names) - set(BENCHMARKS):
        options.error(f"no benchmark {', '.join(sorted(unknown))}; one of {', '.join(BENCHMARKS)}")
    last: dict[str, float] = {}
    figures: list[Figure] = []
    for name in given.names or BENCHMARKS:
        print(f"{name} …", flush=True)
        last |= read_last(name)
        measured = BENCHMARKS[name](given.quick)
        figures += measured
        if not given.quick:
            write_result(name, measured)
    print_figures(figures, last)
    before = ratios_of({name: (value, 0) for name, value in last.items()})
    ratios = ratios_among(figures)
    print_figures(ratios, {ratio.name: ratio.value for ratio in before})
    if not given.quick:
        write_document()


if __name__ == "__main__":
    main()
