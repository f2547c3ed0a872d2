"""Does the drain keep its rate when a month of events is stored?

The same backlogs are drained into the empty table, and again after the table was filled: thirty
days of partitions, today's included, an equal part of the rows in each. The filling rows repeat
what a drain of the demo's catalogue stored, each with a time, an id and a hash of its own; they
come in the order of time, as they would have arrived. A partition is filled before its indexes
are built, by their own definitions, since only the state in the end matters.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Final

from audit_platform.db.pool import Connection, connected
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import PartitionInterval, bounds_between
from benchmarks.backlog import SEED, SPAN, make_events, put_batches
from benchmarks.drain_rate import drain_more, drain_rate
from benchmarks.figures import Figure, options_of, report
from benchmarks.ratios import EMPTY_TABLE, FULL_TABLE, ratios_among
from benchmarks.stack import Stack, running_stack

NAME = "growth"
DAYS: Final = 30
CONNECTIONS: Final = 2
TEMPLATE_ROWS: Final = 20_000
# Heap and indexes take 560 bytes per row (measured), the write-ahead log 8 GiB at most.
BYTES_PER_ROW: Final = 800
LOG_BYTES: Final = 10 << 30
# While it is filled: few checkpoints, and no autovacuum beside the vacuum that ends each part.
FILLING: Final = {"max_wal_size": "8GB", "checkpoint_timeout": "30min", "autovacuum": "off"}
SESSION: Final = (
    "set synchronous_commit = off; set maintenance_work_mem = '512MB'; set work_mem = '64MB';"
    "set max_parallel_maintenance_workers = 0; set jit = off"
)
TEMPLATE: Final = (
    "create unlogged table public.template as select row_number() over (order by id) - 1 as no, "
    "e.* from audit.event e limit {rows}; analyze public.template"
)
# A prime step visits every template row, in another order than theirs.
FILL: Final = """
insert into audit.{name} ({columns})
select {values}
from (
  select n, ts, md5('{name}' || n) as h, floor(extract(epoch from ts) * 1000)::bigint as ms
  from (
    select n, timestamptz '{lo}' + n * (timestamptz '{hi}' - timestamptz '{lo}') / {rows} as ts
    from generate_series(0, {rows} - 1) as n
  ) as moments
) as m
join public.template as t on t.no = (m.n::bigint * 7919) % (select count(*) from public.template)
"""
VALUES: Final = {
    "id": (
        "(lpad(to_hex(m.ms), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid"
    ),
    "timestamp": "m.ts",
    "received_at": "m.ts + interval '20 ms'",
    "ingested_at": "m.ts + interval '200 ms'",
    # One batch per 100 s, as a trickle makes them.
    "batch_id": "(lpad(to_hex(m.ms - m.ms % 100000), 12, '0') || '78008' || repeat('0', 15))::uuid",
    "producer_seq": "m.n + 1",
    "leaf_hash": "sha256(h::bytea)",
    "correlation_id": "'req-' || substr(h, 1, 12)",
}
INDEXES: Final = (
    "select c.relname, pg_get_indexdef(i.indexrelid), pg_get_constraintdef(k.oid) "
    "from pg_index i join pg_class c on c.oid = i.indexrelid "
    "left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid "
    "where i.indrelid = 'audit.{name}'::regclass"
)
BOUNDS: Final = (
    "select pg_get_expr(relpartbound, oid) from pg_class where oid = 'audit.{name}'::regclass"
)
COLUMNS: Final = (
    "select column_name from information_schema.columns "
    "where table_schema = 'audit' and table_name = 'event' order by ordinal_position"
)
SIZES: Final = (
    "select sum(pg_table_size(inhrelid))::bigint, sum(pg_indexes_size(inhrelid))::bigint "
    "from pg_inherits where inhparent = 'audit.event'::regclass"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One partition to fill, detached meanwhile."""

    name: str
    lo: datetime
    hi: datetime
    bounds: str
    indexes: tuple[tuple[str, str, str | None], ...]
    """Name, definition, and the constraint's definition where it belongs to one."""


def measure(*, rows: int, events: int, rounds: int) -> list[Figure]:
    """Run the benchmark; nothing where the disk is too small, which is printed.

    Args:
        rows: Rows to fill the table with, all partitions together.
        events: Size of each backlog.
        rounds: Drains into the empty table, and as many into the filled one.
    """
    needed = rows * BYTES_PER_ROW + LOG_BYTES
    if (free := shutil.disk_usage(tempfile.gettempdir()).free) < needed:
        print(f"growth left out: {needed / 1e9:.0f} GB needed, {free / 1e9:.0f} GB free")
        return []
    with running_stack(drain_idle_s=1) as stack:
        backlogs = [make_events(events, seed=SEED + seed) for seed in range(rounds)]
        empty = [drain_rate(stack, put_batches, backlog) for backlog in backlogs]
        begin = time.monotonic()
        fill(stack, rows)
        took_s = time.monotonic() - begin
        table_bytes, index_bytes = _row(stack, SIZES)
        full: list[float] = []
        for seed in range(rounds):
            backlog = make_events(events, seed=SEED + rounds + seed)
            stack.connection.execute(b"checkpoint")
            full.append(drain_more(stack, put_batches, backlog))
    return [
        _rate(EMPTY_TABLE, empty, events),
        _rate(FULL_TABLE, full, events),
        Figure(name="filled table without indexes", value=table_bytes / 1e9, unit="GB", n=rows),
        Figure(name="indexes of the filled table", value=index_bytes / 1e9, unit="GB", n=rows),
        Figure(name="filling the table", value=took_s, unit="s", n=rows, note="not the drain"),
    ]


def fill(stack: Stack, rows: int, *, values: Mapping[str, str] = VALUES) -> None:
    """Replace what is stored by about `rows` rows in thirty partitions, today's the last.

    Args:
        stack: Whose table holds what a drain stored, at least a few thousand rows.
        rows: All partitions together.
        values: SQL of the columns that are not those of the template.
    """
    stack.connection.execute(TEMPLATE.format(rows=TEMPLATE_ROWS).encode())
    stack.empty()
    before = {name: str(_row(stack, f"show {name}")[0]) for name in FILLING}
    _configure(stack, FILLING)
    columns = [name for (name,) in stack.connection.execute(COLUMNS.encode()).fetchall()]
    parts = _detached_parts(stack)

    def fill_one(part: Part) -> None:
        with connected(stack.admin_url, application="benchmark") as connection:
            connection.execute(SESSION.encode())
            _fill_part(connection, part, columns, rows // DAYS, values)

    with ThreadPoolExecutor(CONNECTIONS) as executor:
        list(executor.map(fill_one, parts))
    stack.connection.execute(b"drop table public.template")
    _configure(stack, before)
    stack.connection.execute(b"checkpoint")
    (stored,) = _row(stack, "select count(*) from audit.event")
    if stored != rows // DAYS * DAYS:
        raise RuntimeError(f"{stored} of {rows} rows filled: the figure would mean nothing")


def _detached_parts(stack: Stack) -> list[Part]:
    now = datetime.now(UTC)
    wanted = bounds_between(now - timedelta(days=DAYS - 1), now, PartitionInterval.DAY)
    maint_url = stack.settings.maint_url
    assert maint_url is not None  # noqa: S101 - set by running_stack
    with connected(maint_url.get_secret_value(), application="benchmark") as maint:
        ensure_partitions(maint, wanted)
    parts: list[Part] = []
    for bounds in wanted:
        (expression,) = _row(stack, BOUNDS.format(name=bounds.name))
        indexes = stack.connection.execute(INDEXES.format(name=bounds.name).encode()).fetchall()
        # The backlog that is drained later comes after today's rows, as it would.
        until = now - SPAN if bounds.hi > now else bounds.hi
        parts.append(
            Part(
                name=bounds.name,
                lo=bounds.lo,
                hi=until if until > bounds.lo + timedelta(hours=1) else min(now, bounds.hi),
                bounds=str(expression),
                indexes=tuple(indexes),
            )
        )
    for part in parts:
        _execute(stack.connection, f"alter table audit.event detach partition audit.{part.name}")
    return parts


def _fill_part(
    connection: Connection,
    part: Part,
    columns: Sequence[str],
    rows: int,
    values: Mapping[str, str],
) -> None:
    table = f"audit.{part.name}"
    for name, _, constraint in part.indexes:
        drop = f"alter table {table} drop constraint {name}" if constraint else ""
        _execute(connection, drop or f"drop index audit.{name}")
    chosen = [values.get(column, f't."{column}"') for column in columns]
    statement = FILL.format(
        name=part.name,
        columns=", ".join(f'"{column}"' for column in columns),
        values=", ".join(chosen),
        lo=part.lo.isoformat(),
        hi=part.hi.isoformat(),
        rows=rows,
    )
    _execute(connection, statement)
    for name, definition, constraint in part.indexes:
        add = f"alter table {table} add constraint {name} {constraint}" if constraint else ""
        _execute(connection, add or definition)
    _execute(connection, f"vacuum (analyze) {table}")
    _execute(connection, f"alter table audit.event attach partition {table} {part.bounds}")


def _configure(stack: Stack, values: dict[str, str]) -> None:
    for name, value in values.items():
        _execute(stack.connection, f"alter system set {name} = '{value}'")
    _execute(stack.connection, "select pg_reload_conf()")


def _execute(connection: Connection, statement: str) -> None:
    connection.execute(statement.encode())


def _row(stack: Stack, query: str) -> tuple[Any, ...]:
    row = stack.connection.execute(query.encode()).fetchone()
    assert row is not None  # noqa: S101 - aggregates and existing tables have one
    return row


def _rate(name: str, rates: Sequence[float], n: int) -> Figure:
    spread = f"median of {len(rates)}; {min(rates):,.0f} to {max(rates):,.0f}"
    return Figure(name=name, value=median(rates), unit="rows/s", n=n, note=spread)


def main() -> None:
    """Measure, print, keep."""
    options = options_of(__doc__)
    options.add_argument("--rows", type=int, default=30_000_000)
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    figures = measure(rows=given.rows, events=given.events, rounds=given.rounds)
    report(NAME, figures, keep=given.keep, ratios=ratios_among(figures))


if __name__ == "__main__":
    main()
