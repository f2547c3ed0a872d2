"""Indexes of a sealed partition: what would cost too much while events arrive.

Here: which ones, and building them once no row is added any more; then VACUUM and ANALYZE. Not
here: the btree indexes that a partition has from its first row (`retention/partition.py`), how a
search uses them (`search/hot.py`).
Guarantee: safe to run again and after a kill: an index is whole or absent, and present ones are
left alone; readers never wait, writers of other partitions neither.

Each index is built by a plain CREATE INDEX: it keeps writers out, whom the seal refuses anyway, and
a killed one leaves nothing, whereas CONCURRENTLY would leave an invalid index and wait for every
old snapshot of the database. The parent has no such index: ATTACH and DETACH do not care.

Measured (storage design, section 2): GIN costs 4 to 8 microseconds a row beside an insert, 4 to 7
in bulk: little less, but not while a producer waits.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, LiteralString

import stamina
from psycopg import sql

from audit_platform.crash_points import crash
from audit_platform.db.pool import Connection, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import LockNotAvailable, PartitionLost, PermissionRefused
from audit_platform.retention.lifecycle import as_owner

SEARCH_TEXT: Final[LiteralString] = (
    "to_tsvector('pg_catalog.simple'::regconfig, action || ' ' || coalesce(description, '')"
    " || ' ' || coalesce(entity_label, ''))"
)
"""What full text covers. A query finds the index only by this very expression.

`simple` and not a language: events mix languages, codes and names, and a stemmer would make two
names one. Named in full, since an index takes only what no setting of a session can change.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdIndex:
    """An index that partitions carry from their seal on.

    Attributes:
        suffix: Last part of its name: `<partition>_<suffix>`.
        definition: What follows the name of the table.
    """

    suffix: str
    definition: LiteralString


COLD_INDEXES: Final = (
    # serves `metadata::jsonb @> …` and path conditions; path_ops is half the size of jsonb_ops
    ColdIndex(suffix="metadata", definition="using gin ((metadata::jsonb) jsonb_path_ops)"),
    # serves "who changed this field"; most events change nothing and need no entry
    ColdIndex(
        suffix="changes",
        definition="using gin ((changes::jsonb) jsonb_path_ops) where changes is not null",
    ),
    # serves words in action, description and label
    ColdIndex(suffix="text", definition="using gin ((" + SEARCH_TEXT + "))"),
    # serves the events of one part of the application
    ColdIndex(suffix="source", definition='(tenant_id, source, action, "timestamp" desc)'),
)
LOCK_TIMEOUT: Final = "200ms"
"""A writer that does not know of the seal yet queues behind the waiting lock."""
PATIENCE: Final = timedelta(minutes=10)
"""Autovacuum holds a large table for minutes, and nobody waits for these indexes."""

_SET_LOCK_TIMEOUT: Final = sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
# GIN in bulk sorts in memory: with the usual 64 MB it goes through the disk four times as often.
_SET_MEMORY: Final = sql.SQL("set local maintenance_work_mem = '256MB'")
# One core: the other ones belong to the drains, and a sealed day is in no hurry.
_SET_WORKERS: Final = sql.SQL("set local max_parallel_maintenance_workers = 0")
_CREATE: Final = sql.SQL("create index if not exists {name} on {table} {definition}")
# Not truncated: giving pages back would lock readers out, and a sealed table has none to give.
# Frozen: the rows never change again, so no later vacuum has to write these pages.
_VACUUM: Final = sql.SQL("vacuum (freeze, analyze, truncate false, parallel 0) {table}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """What was built.

    Attributes:
        created: Names of the indexes that this call built.
        seconds: Vacuum included.
    """

    created: tuple[str, ...]
    seconds: float


def lacks_cold_indexes(conn: Connection, name: str) -> bool:
    """Whether one of the indexes is not there.

    Raises:
        PartitionLost: There is no such table.
    """
    present = _present(conn, name)
    return any(f"{name}_{index.suffix}" not in present for index in COLD_INDEXES)


def build_cold_indexes(
    conn: Connection, name: str, *, patience: timedelta = PATIENCE
) -> IndexReport:
    """Build the indexes that are missing, then freeze and analyse the table.

    Args:
        conn: As `audit_maint` or the owner, in autocommit mode, outside a transaction.
        name: Of a sealed partition, without schema.
        patience: Longest time of retries against other maintenance of the same table.

    Raises:
        PartitionLost: There is no such table.
        LockNotAvailable: Something held the table for longer than `patience`.
        PermissionRefused: The login does not inherit the rights of the owner.
        DatabaseError: An index cannot be built.
    """
    began_s = time.monotonic()
    present = _present(conn, name)
    created = tuple(
        f"{name}_{index.suffix}"
        for index in COLD_INDEXES
        if f"{name}_{index.suffix}" not in present and _create(conn, name, index, patience)
    )
    _vacuum(conn, name)
    crash("S_INDEXED")
    return IndexReport(created=created, seconds=time.monotonic() - began_s)


def _present(conn: Connection, name: str) -> set[str]:
    queries = load_queries("partitions")
    with as_owner(conn):
        found = conn.execute(
            load_queries("retention")["inspect_partition"], {"name": name}
        ).fetchone()
        if found is None or not found[0]:
            raise PartitionLost(f"there is no table audit.{name} to index", name=name)
        rows = conn.execute(queries["list_table_indexes"], {"name": name}).fetchall()
    return {row[0] for row in rows}


def _create(conn: Connection, name: str, index: ColdIndex, patience: timedelta) -> bool:
    statement = _CREATE.format(
        name=sql.Identifier(f"{name}_{index.suffix}"),
        table=sql.Identifier("audit", name),
        definition=sql.SQL(index.definition),
    )
    attempts = stamina.retry_context(
        on=LockNotAvailable,
        attempts=None,
        timeout=patience.total_seconds(),
        wait_initial=0.05,
        wait_max=5.0,
        wait_jitter=0.5,
    )
    for attempt in attempts:
        with attempt, as_owner(conn):
            for setting in (_SET_LOCK_TIMEOUT, _SET_MEMORY, _SET_WORKERS):
                conn.execute(setting)
            conn.execute(statement)
    return True


def _vacuum(conn: Connection, name: str) -> None:
    """Freeze and analyse; VACUUM refuses a transaction, so it runs with inherited rights.

    Raises:
        PermissionRefused: Without the rights PostgreSQL would warn, skip the table and succeed.
    """
    queries = load_queries("partitions")
    with translated():
        role = conn.execute(queries["read_current_role"]).fetchone()
    with as_owner(conn):  # only the owner may look into the schema for certain
        key = {"name": name, "role_name": role and role[0]}
        right = conn.execute(queries["find_vacuum_right"], key).fetchone()
    if right != (True,):
        raise PermissionRefused(
            f"this login may not vacuum audit.{name}: let it inherit the rights of the owner "
            "(GRANT audit_owner TO audit_maint WITH INHERIT TRUE)",
            name=name,
        )
    with translated():
        conn.execute(_VACUUM.format(table=sql.Identifier("audit", name)))
