"""How fast does a day come back from the archive, against the rate at which events come in?

A day is archived and dropped. Then, in turn: a backlog of events is drained into the empty hot
table, and the day is restored beside the archive; at last it is restored attached, detached and
dropped again, as often. A restore is timed as a whole: files hashed and read, leaves computed,
COPY, the primary key, every leaf recomputed by PostgreSQL and the digest compared with the seal;
attached also the indexes of a hot partition and ATTACH. The cold indexes follow while the day is
searched already; the figure with them stands beside.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final

from audit_platform.db.pool import connected
from audit_platform.retention.advance import advance
from audit_platform.retention.partition import bounds_for
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import read_partition
from audit_platform.retention.removed_table import remove_restored
from benchmarks.archive_export import AGE
from benchmarks.archive_steps import Taken, context_of, maint_url, take
from benchmarks.backlog import SEED, make_events, put_batches
from benchmarks.drain_rate import drain_rate
from benchmarks.figures import Figure, options_of, report
from benchmarks.made_day import make_day, make_template
from benchmarks.ratios import INGEST, RESTORE_ATTACHED, RESTORE_BESIDE, ratios_among
from benchmarks.stack import Stack, running_stack

NAME = "archive_restore"
ROWS: Final = 1_000_000
_LIFE: Final = timedelta(days=45)
"""After so long the next step of a day is due, whichever it is."""
_MOMENTS: Final = 5


@dataclass(slots=True)
class _Seen:
    """What the rounds came to."""

    drains: list[float] = field(default_factory=list[float])
    beside: list[Taken] = field(default_factory=list[Taken])
    attached: list[Taken] = field(default_factory=list[Taken])


def measure(*, rows: int, events: int, rounds: int) -> list[Figure]:
    """Run the benchmark.

    Args:
        rows: Of the day.
        events: Size of each backlog.
        rounds: Of each kind of restore.
    """
    seen = _Seen()
    with running_stack(drain_idle_s=1) as stack:
        make_template(stack)
        bounds = bounds_for(datetime.now(UTC) - AGE, "day")
        make_day(stack, bounds, rows)
        url = (stack.settings.data_dir / "archive").as_uri()
        moment = _live_until_dropped(stack, bounds.name, url, datetime.now(UTC))
        for seed in range(rounds):
            backlog = make_events(events, seed=SEED + seed)
            seen.drains.append(drain_rate(stack, put_batches, backlog))
            seen.beside.append(take(stack, "restore", bounds.name, url, attach=False))
            with connected(maint_url(stack), application="benchmark") as conn:
                row = read_partition(conn, bounds.name)
                assert row is not None  # noqa: S101 - made above
                remove_restored(conn, row, now=moment)
        for _ in range(rounds):
            stack.connection.execute(b"checkpoint")
            ahead = (moment - datetime.now(UTC)).days + 1
            seen.attached.append(
                take(stack, "restore", bounds.name, url, attach=True, days_ahead=ahead)
            )
            moment = _live_until_dropped(stack, bounds.name, url, moment)
        backlog = make_events(events, seed=SEED + rounds)
        seen.drains.append(drain_rate(stack, put_batches, backlog))
    searched = [one.seconds - one.figures["indexing_s"] for one in seen.attached]
    return [
        _rates(INGEST, seen.drains, events),
        _rates(RESTORE_BESIDE, [rows / one.seconds for one in seen.beside], rows),
        _rates(RESTORE_ATTACHED, [rows / seconds for seconds in searched], rows),
        _rates(
            "restore attached, cold indexes built",
            [rows / one.seconds for one in seen.attached],
            rows,
        ),
        _rates(
            "COPY of a restore beside the archive",
            [rows / one.figures["copy_s"] for one in seen.beside],
            rows,
        ),
    ]


def _live_until_dropped(stack: Stack, name: str, url: str, since: datetime) -> datetime:
    """Take every step up to the drop; returns the moment of the last one."""
    moment = since
    with connected(maint_url(stack), application="benchmark") as conn:
        for _ in range(_MOMENTS):
            row = read_partition(conn, name)
            assert row is not None  # noqa: S101 - made by the caller
            if row.state is State.DROPPED:
                return moment
            advance(conn, row, context_of(url), now=moment, until=None)
            moment += _LIFE
    raise RuntimeError(f"{name} was not dropped: the figures would mean nothing")


def _rates(name: str, rates: list[float], n: int) -> Figure:
    spread = f"median of {len(rates)}; {min(rates):,.0f} to {max(rates):,.0f}"
    return Figure(name=name, value=median(rates), unit="rows/s", n=n, note=spread)


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--rounds", type=int, default=2)
    given = options.parse_args()
    figures = measure(rows=given.rows, events=given.events, rounds=given.rounds)
    report(NAME, figures, keep=given.keep, ratios=ratios_among(figures))


if __name__ == "__main__":
    main()
