"""Compares the rows of one partition with the ledger rows that speak of them.

Here: the look before a partition is archived. Not here: the hourly look at the newest batches
(`retention/ledger.py`), the look inside the storing transaction (`events/copy_rows.py`).
Guarantee: a row that no ledger row accounts for is found, also one that was written past the
ingest job; rows missing from a batch are found as long as the batch reaches into no archived range.

A batch may lie in several partitions: around midnight, and in imports of history. Rows that came
late carry the batch that set them aside, so that a batch stands for `n_new` to `n_new + n_late`
rows of `audit.event`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from audit_platform.db.pool import Connection, transaction
from audit_platform.db.queries import load_queries

LEDGER_REASON: Final = "ledger"
"""Field `reason` of a refusal to export rows that the ledger does not account for."""
TIMEOUT: Final = "10min"
"""Two passes over a partition of 50 million rows; a repeat would take as long."""
_NAMED: Final = 5
_NEAR: Final = timedelta(days=1)
"""Batches of a live stream end within this distance of their partition; imports may not."""
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLedger:
    """What the ledger says about the rows of one partition.

    Attributes:
        name: The partition.
        rows: Rows in it.
        batches: Batches they came in.
        unknown: Batches without a ledger row.
        exceeding: Batches with more rows here than were stored.
        short: Batches with fewer rows in all attached partitions than were stored.
        unjudged: Batches whose other rows may be in archived partitions.
    """

    name: str
    rows: int
    batches: int
    unknown: tuple[str, ...]
    exceeding: tuple[str, ...]
    short: tuple[str, ...]
    unjudged: int

    @property
    def is_conserved(self) -> bool:
        """Whether nothing contradicts the ledger."""
        return not (self.unknown or self.exceeding or self.short)

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        findings = [
            f"{len(batches):,} {what} ({', '.join(batches[:_NAMED])})"
            for batches, what in (
                (self.unknown, "batches have no ledger row"),
                (self.exceeding, "batches have more rows than were stored"),
                (self.short, "batches have fewer rows than were stored"),
            )
            if batches
        ]
        if findings:
            return f"{self.name}: {'; '.join(findings)}"
        return f"{self.rows:,} rows of {self.batches:,} batches of {self.name} are accounted for"


def compare_partition(
    conn: Connection, name: str, *, lo: datetime, hi: datetime
) -> PartitionLedger:
    """Count the rows of a partition by batch and compare them with the ledger.

    Args:
        conn: As the owner, outside a transaction; reads one partition as a whole, and others only
            if a batch has rows in them.
        name: An attached partition.
        lo: Its first moment.
        hi: Its end, exclusive.

    Raises:
        DatabaseUnavailable: Not done within `TIMEOUT` (sqlstate 57014), or no answer.
    """
    with transaction(conn):
        # One snapshot for all counts: what a drain stores meanwhile is in none of them.
        conn.execute("set transaction isolation level repeatable read, read only")
        conn.execute(f"set local statement_timeout = '{TIMEOUT}'")
        found = conn.execute(
            load_queries("lifecycle")["count_partition_batches"], {"lo": lo, "hi": hi}
        ).fetchone()
        if found is None:
            raise AssertionError("unreachable: an aggregate returns one row")
        rows, batches, unknown, exceeding, spread = found
        short, unjudged = _judge_spread(conn, spread, lo=lo, hi=hi)
    return PartitionLedger(
        name=name,
        rows=rows,
        batches=batches,
        unknown=_ids(unknown),
        exceeding=_ids(exceeding),
        short=short,
        unjudged=unjudged,
    )


def _judge_spread(
    conn: Connection, spread: Sequence[Any], *, lo: datetime, hi: datetime
) -> tuple[tuple[str, ...], int]:
    """Look for the rest of the batches that have fewer rows here: nearby, then everywhere."""
    short = _short(conn, spread, since=lo - _NEAR, until=hi + _NEAR)
    if not short:
        return (), 0
    archived = conn.execute(load_queries("lifecycle")["count_archived_partitions"]).fetchone()
    if archived is not None and archived[0]:
        return (), len(short)
    return _ids(_short(conn, short, since=_BEGINNING, until=_END)), 0


def _short(
    conn: Connection, batches: Sequence[Any], *, since: datetime, until: datetime
) -> list[Any]:
    if not batches:
        return []
    asked = {"batches": list(batches), "since": since, "until": until}
    rows = conn.execute(load_queries("lifecycle")["find_short_batches"], asked).fetchall()
    return [row[0] for row in rows]


def _ids(batches: Sequence[Any]) -> tuple[str, ...]:
    return tuple(sorted(str(batch) for batch in batches))
