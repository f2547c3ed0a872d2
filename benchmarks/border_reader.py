"""Does anybody notice that a day is sealed, exported, detached and dropped beside them?

Two readers count the events of a day, a hundred times a second at best, wherever they are; two
writers store batches of 200 events as fast as they can. Beside them the day lives to its drop, an
event comes late, the day is opened again and lives once more. The machinery is that of
`tests/integration/retention/test_reader_at_the_border.py`.
"""

import tempfile
from pathlib import Path

from audit_platform.db.pool import connected
from benchmarks.archive_steps import maint_url
from benchmarks.figures import Figure, options_of, percentile, report
from benchmarks.ratios import INSERT_STALL, ratios_among
from benchmarks.stack import Stack, running_stack
from tests.conftest import Database
from tests.integration.retention.border_life import Watched, watch_life

NAME = "border_reader"


def measure(*, rows: int, rounds: int) -> list[Figure]:
    """Run the benchmark.

    Args:
        rows: Of the day; a reader fetches all of their ids with each count.
        rounds: Lives, each in a database of its own.
    """
    watched = [_watch(rows) for _ in range(rounds)]
    seen = [one for life in watched for one in life.seen]
    waits_ms = [1000 * wait_s for life in watched for wait_s in life.busy_waits_s]
    polls = sum(one["polls"] for one in seen)
    failures = sum(len(one["failures"]) for life in watched for one in life.wrote)
    took_s = sum(life.ended_at - life.began_at for life in watched)
    return [
        Figure(
            name="counts of a day that changed",
            value=sum(life.wrong_changes for life in watched),
            unit="",
            n=polls,
            note="target 0; beside the one late event that came",
        ),
        Figure(
            name="rate of the slower reader",
            value=min(life.hz for life in watched),
            unit="Hz",
            n=polls,
            note="target ≥ 50",
        ),
        Figure(
            name="longest count of a reader",
            value=max(life.longest_read_s for life in watched) * 1000,
            unit="ms",
            n=polls,
        ),
        Figure(
            name=INSERT_STALL,
            value=max(waits_ms),
            unit="ms",
            n=len(waits_ms),
            note=f"target ≤ 250 ms; a batch of 200, commit included; {failures} failures",
        ),
        Figure(
            name="wait of inserts during maintenance, p50",
            value=percentile(waits_ms, 50),
            unit="ms",
            n=len(waits_ms),
        ),
        Figure(
            name="longest wait of inserts before it",
            value=max(life.quiet_s for life in watched) * 1000,
            unit="ms",
            n=len(waits_ms),
            note="writers and readers alone",
        ),
        Figure(
            name="rows stored beside two lives of a day",
            value=sum(life.stored for life in watched),
            unit="rows",
            n=len(waits_ms),
            note=f"{took_s:.0f} s of maintenance",
        ),
    ]


def _watch(rows: int) -> Watched:
    with (
        running_stack() as stack,
        tempfile.TemporaryDirectory(prefix="audit-bench-") as place,
        connected(maint_url(stack), application="benchmark") as maint,
    ):
        return watch_life(_database(stack), maint, stack.settings, Path(place), rows=rows)


def _database(stack: Stack) -> Database:
    writer, reader = stack.settings.writer_url, stack.settings.reader_url
    assert writer is not None  # noqa: S101 - set by running_stack
    assert reader is not None  # noqa: S101 - likewise
    return Database(
        name="audit",
        admin_url=stack.admin_url,
        writer_url=writer.get_secret_value(),
        reader_url=reader.get_secret_value(),
        maint_url=maint_url(stack),
        dagster_url="",
    )


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--rows", type=int, default=3_000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    figures = measure(rows=given.rows, rounds=given.rounds)
    report(NAME, figures, keep=given.keep, ratios=ratios_among(figures))


if __name__ == "__main__":
    main()
