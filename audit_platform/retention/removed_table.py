"""Tables that restores and drills made, and how they go again.

Here: their names and remarks, dropping one, dropping all that belong to a partition. Not here:
making and filling them (`retention/restored_table.py`), attaching (`retention/reattach.py`).
Guarantee: only a table with the remark of a restore is dropped, and never one that searches read.

    audit.restored_<name>    beside the archive, wanted until somebody removes it
    audit.drill_<name>       of a drill that was killed; the next drill of the day replaces it
    audit.<name>             of a restore that was killed before it could attach the table; the next
                             one replaces it
"""

from datetime import datetime
from typing import Final

from psycopg import sql

from audit_platform.crash_points import crash
from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.errors import StepRefused
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import (
    PartitionRow,
    note_restored,
    one_at_a_time,
    read_partition,
)

REMARK: Final = "Restored from the archive"
"""Begins the comment of every table that a restore or a drill makes."""
NOT_PROVED: Final = f"{REMARK}; not proved yet"
"""Comment of such a table while it is empty: its rows come in the transaction that proves them."""

_DROP: Final = sql.SQL("drop table if exists {table}")


def beside_name(partition: str) -> str:
    """Table that holds a partition beside its archive."""
    return f"restored_{partition}"


def drill_name(partition: str) -> str:
    """Table of a drill."""
    return f"drill_{partition}"


def is_unproved(conn: Connection, table: str) -> bool:
    """Whether a table is there that a restore made and could not fill before it was killed."""
    is_there, _, remark = _inspect(conn, table)
    return is_there and remark == NOT_PROVED


def drop_table(conn: Connection, table: str) -> bool:
    """Drop a table that a restore made; False if there is none.

    Raises:
        StepRefused: It is a partition, or no restore made it.
    """
    with as_owner(conn):
        is_there, is_attached, remark = _inspect(conn, table)
        if not is_there:
            return False
        if is_attached or not str(remark).startswith(REMARK):
            raise StepRefused(
                f"audit.{table} was not made by a restore, or is in use as a partition",
                name=table,
                reason="exists",
            )
        conn.execute(_DROP.format(table=sql.Identifier("audit", table)))
    return True


def remove_restored(conn: Connection, row: PartitionRow, *, now: datetime) -> tuple[str, ...]:
    """Drop what earlier restores and drills made of a partition, finished or killed.

    A partition that was attached again stays: its life goes on by itself.

    Args:
        conn: As `audit_maint` or the owner, outside a transaction.
        row: The partition; its state is read again under its lock.
        now: Aware.

    Returns:
        The tables that this call dropped, without schema.

    Raises:
        StepRefused: A table beside the archive was not made by a restore.
        PartitionBusy: Another process works on it.
    """
    beside = beside_name(row.name)
    with one_at_a_time(conn, row.name), as_owner(conn):
        tables = [beside, drill_name(row.name)]
        if _is_left_behind(conn, read_partition(conn, row.name) or row):
            tables.append(row.name)
        dropped = tuple(table for table in tables if drop_table(conn, table))
        crash("R_REMOVED")
        note_restored(conn, row.name, table=None, before=beside, now=now)
    return dropped


def _is_left_behind(conn: Connection, row: PartitionRow) -> bool:
    """Whether the table of the partition itself is what a killed restore left of it.

    The table of a detached partition holds its rows, whoever made it, unless it is empty.
    """
    is_there, is_attached, remark = _inspect(conn, row.name)
    if not is_there or is_attached:
        return False
    if row.state is State.DROPPED:
        return str(remark).startswith(REMARK)
    return row.state is State.DETACHED and remark == NOT_PROVED


def _inspect(conn: Connection, table: str) -> tuple[bool, bool, str | None]:
    """Whether a table is there, whether it is a partition, and its comment."""
    with as_owner(conn):
        found = conn.execute(
            load_queries("restore")["inspect_restored_table"], {"name": table}
        ).fetchone()
    return found or (False, False, None)
