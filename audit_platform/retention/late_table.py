"""Rows leave `audit.event_late`, and their numbers leave the account `late` with them.

Here: the three ways out, each one statement: into a partition, as known already, as over. Not here:
which rows go which way (`retention/late_rows.py`, `retention/late_known.py`,
`retention/late_expiry.py`), dead letters of those that collide (`retention/late_letters.py`).
Guarantee: in the transaction that takes a row away its number is late no more: the accounts of
producers (`events/completeness.py`) hold before, during and after, whatever is killed.

A number that is no longer late counts as stored: its row is in its partition, was there before, or
its time is over, as for any row of an archive that expired.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from audit_platform.archive.columns import COLUMNS as ARCHIVED_COLUMNS
from audit_platform.archive.lookup import Key
from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.errors import LockNotAvailable
from audit_platform.events.event import JSON_FIELDS
from audit_platform.retention.partition_table import PartitionRow

COLUMNS: Final = (*ARCHIVED_COLUMNS, "leaf_hash")
"""Of an event, as every table of events has them."""

_KEY: Final = sql.SQL('tenant_id, "timestamp", id')
# To follow `taken`, the rows that leave. A number that only one of the two tables of the ledger
# holds stays where it is; whatever empty ranges are left, the next fold of that part takes up.
_NUMBERS: Final = sql.SQL(
    """
    numbers as (
      select producer_id, producer_epoch as epoch,
        range_agg(int8range(least(producer_seq, 9223372036854775806),
          least(producer_seq, 9223372036854775806), '[]')) as r
      from taken
      where producer_id is not null
      group by producer_id, producer_epoch
    ),
    not_folded as (
      update audit.ingest_range as g
      set r = g.r - n.r
      from numbers as n
      where g.kind = 'late' and g.producer_id = n.producer_id and g.epoch = n.epoch and g.r && n.r
    ),
    folded as (
      update audit.producer_numbers as p
      set r = p.r - n.r
      from numbers as n
      where p.kind = 'late' and p.producer_id = n.producer_id and p.epoch = n.epoch and p.r && n.r
    )
    """
)
# One statement, one snapshot: a row that a concurrent writer adds meanwhile is a conflict whose
# leaf the join cannot see. It comes out with a null leaf, and the statement is done again.
_MOVE: Final = sql.SQL(
    """
    with taken as (
      delete from audit.event_late
      where "timestamp" >= {lo} and "timestamp" < {hi}
      returning {columns}
    ),
    {numbers},
    added as (
      insert into {table} ({columns})
      select {columns} from taken order by {key}
      on conflict do nothing
      returning {key}
    ),
    refused as (
      select t.*, e.leaf_hash as stored_leaf
      from taken as t
      left join added as a using ({key})
      left join only {table} as e using ({key})
      where a.id is null and e.leaf_hash is distinct from t.leaf_hash
    )
    select c.n_taken, c.n_added, r.id is not null, r.stored_leaf, {values}
    from (
      select
        (select count(*) from taken) as n_taken,
        (select count(*) from added) as n_added
    ) as c
    left join refused as r on true
    """
)
# The leaf too: a row that was put in its place meanwhile is another one, and stays.
_TAKE_KEYS: Final = sql.SQL(
    """
    with known as (
      select tenant_id, moment, id, leaf_hash
      from unnest(
        %(tenant_ids)s::text[], %(moments)s::timestamptz[], %(ids)s::uuid[], %(leaves)s::bytea[]
      ) as k (tenant_id, moment, id, leaf_hash)
    ),
    taken as (
      delete from audit.event_late as l
      using known as k
      where l.tenant_id = k.tenant_id and l."timestamp" = k.moment and l.id = k.id
        and l.leaf_hash = k.leaf_hash
      returning l.*
    ),
    {numbers}
    select {values} from taken as r
    """
)
_TAKE_PAIRS: Final = sql.SQL(
    """
    with taken as (
      delete from audit.event_late
      where "timestamp" >= {lo} and "timestamp" < {hi}
        and tenant_id = %(tenant_id)s
        and (source, action) in (select * from unnest(%(sources)s::text[], %(actions)s::text[]))
      returning producer_id, producer_epoch, producer_seq
    ),
    {numbers}
    select count(*) from taken
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Rows that left `audit.event_late`, by what became of them.

    Attributes:
        added: Rows their partition has now.
        duplicates: Rows it had already.
        collided: Rows whose key belongs to another event, by column; JSON as its text.
    """

    added: int
    duplicates: int
    collided: Sequence[Mapping[str, Any]]


def move_rows(conn: Connection, row: PartitionRow) -> Moved:
    """Move the late rows of a partition into its table.

    Args:
        conn: As the owner, inside the transaction that also keeps those that collide.
        row: An open partition.

    Raises:
        LockNotAvailable: A writer adds rows with the same keys right now, or the ledger is being
            folded for longer than the lock time-out: try again.
    """
    _hold_ledger(conn)
    statement = _MOVE.format(
        lo=sql.Literal(row.lo.isoformat()),
        hi=sql.Literal(row.hi.isoformat()),
        table=sql.Identifier("audit", row.name),
        columns=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
        key=_KEY,
        numbers=_NUMBERS,
        values=_VALUES,
    )
    found = conn.execute(statement).fetchall()
    n_taken, n_added = found[0][:2]
    refused = [one[3:] for one in found if one[2]]
    if any(stored_leaf is None for stored_leaf, *_ in refused):
        raise LockNotAvailable(f"rows of {row.name} are being added; its late rows come next time")
    collided = [_named(values) for _, *values in refused]
    return Moved(added=n_added, duplicates=n_taken - n_added - len(collided), collided=collided)


def take_rows(conn: Connection, leaves: Mapping[Key, bytes]) -> list[Mapping[str, Any]]:
    """Take rows away that have a place elsewhere.

    Args:
        conn: As the owner, inside a transaction.
        leaves: Of each row, by key; a row with another leaf stays.

    Returns:
        The rows by column; JSON as its text.
    """
    if not leaves:
        return []
    _hold_ledger(conn)
    given = {
        "tenant_ids": [tenant_id for tenant_id, _, _ in leaves],
        "moments": [moment for _, moment, _ in leaves],
        "ids": [event_id for _, _, event_id in leaves],
        "leaves": [*leaves.values()],
    }
    statement = _TAKE_KEYS.format(numbers=_NUMBERS, values=_VALUES)
    return [_named(values) for values in conn.execute(statement, given)]


def take_pairs(
    conn: Connection, row: PartitionRow, tenant_id: str, pairs: Collection[tuple[str, str]]
) -> int:
    """Delete the late rows of a tenant whose time is over.

    Args:
        conn: As the owner, inside the transaction that has seen to it.
        row: Partition whose range they lie in.
        tenant_id: Whose rows.
        pairs: Sources and actions.

    Returns:
        How many there were.
    """
    _hold_ledger(conn)
    statement = _TAKE_PAIRS.format(
        lo=sql.Literal(row.lo.isoformat()),
        hi=sql.Literal(row.hi.isoformat()),
        numbers=_NUMBERS,
    )
    given = {
        "tenant_id": tenant_id,
        "sources": [source for source, _ in pairs],
        "actions": [action for _, action in pairs],
    }
    found = conn.execute(statement, given).fetchone()
    return 0 if found is None else int(found[0])


def _hold_ledger(conn: Connection) -> None:
    """Let nobody fold until this transaction ends: a fold would carry late numbers past it.

    Taken before the statement whose snapshot must see them. A fold that finds it taken leaves
    its work to the next one.
    """
    conn.execute(load_queries("rules")["hold_ledger_folds"])


def _named(values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(COLUMNS, values, strict=True))


def _value(name: str) -> sql.Composed:
    # As text: the driver would parse JSON, and numbers would lose digits.
    template = "r.{}::text" if name in JSON_FIELDS else "r.{}"
    return sql.SQL(template).format(sql.Identifier(name))


_VALUES: Final = sql.SQL(", ").join(_value(name) for name in COLUMNS)
