"""What the database holds after the demo's traffic: ids, dead letters, ledger, lag.

Here: reading it as the owner. Not here: the comparison (`traffic_balance.py`).
Guarantee: nothing is changed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from audit_platform.db.pool import Connection, translated
from audit_platform.db.queries import load_queries
from audit_platform.events.dead_letter import DeadLetter, DeadLetterVault, list_dead_letters
from audit_platform.local.traffic.faults import event_key

_PAGE_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The ledger added up; `last_commit_at` is None before the first batch."""

    read_count: int
    new_count: int
    duplicate_count: int
    late_count: int
    bad_count: int
    batch_count: int
    run_count: int
    last_commit_at: datetime | None

    @property
    def settled_count(self) -> int:
        """Events that have found their place, each counted once."""
        return self.new_count + self.late_count + self.bad_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Everything the three tables hold, by key, one entry per row."""

    stored: tuple[str, ...]
    late: tuple[str, ...]
    dead: tuple[str, ...]
    dead_by_reason: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """Seconds from the queue to the table; None without rows."""

    lag_p50_s: float | None
    lag_p99_s: float | None


def read_found(connection: Connection, vault: DeadLetterVault) -> Found:
    """Read every id, and decrypt every dead letter to find its id.

    Args:
        connection: As `audit_owner`.
        vault: With the key of this platform.

    Raises:
        ValueError: A dead letter was made with another key.
    """
    letters = list(_all_dead_letters(connection, vault))
    return Found(
        stored=_ids(connection, "list_stored_ids"),
        late=_ids(connection, "list_late_ids"),
        dead=tuple(_key_of(letter) for letter in letters),
        dead_by_reason=Counter(letter.reason for letter in letters),
    )


def read_ledger(connection: Connection) -> Ledger:
    """Add up the ledger."""
    return Ledger(**_only_row(connection, "sum_ledger", {}))


def measure_lag(connection: Connection, *, since: datetime) -> Lag:
    """Measure the lag of the rows that the queue accepted at or after `since`."""
    return Lag(**_only_row(connection, "measure_lag", {"since": since}))


def _only_row(connection: Connection, query: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Row of an aggregate by column name; such a query always has one."""
    with translated(), connection.cursor() as cursor:
        (row,) = cursor.execute(load_queries("demo")[query], values).fetchall()
        return dict(zip((column.name for column in cursor.description or ()), row, strict=True))


def _ids(connection: Connection, query: str) -> tuple[str, ...]:
    with translated():
        rows = connection.execute(load_queries("demo")[query]).fetchall()
    return tuple(str(row[0]) for row in rows)


def _all_dead_letters(connection: Connection, vault: DeadLetterVault) -> Iterator[DeadLetter]:
    before_id: int | None = None
    while page := list_dead_letters(connection, vault, limit=_PAGE_ROWS, before_id=before_id):
        yield from page
        before_id = page[-1].dead_id


def _key_of(letter: DeadLetter) -> str:
    if letter.raw is None:
        raise ValueError(f"dead letter {letter.dead_id} was made with another key")
    return event_key(letter.raw)
