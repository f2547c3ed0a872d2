r"""The few numbers that compare: against \copy, against the targets, against plain logging.

Here: how each follows from measured figures. A ratio holds on other machines where a rate does
not, so these are what a change is judged by.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.figures import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One ratio: name of the dividend and of the divisor, or a fixed divisor."""

    name: str
    dividend: str
    divisor: str | float
    note: str

    def of(self, values: Mapping[str, float]) -> float | None:
        """Its value; None when a figure is missing."""
        over = values.get(self.dividend)
        under = values.get(self.divisor) if isinstance(self.divisor, str) else self.divisor
        return None if over is None or not under else over / under


COPY = "psql \\copy of the same rows"
PEER_YARDSTICK = "drain of the peers' rows"
BEST_BULLMQ = "BullMQ + TypeORM at its best setting"
DOCUMENTED_BULLMQ = "BullMQ + TypeORM save(), batch 50, concurrency 1"
BEST_DJANGO = "Django bulk_create() at its best setting"
EMPTY_TABLE = "drain into the empty table"
FULL_TABLE = "drain into the filled table"
ENQUEUE = "log(), acknowledged by Redis"
XADD_PIPELINED = "XADD of single events, pipelined"
DAY_COPY = "psql COPY … TO STDOUT of a day to nowhere"
DAY_EXPORT = "export of a day"
HOT_SEARCHES = (
    "last 50 events of a tenant",
    "history of an entity",
    "activity of a user",
    "failures of a day",
)
COLD_ENTITY = "search: history of an entity, archived"
INSERT_STALL = "longest wait of inserts during maintenance"
INGEST = "drain beside the restores"
RESTORE_BESIDE = "restore beside the archive"
RESTORE_ATTACHED = "restore attached, until it is searched"
XADD_ALONE = "XADD of single events, one at a time"
RATIOS = (
    Ratio(
        name="drain ÷ \\copy",
        dividend="drain, batch entries",
        divisor=COPY,
        note="≥ 0.6 now, ≥ 0.9 in the end",
    ),
    Ratio(
        name="drain of one event per entry ÷ \\copy",
        dividend="drain, one event per entry",
        divisor=COPY,
        note="≥ 0.6; what a program without the SDK costs",
    ),
    Ratio(
        name="drain ÷ \\copy, PostgreSQL 16",
        dividend="drain, batch entries, PostgreSQL 16",
        divisor=f"{COPY}, PostgreSQL 16",
        note="as on 18",
    ),
    Ratio(
        name="drain of one event per entry ÷ \\copy, PostgreSQL 16",
        dividend="drain, one event per entry, PostgreSQL 16",
        divisor=f"{COPY}, PostgreSQL 16",
        note="as on 18",
    ),
    Ratio(
        name="drain ÷ BullMQ + TypeORM",
        dividend=PEER_YARDSTICK,
        divisor=BEST_BULLMQ,
        note="≥ 10, at the best setting found",
    ),
    Ratio(
        name="drain ÷ BullMQ + TypeORM as documented",
        dividend=PEER_YARDSTICK,
        divisor=DOCUMENTED_BULLMQ,
        note="save(), batch 50, concurrency 1",
    ),
    Ratio(
        name="drain ÷ Django bulk_create()",
        dividend=PEER_YARDSTICK,
        divisor=BEST_DJANGO,
        note="which reads no queue",
    ),
    Ratio(
        name="drain into the filled ÷ into the empty table",
        dividend=FULL_TABLE,
        divisor=EMPTY_TABLE,
        note="≥ 0.8",
    ),
    Ratio(
        name="export ÷ COPY … TO STDOUT",
        dividend=DAY_EXPORT,
        divisor=DAY_COPY,
        note="≥ 0.5; of the same partition",
    ),
    *(
        Ratio(
            name=f"p95 of {kind} ÷ 100 ms",
            dividend=f"search: {kind}, p95",
            divisor=100.0,
            note="≤ 1; 30 million rows over 30 days",
        )
        for kind in HOT_SEARCHES
    ),
    Ratio(
        name="longest wait of inserts during maintenance ÷ 250 ms",
        dividend=INSERT_STALL,
        divisor=250.0,
        note="≤ 1",
    ),
    Ratio(
        name="restore beside the archive ÷ drain",
        dividend=RESTORE_BESIDE,
        divisor=INGEST,
        note="≥ 1; proof included",
    ),
    Ratio(
        name="restore attached ÷ drain",
        dividend=RESTORE_ATTACHED,
        divisor=INGEST,
        note="≥ 1; proof and hot indexes included",
    ),
    Ratio(
        name="log() to Redis ÷ pipelined XADD of single events",
        dividend=ENQUEUE,
        divisor=XADD_PIPELINED,
        note="events/s; of ready-made events",
    ),
    Ratio(
        name="log() to Redis ÷ XADD of single events, one at a time",
        dividend=ENQUEUE,
        divisor=XADD_ALONE,
        note="what a program without the SDK gets",
    ),
    Ratio(
        name="log() durable p99 ÷ 10 ms",
        dividend="durable, 4 threads, p99",
        divisor=10_000.0,
        note="≤ 1",
    ),
    Ratio(
        name="visible p99 at 100 events/s ÷ 1 s",
        dividend="accepted → visible at 100 events/s, p99",
        divisor=1_000.0,
        note="≤ 1",
    ),
    Ratio(
        name="visible p99 at 1,000 events/s ÷ 1 s",
        dividend="accepted → visible at 1,000 events/s, p99",
        divisor=1_000.0,
        note="≤ 1",
    ),
    Ratio(
        name="visible p99 at 20,000 events/s ÷ 1 s",
        dividend="accepted → visible at 20,000 events/s, p99",
        divisor=1_000.0,
        note="≤ 1",
    ),
    Ratio(
        name="visible p99 from idle ÷ 5 s",
        dividend="idle → visible, p99",
        divisor=5.0,
        note="≤ 1",
    ),
    Ratio(
        name="recovery p95 ÷ 30 s",
        dividend="recovery after SIGKILL of any kill, p95",
        divisor=30.0,
        note="≤ 1",
    ),
    Ratio(
        name="log() standard p99 ÷ 50 us",
        dividend="standard, 1 thread, p99",
        divisor=50.0,
        note="≤ 1",
    ),
    Ratio(
        name="log() standard p50 ÷ logging with JSON",
        dividend="standard, 1 thread, p50",
        divisor="logging + JSON, 1 thread, p50",
        note="the standard library's QueueHandler, same event",
    ),
)


def ratios_of(figures: Mapping[str, tuple[float, int]]) -> list[Figure]:
    """Work out every ratio whose figures are there.

    Args:
        figures: Value and n by name.
    """
    values = {name: value for name, (value, _) in figures.items()}
    return [
        Figure(name=ratio.name, value=value, unit="", n=figures[ratio.dividend][1], note=ratio.note)
        for ratio in RATIOS
        if (value := ratio.of(values)) is not None
    ]


def ratios_among(figures: Iterable[Figure]) -> list[Figure]:
    """Work out every ratio of figures that were measured together."""
    return ratios_of({figure.name: (figure.value, figure.n) for figure in figures})
