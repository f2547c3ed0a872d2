"""Is everything accepted there, once? Counted at every stage, by sets of ids at the end.

Here: rows by place. Not here: which rows were accepted (`storing.py`).
Guarantee: the sets are made of the tables and of the files alone, not of counts that the platform
keeps: every id of every row, with the leaf that its columns give.
"""

from dataclasses import dataclass
from typing import Any, Final

import polars as pl
import psycopg.sql

from audit_platform.archive.read import frame_of, read_rows
from audit_platform.archive.store import open_store
from audit_platform.db.arrow_rows import arrow_rows
from audit_platform.db.pool import connected
from audit_platform.integrity.leaf import LEAF_COLUMNS, leaf_hashes
from audit_platform.retention.partition_states import HOT_STATES
from audit_platform.retention.partition_table import PartitionRow, list_partitions
from tests.acceptance.conftest import Stack
from tests.acceptance.lifecycle.plan import Plan
from tests.acceptance.lifecycle.rows import LEAF_BYTES, PREFIX

_NAMED: Final = 5
_COUNT: Final = (
    "select (select count(*) from audit.event where {range}),"
    " (select count(*) from audit.event_late where {range})"
)
_RANGE: Final = "\"timestamp\" >= '{lo}' and \"timestamp\" < '{hi}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where rows of the plan's days are."""

    hot: int
    cold: int
    late: int
    expired: int
    states: dict[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return self.hot + self.cold + self.late + self.expired


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Accepted rows against those that are there; ids in hexadecimal, a few of each."""

    accepted: int
    hot: int
    cold: int
    late: int
    expired: int
    missing: int
    unexpected: int
    repeated: int
    altered: int
    sample: tuple[str, ...]

    def problems(self) -> list[str]:
        """Say what is wrong; nothing if all is well."""
        named = ", ".join(self.sample)
        wrong = {
            "accepted, but nowhere": self.missing,
            "found, but never accepted": self.unexpected,
            "found more than once": self.repeated,
            "found with another leaf": self.altered,
        }
        return [f"{count:,} rows {what} ({named})" for what, count in wrong.items() if count]


def partitions_of(stack: Stack, plan: Plan) -> list[PartitionRow]:
    """Partitions of the plan's days, in order."""
    url = stack.settings.database_url_of("maint")
    with connected(url, application="tests", role="audit_owner") as connection:
        rows = list_partitions(connection)
    return [row for row in rows if plan.first <= row.lo < plan.end]


def count_places(stack: Stack, plan: Plan) -> Places:
    """Count the rows of the plan's days by place."""
    limits = _RANGE.format(lo=plan.first.isoformat(), hi=plan.end.isoformat())
    ((hot, late),) = stack.ask(_COUNT.format(range=limits))
    rows = partitions_of(stack, plan)
    archived = [entry for row in rows if row.state not in HOT_STATES for entry in row.files]
    states: dict[str, int] = {}
    for row in rows:
        states[row.state.value] = states.get(row.state.value, 0) + 1
    gone = [entry for entry in archived if entry.expiring_at or entry.expired_at]
    expired = sum(entry.rows for entry in gone)
    return Places(
        hot=hot,
        late=late,
        expired=expired,
        cold=sum(entry.rows for entry in archived) - expired,
        states=states,
    )


def compare(stack: Stack, plan: Plan, accepted: pl.DataFrame, removed: pl.Series) -> Balance:
    """Read every id in both tables and in all files, and compare them with what was accepted.

    Args:
        stack: The platform.
        plan: Its days are looked at.
        accepted: As `rows.fingerprints` gives them.
        removed: Ids that expired, as declared.
    """
    return judge(
        accepted,
        removed,
        hot=_in_table(stack, plan, "event"),
        late=_in_table(stack, plan, "event_late"),
        cold=_in_files(stack, plan),
    )


def judge(
    accepted: pl.DataFrame,
    removed: pl.Series,
    *,
    hot: pl.DataFrame,
    late: pl.DataFrame,
    cold: pl.DataFrame,
) -> Balance:
    """Compare frames with the columns `id` and `leaf`."""
    found = pl.concat([hot, late, cold])
    distinct = found.unique("id")
    wanted = accepted.filter(~pl.col("id").is_in(removed.implode()))
    missing = wanted.join(distinct, on="id", how="anti")
    unexpected = distinct.join(wanted, on="id", how="anti")
    both = wanted.join(distinct, on="id", suffix="_found")
    altered = both.filter(pl.col("leaf") != pl.col("leaf_found"))
    named = pl.concat([one["id"] for one in (missing, unexpected, altered)])
    return Balance(
        accepted=accepted.height,
        hot=hot.height,
        cold=cold.height,
        late=late.height,
        expired=removed.len(),
        missing=missing.height,
        unexpected=unexpected.height,
        repeated=found.height - distinct.height + accepted.height - accepted["id"].n_unique(),
        altered=altered.height,
        sample=tuple(value.hex() for value in named.head(_NAMED)),
    )


def _in_table(stack: Stack, plan: Plan, table: str) -> pl.DataFrame:
    statement = psycopg.sql.SQL(
        "select uuid_send(id) as id, substr(leaf_hash, 1, {bytes}) as leaf from audit.{table}"
        ' where "timestamp" >= {lo} and "timestamp" < {hi} and starts_with(tenant_id, {prefix})'
    ).format(
        bytes=psycopg.sql.Literal(LEAF_BYTES),
        table=psycopg.sql.Identifier(table),
        lo=psycopg.sql.Literal(plan.first),
        hi=psycopg.sql.Literal(plan.end),
        prefix=psycopg.sql.Literal(PREFIX),
    )
    with (
        connected(stack.platform.plan.admin_url, application="tests") as connection,
        arrow_rows(connection, statement, role="audit_admin") as batches,
    ):
        frames = [_two(pl.DataFrame(pl.from_arrow(batch))) for batch in batches]
    return pl.concat([_NOTHING, *frames])


def _in_files(stack: Stack, plan: Plan) -> pl.DataFrame:
    """Rows of every file that a search may open, leaves computed from the columns."""
    store = open_store(stack.settings.archive_place())
    entries = [
        entry
        for row in partitions_of(stack, plan)
        if row.state not in HOT_STATES
        for entry in row.files
        if not entry.expiring_at and not entry.expired_at
    ]
    frames: list[pl.DataFrame] = []
    for batch in read_rows(store, entries, LEAF_COLUMNS):
        rows = frame_of(batch)
        ids: Any = rows["id"].str.replace_all("-", "", literal=True).str.decode("hex")
        leaves = leaf_hashes(rows).bin.slice(0, LEAF_BYTES)
        frames.append(pl.DataFrame({"id": ids, "leaf": leaves}))
    return pl.concat([_NOTHING, *frames])


def _two(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.col("id").cast(pl.Binary), pl.col("leaf").cast(pl.Binary))


_NOTHING: Final = pl.DataFrame(schema={"id": pl.Binary, "leaf": pl.Binary})
