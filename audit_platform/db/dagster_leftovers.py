"""What Dagster leaves in its storage when a run is deleted: found, and deleted in batches.

Here: events whose run is gone (a process was killed between the two deletions), and results of
asset checks, which Dagster keeps for ever. Not here: runs and ticks, which go through Dagster's
own interface (`jobs/finished_runs.py`, `jobs/old_ticks.py`); snapshots of jobs, of which there is
one per version of the code.
Guarantee: nothing of a run that exists is deleted; the newest result of each check stays, so that
its page still shows it. The statements stand here and not in `db/queries/`, because those prepare
on the audit schema, and Dagster has a database of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from psycopg import sql

from audit_platform.db.pool import Connection, translated

ROWS_AT_ONCE: Final = 2_000

# Dagster's columns are UTC without a zone.
_EVENTS: Final[LiteralString] = """
e.run_id <> ''
  and e."timestamp" < (%(before)s::timestamptz at time zone 'UTC')
  and not exists (select from runs as r where r.run_id = e.run_id)
"""
_CHECKS: Final[LiteralString] = """
e.create_timestamp < (%(before)s::timestamptz at time zone 'UTC')
  and not exists (select from runs as r where r.run_id = e.run_id)
  and exists (
    select
    from asset_check_executions as newer
    where newer.asset_key = e.asset_key
      and newer.check_name = e.check_name
      and newer.partition is not distinct from e.partition
      and newer.id > e.id
  )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One kind of rows that nothing refers to any more."""

    name: str
    table: LiteralString
    where: LiteralString


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedLeftovers:
    """What was found and done for one kind."""

    name: str
    due: int
    deleted: int


LEFTOVERS: Final = (
    Leftover(name="events of deleted runs", table="event_logs", where=_EVENTS),
    Leftover(name="check results of deleted runs", table="asset_check_executions", where=_CHECKS),
)
_IS_THERE: Final = (
    "select count(to_regclass(t)) = 3"
    " from unnest(array['runs', 'event_logs', 'asset_check_executions']) as t"
)
_TIMEOUT: Final = "set statement_timeout = '60s'"
_COUNT: Final = sql.SQL("select count(*) from {table} as e where {where}")
_DELETE: Final = sql.SQL(
    "delete from {table} where id in"
    " (select e.id from {table} as e where {where} order by e.id limit %(batch)s)"
)


def delete_leftovers(
    conn: Connection,
    leftover: Leftover,
    *,
    before: datetime,
    most: int,
    is_time_up: Callable[[], bool],
) -> DeletedLeftovers:
    """Delete one kind of leftovers, the oldest first, in batches of `ROWS_AT_ONCE`.

    Args:
        conn: To Dagster's database, as its login; autocommit.
        leftover: Which rows.
        before: Aware; younger rows stay, because their run may just be being made.
        most: Rows deleted at most; 0 only counts.
        is_time_up: Asked before each batch; True ends the call early.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer, or a batch took over a minute.
    """
    parts = {"table": sql.Identifier(leftover.table), "where": sql.SQL(leftover.where)}
    with translated():
        conn.execute(_TIMEOUT)
        if not _is_there(conn):
            return DeletedLeftovers(name=leftover.name, due=0, deleted=0)
        counted = conn.execute(_COUNT.format(**parts), {"before": before}).fetchone()
        due, deleted = int(counted[0]) if counted else 0, 0
        while deleted < min(due, most) and not is_time_up():
            batch = min(ROWS_AT_ONCE, most - deleted)
            gone = conn.execute(
                _DELETE.format(**parts), {"before": before, "batch": batch}
            ).rowcount
            deleted += gone
            if not gone:
                break
    return DeletedLeftovers(name=leftover.name, due=due, deleted=deleted)


def _is_there(conn: Connection) -> bool:
    """Whether Dagster has made its tables in this database; its storage may be another one."""
    row = conn.execute(_IS_THERE).fetchone()
    return row is not None and bool(row[0])
