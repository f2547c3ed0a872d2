"""One day of believable rows in `audit.event`, with true leaves, as fast as SQL makes them.

Here: what `archive_export.py` and `archive_restore.py` archive. The rows repeat 20,000 that a drain
of the demo's catalogue stored, in another order; each has a time, an id, a correlation id and a
part of its metadata of its own, and an entity that lives for up to three days, as orders and
payments do. So no text column but those of people, actions and labels repeats itself more than in
an application. The leaf is computed by PostgreSQL: seal, verification and restore prove it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final

from audit_platform.archive.compare import leaf_in_sql
from audit_platform.db.pool import Connection, connected
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import PartitionBounds
from benchmarks.backlog import SEED, make_events, put_batches
from benchmarks.drain_rate import drain_rate
from benchmarks.growth import COLUMNS, SESSION, TEMPLATE, TEMPLATE_ROWS, VALUES
from benchmarks.stack import Stack

SLICES: Final = 16
"""Filled in their order by two connections, so that rows lie on disk nearly as they came."""
ENTITY_DAYS: Final = 3
OWN_VALUES: Final = VALUES | {
    "entity_id": (
        "t.entity_id || '-' || (m.ms / 86400000 - ('x' || substr(h, 27, 4))::bit(16)::int"
        f" % {ENTITY_DAYS})"
    ),
    # In front of what the template has: JSON as a producer writes it, and no two alike.
    "metadata": (
        """('{"took_us":' || ('x' || substr(h, 21, 5))::bit(20)::int"""
        """ || case t.metadata::text when '{}' then '}' else ',' || substr(t.metadata::text, 2)"""
        """ end)::json"""
    ),
    "producer_seq": "m.number + 1",
}
"""Columns that are not the template's; the leaf follows from all of them."""
_FILL: Final = """
insert into audit.{name} ({columns})
select {names}, {leaf}
from (
  select {values}
  from (
    select
      number, ts, md5('{name}' || number) as h, number as n,
      floor(extract(epoch from ts) * 1000)::bigint as ms
    from (
      select
        number,
        timestamptz '{lo}' + number * (timestamptz '{hi}' - timestamptz '{lo}') / {rows} as ts
      from generate_series({first}, {last}) as number
    ) as moments
  ) as m
  join public.template as t
    on t.no = (m.number::bigint * 7919) % (select count(*) from public.template)
) as made
"""


def make_template(stack: Stack) -> None:
    """Drain some thousand events of the demo's catalogue, and keep them as the template."""
    drain_rate(stack, put_batches, make_events(TEMPLATE_ROWS, seed=SEED))
    stack.connection.execute(b"drop table if exists public.template")
    stack.connection.execute(TEMPLATE.format(rows=TEMPLATE_ROWS).encode())
    stack.empty()


def make_day(stack: Stack, bounds: PartitionBounds, rows: int) -> None:
    """Fill a partition, which is made if it is not there; the template must be there.

    Args:
        stack: With a template.
        bounds: In the past; the partition keeps its indexes while it is filled.
        rows: Spread evenly over the range.
    """
    maint_url = stack.settings.maint_url
    assert maint_url is not None  # noqa: S101 - set by running_stack
    with connected(maint_url.get_secret_value(), application="benchmark") as maint:
        ensure_partitions(maint, [bounds])
    found = stack.connection.execute(COLUMNS.encode()).fetchall()
    columns = [name for (name,) in found if name != "leaf_hash"]
    edges = [rows * number // SLICES for number in range(SLICES + 1)]

    def fill_slice(number: int) -> None:
        with connected(stack.admin_url, application="benchmark") as connection:
            _fill_slice(connection, bounds, columns, rows, (edges[number], edges[number + 1] - 1))

    with ThreadPoolExecutor(2) as executor:
        list(executor.map(fill_slice, range(SLICES)))
    stack.connection.execute(f"vacuum (analyze) audit.{bounds.name}".encode())
    stack.connection.execute(b"checkpoint")
    if count_of(stack, bounds.name) != rows:
        raise RuntimeError(f"{bounds.name} was not filled: the figures would mean nothing")


def count_of(stack: Stack, table: str) -> int:
    """Rows of a table in schema audit."""
    statement = f"select count(*) from only audit.{table}"  # noqa: S608 - ours
    row = stack.connection.execute(statement.encode()).fetchone()
    return row[0] if row else 0


def _fill_slice(
    connection: Connection,
    bounds: PartitionBounds,
    columns: Sequence[str],
    rows: int,
    numbers: tuple[int, int],
) -> None:
    connection.execute(SESSION.encode())
    values = (OWN_VALUES.get(name, f't."{name}"') + f' as "{name}"' for name in columns)
    statement = _FILL.format(
        name=bounds.name,
        columns=", ".join(f'"{name}"' for name in [*columns, "leaf_hash"]),
        names=", ".join(f'"{name}"' for name in columns),
        leaf=leaf_in_sql().as_string(connection),
        values=", ".join(values),
        lo=_text(bounds.lo),
        hi=_text(bounds.hi),
        rows=rows,
        first=numbers[0],
        last=numbers[1],
    )
    connection.execute(statement.encode())


def _text(moment: datetime) -> str:
    return moment.isoformat()
