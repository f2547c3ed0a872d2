"""Drain lease: take, renew, check, release; at most one drain run per shard.

Here: the statements on `audit.drain_lease`. Not here: who decides to start a run
(`sensors/stream_backlog.py`) and what a run does with its shard (`events/drain.py`).
Guarantee: each taking-over raises the fence, and a batch commits only while its fence is the
present one. The lease saves work; that no event is stored twice rests on its identity.

A killed run is known by its session: the kernel closes its connection, PostgreSQL ends the session
that bore its name, and a few seconds later its lease is free, whatever time it had left
(docs/decisions/0008-proof-of-death.md). The time to live is for a process that hangs.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from audit_platform.db.pool import Connection, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import FenceLost

SILENT_S: Final = 8.0
"""Without a session, and for so long without a renewal, the owner of a lease is dead. Four
renewals; also longer than the 6 s after which a drain tries to reach a PostgreSQL that came back:
a server that has just started knows no sessions yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to drain one shard, as long as `fence` is the present one."""

    shard: int
    run_id: str
    fence: int
    ttl_s: float


class LeaseState(StrEnum):
    """What a renewal found."""

    HELD = "held"
    STOP_REQUESTED = "stop_requested"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRow:
    """One row of the lease table, as the sensor and `status` see it."""

    shard: int
    fence: int
    run_id: str | None
    expires_at: datetime | None
    is_stop_requested: bool
    is_live: bool
    """Judged by the server: time left by its clock, and an owner with a session or a renewal in the
    last `SILENT_S`. `expires_at` is None for a lease that was never taken."""


def session_name(shard: int, run_id: str) -> str:
    """Name under which a run connects to PostgreSQL; its lease is dead without a session of it.

    The queries on leases make the same name, after the prefix that every connection of ours bears.
    """
    return f"drain {shard} {run_id}"


def take(
    connection: Connection, *, shard: int, run_id: str, ttl_s: float, dead_run_id: str | None
) -> Lease | None:
    """Take the lease of a shard; None when a live run holds it.

    Args:
        connection: Of the writer, outside a transaction.
        shard: Stream.
        run_id: Who takes it; the same run may take its own lease again.
        ttl_s: Seconds until it is free for others without a renewal.
        dead_run_id: A run that Dagster reports as finished: its lease is dead at once.

    Raises:
        LockNotAvailable: The holder is storing a batch right now, and a lock time-out is set.
        DatabaseUnavailable: No answer.
    """
    queries = load_queries("events")
    with translated():
        connection.execute(queries["add_lease_row"], {"shard": shard})
        row = connection.execute(
            queries["take_lease"],
            {
                "shard": shard,
                "run_id": run_id,
                "ttl_s": ttl_s,
                "dead_run_id": dead_run_id,
                "silent_s": SILENT_S,
            },
        ).fetchone()
    if row is None:
        return None
    return Lease(shard=shard, run_id=run_id, fence=row[0], ttl_s=ttl_s)


def renew(connection: Connection, lease: Lease) -> LeaseState:
    """Extend a lease by its time to live, and say whether it is still held.

    An expired lease that nobody took is extended too: its fence is still the present one.
    """
    with translated():
        row = connection.execute(
            load_queries("events")["renew_lease"],
            {"shard": lease.shard, "fence": lease.fence, "ttl_s": lease.ttl_s},
        ).fetchone()
    if row is None:
        return LeaseState.LOST
    return LeaseState.STOP_REQUESTED if row[0] else LeaseState.HELD


def check_fence(connection: Connection, *, shard: int, fence: int) -> None:
    """Hold the lease row until the present transaction ends.

    Raises:
        FenceLost: Another run took the shard; nothing of this transaction may be committed.
    """
    found = connection.execute(
        load_queries("events")["check_fence"], {"shard": shard, "fence": fence}
    ).fetchone()
    if found is None:
        raise FenceLost(shard=shard, fence=fence)


def release(connection: Connection, lease: Lease) -> None:
    """Free the shard for the next run; does nothing when the lease is lost already."""
    with translated():
        connection.execute(
            load_queries("events")["release_lease"], {"shard": lease.shard, "fence": lease.fence}
        )


def request_stop(connection: Connection) -> int:
    """Ask every live drain run to end after its present batch; returns how many were asked."""
    with translated():
        return connection.execute(load_queries("events")["request_stop"]).rowcount


def read_leases(connection: Connection) -> list[LeaseRow]:
    """Read all leases, in order of shards."""
    with translated():
        rows = connection.execute(
            load_queries("events")["read_leases"], {"silent_s": SILENT_S}
        ).fetchall()
    return [
        LeaseRow(
            shard=shard,
            fence=fence,
            run_id=run_id,
            expires_at=expires_at,
            is_stop_requested=stop,
            is_live=is_live,
        )
        for shard, fence, run_id, expires_at, stop, is_live in rows
    ]
