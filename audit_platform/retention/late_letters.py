"""Late rows whose key is taken by another event: dead letters, as at ingest.

Here: a stored row back into the form that producers send, and the two records of it. Not here:
which rows those are (`retention/late_rows.py`), what becomes of dead letters (`events/redrive.py`).
Guarantee: inside the transaction that takes the rows away, so none is lost; the ledger counts
their numbers as dead, like those of events refused at ingest.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.events.control_events import LedgerRange, RangeKind
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.event import EVENT_FIELDS, ActorType, AuditEvent, EventStatus, to_wire
from audit_platform.events.reject import RejectReason

_COLLISION: Final = "id: it is stored already with another content; mint a new id for each event"


def keep_collided(
    conn: Connection, vault: DeadLetterVault, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Make dead letters of rows, inside the transaction of the caller.

    Args:
        conn: As the owner.
        vault: Encrypts them.
        rows: Columns of `audit.event_late` by name; JSON as its text.
    """
    if not rows:
        return
    sealed = [vault.seal(wire_of(row)) for row in rows]
    conn.execute(
        load_queries("events")["insert_dead_letters"],
        {
            "raw_digest": [one.digest for one in sealed],
            "reason": [RejectReason.ID_COLLISION.value] * len(sealed),
            "detail": [_COLLISION] * len(sealed),
            # The entry it came with is long gone from the stream; 1: its only line.
            "entry_id": [None] * len(sealed),
            "line_no": [1] * len(sealed),
            "raw": [one.ciphertext for one in sealed],
            "shard": 0,
            "key_id": vault.key_id,
        },
    )
    _count_as_dead(conn, rows)


def wire_of(row: Mapping[str, Any]) -> bytes:
    """Write a stored row as its producer could have sent it.

    Args:
        row: Columns by name; JSON as its text.
    """
    values = {spec.name: row[spec.name] for spec in EVENT_FIELDS}
    for name in ("id", "bulk_action_id"):
        values[name] = None if values[name] is None else str(values[name])
    values["status"] = EventStatus(values["status"])
    values["actor_type"] = ActorType(values["actor_type"])
    return to_wire(AuditEvent(**values))


def _count_as_dead(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    numbered = [row for row in rows if row["producer_id"] is not None]
    numbered.sort(key=lambda row: str(row["batch_id"]))
    for batch_id, group in groupby(numbered, key=lambda row: row["batch_id"]):
        ranges = [
            LedgerRange(
                row["producer_id"],
                row["producer_epoch"],
                RangeKind.DEAD,
                None,
                row["producer_seq"],
                row["producer_seq"],
            )
            for row in group
        ]
        arrays = {
            name: [one[number] for one in ranges] for number, name in enumerate(LedgerRange._fields)
        }
        conn.execute(load_queries("events")["insert_ranges"], {"batch_id": batch_id, **arrays})
