"""Compares the ledger with the rows it speaks of.

Here: the second look at conservation, from stored rows. Not here: the first, inside the storing
transaction (`events/copy_rows.py`), where COPY must report as many rows as were sent.
Guarantee: bounded work; a statement ends after `TIMEOUT`, and only the newest batches are compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from audit_platform.db.pool import Connection, transaction
from audit_platform.db.queries import load_queries

TIMEOUT: Final = "30s"
NEAR_PAST: Final = timedelta(days=1)
NEAR_FUTURE: Final = timedelta(hours=1)
"""Events of a live stream are this close to their storing; reading all partitions costs more."""
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRows:
    """One ledger row: rows it promises in `audit.event`, and rows that carry its batch id.

    Rows that came late are added when they are merged, under the batch that set them aside.

    Attributes:
        may_be_archived: Whether a partition was sealed after this batch and is not in PostgreSQL
            any more: an import of history, archived the same night. Its rows were compared with
            the ledger before they were archived (`retention/partition_ledger.py`).
    """

    batch_id: str
    n_new: int
    n_late: int
    n_stored: int
    committed_at: datetime
    may_be_archived: bool

    @property
    def is_unjudged(self) -> bool:
        """Whether rows are missing that may lie in the archive."""
        return self.may_be_archived and self.n_stored < self.n_new

    @property
    def is_broken(self) -> bool:
        """Whether there are fewer rows than promised, or more than it can have."""
        is_as_promised = self.n_new <= self.n_stored <= self.n_new + self.n_late
        return not is_as_promised and not self.is_unjudged


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerComparison:
    """The newest batches, newest first."""

    batches: tuple[BatchRows, ...]

    @property
    def rows(self) -> int:
        """Rows that the ledger promises."""
        return sum(batch.n_new for batch in self.batches)

    @property
    def broken(self) -> tuple[BatchRows, ...]:
        """Batches whose rows are not as many as promised."""
        return tuple(batch for batch in self.batches if batch.is_broken)

    @property
    def unjudged(self) -> int:
        """Batches some rows of which may lie in the archive."""
        return sum(batch.is_unjudged for batch in self.batches)


def compare_ledger(conn: Connection, *, batches: int) -> LedgerComparison:
    """Count the rows of the newest batches.

    First near the time of storing, where almost all events are and partitions can be skipped;
    only if rows are missing there (an import of history), once more without bounds.

    Args:
        conn: As the owner.
        batches: How many ledger rows, 1 or more.

    Raises:
        DatabaseUnavailable: Not done within `TIMEOUT` (sqlstate 57014), or no answer.
    """
    now = datetime.now(UTC)
    near = _compare(conn, batches=batches, since=now - NEAR_PAST, until=now + NEAR_FUTURE)
    if not near.broken and not near.unjudged:
        return near
    return _compare(conn, batches=batches, since=_BEGINNING, until=_END)


def _compare(
    conn: Connection, *, batches: int, since: datetime, until: datetime
) -> LedgerComparison:
    with transaction(conn):
        conn.execute(f"set local statement_timeout = '{TIMEOUT}'")
        # One statement, one snapshot: a batch that commits meanwhile is absent from both sides.
        rows: Sequence[tuple[Any, ...]] = conn.execute(
            load_queries("retention")["count_batch_rows"],
            {"batches": batches, "since": since, "until": until},
        ).fetchall()
    return LedgerComparison(
        batches=tuple(
            BatchRows(
                batch_id=str(batch_id),
                n_new=n_new,
                n_late=n_late,
                n_stored=n_stored,
                committed_at=committed_at,
                may_be_archived=may_be_archived,
            )
            for batch_id, n_new, n_late, committed_at, n_stored, may_be_archived in rows
        )
    )
