"""Creates the partitions of `audit.event` without stopping its writers.

Here: the statements that give `audit.event` a partition, and what the catalog says about those that
exist. Not here: which partitions are needed (`retention/partition.py`), sealing and archiving.
Guarantees: each partition is made in one transaction, so that a killed process leaves nothing half
done; a repeat or a second process at the same time adds nothing and fails nothing; writers of
other partitions never wait (CREATE … PARTITION OF would lock them all out).

Source: statements and locks, storage design, section 1 (run on PostgreSQL 16.14 and 18.4).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

import stamina
from psycopg import sql

from audit_platform.db.pool import OWNER_ROLE, Connection, transaction
from audit_platform.db.queries import load_queries
from audit_platform.errors import DatabaseError, LockNotAvailable, PermissionRefused
from audit_platform.retention.partition import (
    HOT_INDEXES,
    HOT_STORAGE,
    PRIMARY_KEY,
    HotIndex,
    PartitionBounds,
    PartitionInterval,
    Runway,
    due,
    missing,
    runway,
)

DDL_LOCK_KEY: Final = 0x6175646974
"""Advisory lock of every statement that changes partitions: "audit" in ASCII."""
LOCK_TIMEOUT: Final = "500ms"
"""Short, because writers queue behind a waiting lock; the retry below waits without a lock."""
RETRY_TIMEOUT_S: Final = 60.0

_SET_OWNER: Final = sql.SQL("set local role {}").format(sql.Identifier(OWNER_ROLE))
_SET_LOCK_TIMEOUT: Final = sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
_CREATE: Final = sql.SQL(
    "create table {table} (like audit.event"
    " including defaults including constraints including storage including generated)"
    " with ({storage})"
)
# The check implies the bounds, so that ATTACH does not scan.
_CONSTRAIN: Final = sql.SQL(
    "alter table {table} add primary key ({key}),"
    ' add constraint bounds check ("timestamp" >= {lo} and "timestamp" < {hi})'
)
_ATTACH: Final = sql.SQL(
    "alter table audit.event attach partition {table} for values from ({lo}) to ({hi})"
)
_RELAX: Final = sql.SQL("alter table {table} drop constraint bounds")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRecord:
    """One row of `audit.partition`, and whether its table is attached right now."""

    bounds: PartitionBounds
    state: str
    is_attached: bool

    @property
    def is_lost(self) -> bool:
        """Whether rows are expected to find it, but it is not there."""
        return self.state == "open" and not self.is_attached

    @property
    def takes_rows(self) -> bool:
        """Whether rows can be stored in it."""
        return self.state == "open" and self.is_attached


@dataclass(frozen=True, slots=True, kw_only=True)
class RunwayReport:
    """What `ensure_ahead` did and how far partitions reach now.

    Attributes:
        created: Names of new tables, in order of time.
        partitions_ahead: Whole partitions after the present one, without a gap.
        days_ahead: Days from now to the end of the last of them, fraction included.
        latest_hi: End of the last of them.
    """

    created: tuple[str, ...]
    partitions_ahead: int
    days_ahead: float
    latest_hi: datetime | None


def ensure_ahead(
    conn: Connection, *, now: datetime, ahead: int, interval: PartitionInterval | str
) -> RunwayReport:
    """Create what is missing so that `ahead` partitions follow the present one.

    Args:
        conn: As `audit_maint`, outside a transaction.
        now: Aware.
        ahead: Partitions of `interval`, see `partition.due`.
        interval: Range of a new partition.

    Raises:
        As `ensure_partitions`.
    """
    created = ensure_partitions(conn, due(now, ahead, interval, existing=()))
    reach = read_runway(conn, now=now)
    return RunwayReport(
        created=created,
        partitions_ahead=reach.partitions,
        days_ahead=reach.days,
        latest_hi=reach.latest_hi,
    )


def ensure_partitions(conn: Connection, bounds: Iterable[PartitionBounds]) -> tuple[str, ...]:
    """Create the partitions that take the given ranges, each in its own transaction.

    Ranges that a partition covers in any state stay as they are: a sealed, archived or dropped one
    is never created again. A range covered in part is filled by finer partitions. A partition
    that is open by its record but not attached is made again.

    Args:
        conn: As `audit_maint`, outside a transaction.
        bounds: Any number, any order; a year of days takes some seconds.

    Returns:
        Names of the tables this call created.

    Raises:
        LockNotAvailable: A lock was not granted within 60 s of retries.
        PermissionRefused: A default privilege grants somebody a new partition.
        DatabaseError: A table of that name holds rows and is no partition.
    """
    wanted = list(bounds)
    created: list[str] = []
    # Each round reads again: a process with another interval may have taken part of a range since,
    # and what is left of it is finer. Intervals are no deeper than this.
    for _ in PartitionInterval:
        records = read_partitions(conn)
        lost = [
            r.bounds for r in records if r.is_lost and any(r.bounds.overlaps(w) for w in wanted)
        ]
        todo = [*lost, *missing(wanted, [record.bounds for record in records])]
        if not todo:
            break
        created += [one.name for one in todo if _create_with_retries(conn, one)]
    return tuple(created)


def read_partitions(conn: Connection) -> list[PartitionRecord]:
    """Read the life cycle of all partitions, in order of time."""
    with as_owner(conn):
        rows = conn.execute(load_queries("retention")["list_partitions"]).fetchall()
    return [
        PartitionRecord(
            bounds=PartitionBounds(name=name, lo=lo, hi=hi), state=state, is_attached=is_attached
        )
        for name, lo, hi, state, is_attached in rows
    ]


def read_runway(conn: Connection, *, now: datetime) -> Runway:
    """Measure how far partitions that take rows reach from `now` without a gap."""
    return runway(now, [record.bounds for record in read_partitions(conn) if record.takes_rows])


def find_granted(conn: Connection) -> list[str]:
    """List partitions that somebody besides the owner may touch; none may exist.

    A grant on a partition reads past the tenant filter of the views (security design, S12).
    """
    with as_owner(conn):
        rows = conn.execute(load_queries("retention")["find_granted_partitions"]).fetchall()
    return [str(row[0]) for row in rows]


@contextmanager
def as_owner(conn: Connection) -> Iterator[None]:
    """One transaction with the owner's rights; `audit_maint` has none of its own."""
    with transaction(conn):
        conn.execute(_SET_OWNER)
        yield


def _create_with_retries(conn: Connection, bounds: PartitionBounds) -> bool:
    attempts = stamina.retry_context(
        on=LockNotAvailable,
        attempts=None,
        timeout=RETRY_TIMEOUT_S,
        wait_initial=0.05,
        wait_max=2.0,
        wait_jitter=0.5,
    )
    for attempt in attempts:
        with attempt:
            return _create(conn, bounds)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _create(conn: Connection, bounds: PartitionBounds) -> bool:
    """Create one partition in one transaction; False if its range is taken already."""
    queries = load_queries("retention")
    with as_owner(conn):
        conn.execute(_SET_LOCK_TIMEOUT)
        conn.execute(queries["lock_partition_ddl"], {"key": DDL_LOCK_KEY})
        # Asked under the lock: a concurrent creator has committed by now, or has not begun.
        found = conn.execute(queries["inspect_partition"], {"name": bounds.name}).fetchone()
        is_there, is_attached = found or (False, False)
        if not is_attached and _is_taken(conn, bounds):
            return False
        if is_there and not is_attached:
            _drop_leftover(conn, bounds.name)
        if not is_attached:
            _build(conn, bounds)
        conn.execute(
            queries["record_partition"], {"name": bounds.name, "lo": bounds.lo, "hi": bounds.hi}
        )
        _refuse_grants(conn, bounds.name)
    return not is_attached


def _is_taken(conn: Connection, bounds: PartitionBounds) -> bool:
    """Whether another partition takes part of the range since this process looked."""
    key = {"name": bounds.name, "lo": bounds.lo, "hi": bounds.hi}
    row = conn.execute(load_queries("retention")["find_taken_range"], key).fetchone()
    return row == (True,)


def _drop_leftover(conn: Connection, name: str) -> None:
    """Drop an empty table that somebody left beside the parent; rows are never dropped.

    Raises:
        DatabaseError: It holds rows.
    """
    table = sql.Identifier("audit", name)
    holds_rows = conn.execute(sql.SQL("select exists (select from {})").format(table)).fetchone()
    if holds_rows is not None and holds_rows[0]:
        message = (
            f"audit.{name} exists, holds rows and is no partition of audit.event: attach it "
            "with its bounds, or rename it, then start again"
        )
        raise DatabaseError(message, name=name)
    conn.execute(sql.SQL("drop table {}").format(table))


def _build(conn: Connection, bounds: PartitionBounds) -> None:
    """Create, index, attach: the parent is locked by the last statements alone."""
    parts = {
        "table": sql.Identifier("audit", bounds.name),
        "key": sql.SQL(PRIMARY_KEY),
        "storage": sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.SQL(name), sql.SQL(value)) for name, value in HOT_STORAGE
        ),
        "lo": sql.Literal(bounds.lo.isoformat()),
        "hi": sql.Literal(bounds.hi.isoformat()),
    }
    conn.execute(_CREATE.format(**parts))
    conn.execute(_CONSTRAIN.format(**parts))
    for index in HOT_INDEXES:
        conn.execute(_index(bounds.name, index))
    conn.execute(_ATTACH.format(**parts))
    conn.execute(_RELAX.format(**parts))


def _index(partition: str, index: HotIndex) -> sql.Composed:
    where: LiteralString = "" if index.where is None else f" where {index.where}"
    return sql.SQL("create index {name} on {table} ({columns}){where}").format(
        name=sql.Identifier(f"{partition}_{index.suffix}"),
        table=sql.Identifier("audit", partition),
        columns=sql.SQL(index.columns),
        where=sql.SQL(where),
    )


def _refuse_grants(conn: Connection, name: str) -> None:
    rows: Sequence[tuple[str]] = conn.execute(
        load_queries("retention")["find_granted_partitions"]
    ).fetchall()
    if name in {row[0] for row in rows}:
        message = (
            f"audit.{name} would be open to more than its owner: remove the "
            "ALTER DEFAULT PRIVILEGES that grants new tables of audit_owner to somebody"
        )
        raise PermissionRefused(message, name=name)
