"""How fast does a day go to the archive, in how much memory, and how small is it there?

A day of five million believable rows (`made_day.py`) is sealed and gets its cold indexes. Then, in
turn: `psql` copies the partition to nowhere, and the partition is exported. The last export is
verified and restored beside the archive. Every step runs in a process of its own, and reports the
peak of its resident memory (`VmHWM`).
"""

import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final

from audit_platform.db.pool import connected
from audit_platform.retention.advance import advance
from audit_platform.retention.cold_indexes import build_cold_indexes
from audit_platform.retention.partition import bounds_for
from audit_platform.retention.partition_states import Step
from audit_platform.retention.partition_table import read_partition
from benchmarks.archive_steps import Taken, context_of, maint_url, take, verify_apart
from benchmarks.figures import Figure, options_of, report
from benchmarks.made_day import make_day, make_template
from benchmarks.ratios import DAY_COPY, DAY_EXPORT, ratios_among
from benchmarks.stack import Stack, running_stack

NAME = "archive_export"
ROWS: Final = 5_000_000
AGE: Final = timedelta(days=40)
_SIZES = "select pg_table_size('audit.{0}'), pg_indexes_size('audit.{0}')"


@dataclass(slots=True)
class _Seen:
    """What the rounds came to."""

    copies: list[float] = field(default_factory=list[float])
    exports: list[Taken] = field(default_factory=list[Taken])


def measure(*, rows: int, rounds: int) -> list[Figure]:
    """Run the benchmark.

    Args:
        rows: Of the day.
        rounds: COPY and export in turn.
    """
    with running_stack(drain_idle_s=1) as stack:
        make_template(stack)
        bounds = bounds_for(datetime.now(UTC) - AGE, "day")
        make_day(stack, bounds, rows)
        url = (stack.settings.data_dir / "archive").as_uri()
        sealed = take(stack, "seal", bounds.name, url)
        with connected(maint_url(stack), application="benchmark") as conn:
            build_cold_indexes(conn, bounds.name)
        table_bytes, index_bytes = _sizes(stack, bounds.name)
        seen = _Seen()
        for _ in range(rounds):
            stack.connection.execute(b"checkpoint")
            seen.copies.append(copy_to_nowhere(stack, bounds.name))
            seen.exports.append(take(stack, "export", bounds.name, url))
        with connected(maint_url(stack), application="benchmark") as conn:
            row = read_partition(conn, bounds.name)
            assert row is not None  # noqa: S101 - made above
            advance(conn, row, context_of(url), now=datetime.now(UTC), until=Step.EXPORT)
        verified = verify_apart(row, url)
        restored = take(stack, "restore", bounds.name, url, attach=False)
    written = seen.exports[-1].figures["bytes"]
    steps = {"seal": sealed, "verify": verified, "restore beside the archive": restored}
    return [
        _rates(DAY_COPY, [rows / seconds for seconds in seen.copies], rows),
        _rates(DAY_EXPORT, [rows / one.seconds for one in seen.exports], rows),
        *(_rates(f"{name} of a day", [rows / one.seconds], rows) for name, one in steps.items()),
        Figure(
            name="peak memory of export",
            value=max(one.peak_mb for one in seen.exports),
            unit="MB",
            n=rows,
            note="target ≤ 500 MB",
        ),
        *(
            Figure(
                name=f"peak memory of {name}",
                value=one.peak_mb,
                unit="MB",
                n=rows,
                note="target ≤ 500 MB",
            )
            for name, one in steps.items()
        ),
        Figure(
            name="Parquet ÷ table with its indexes",
            value=100 * written / (table_bytes + index_bytes),
            unit="%",
            n=rows,
            note=f"target ≤ 20 %; {written / rows:.1f} of {table_bytes / rows:.0f} + "
            f"{index_bytes / rows:.0f} bytes per row",
        ),
    ]


def copy_to_nowhere(stack: Stack, table: str) -> float:
    """Seconds in which `psql` reads a table by COPY and throws it away."""
    began_s = time.monotonic()
    subprocess.run(
        (str(stack.psql), stack.admin_url, "-Xqc", f"copy audit.{table} to stdout"),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began_s


def _sizes(stack: Stack, table: str) -> tuple[int, int]:
    row = stack.connection.execute(_SIZES.format(table).encode()).fetchone()
    assert row is not None  # noqa: S101 - a select without a table has one row
    return row[0], row[1]


def _rates(name: str, rates: list[float], n: int) -> Figure:
    spread = f"median of {len(rates)}; {min(rates):,.0f} to {max(rates):,.0f}"
    return Figure(name=name, value=median(rates), unit="rows/s", n=n, note=spread)


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    figures = measure(rows=given.rows, rounds=given.rounds)
    report(NAME, figures, keep=given.keep, ratios=ratios_among(figures))


if __name__ == "__main__":
    main()
