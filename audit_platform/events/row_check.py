"""Rows counted against the ledger: rows of PostgreSQL, and of archived files if there are any.

Here: the rows of PostgreSQL as numbers, both sides compared. Not here: the accounts
(`events/completeness.py`), reading files (`search/archived_numbers.py`: events know no archive, so
the caller hands a reader in).
Guarantees: which partitions are archived, the rows that PostgreSQL holds and the ledger are of one
snapshot, so that a row is counted in one place also while its partition moves. Files are read after
that transaction: no detach and no vacuum waits for them.

What retention deleted is known as a number of rows only: nothing keeps which numbers they carried.
So numbers without a row are excused while they are no more than the rows that were deleted. As long
as nothing was deleted that is exact. Afterwards it is an upper bound, of all producers and with the
rows that never had a number: a row that somebody removed can hide behind a deleted one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.events.number_ranges import Ranges, Run, count, minus, ranges_of

if TYPE_CHECKING:
    from audit_platform.events.row_numbers import RowNumbers

# LOCK cannot be prepared, so it stands here. Before the first SELECT, so before the snapshot: a
# detach that began earlier is waited for, a later one waits for us (see `search/border.py`).
_LOCK: Final = "lock table only audit.event in access share mode"
_FETCHED: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """Rows that retention deleted, of all producers, with and without a number.

    Attributes:
        archived: In archive files whose time was over.
        late: Late rows of days whose files are gone, as the events about their deletion say.
    """

    archived: int = 0
    late: int = 0

    @property
    def rows(self) -> int:
        """Both together."""
        return self.archived + self.late


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedCount:
    """What archived files hold."""

    numbers: "RowNumbers"
    deleted: Deleted


class ArchivedRows(Protocol):
    """Archived partitions of one snapshot."""

    @property
    def spans(self) -> Sequence[tuple[datetime, datetime]]:
        """Their ranges, start included, end not: rows in them are counted from files."""
        ...

    def count(self, producer_ids: Sequence[int] | None) -> ArchivedCount:
        """Read their files; None: all producers.

        Raises:
            ArchiveError: A file has no good copy; names it and says what to do.
        """
        ...


class ArchiveReader(Protocol):
    """Finds what is archived."""

    def __call__(self, connection: Connection, /) -> ArchivedRows:
        """Read the records of partitions, inside the transaction of the count; no files yet."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCheck:
    """Rows counted, not believed.

    Attributes:
        rows: Rows that carry a number of this run, on time, late and archived.
        without_row: Numbers that the ledger calls stored and no row carries. The row was removed,
            its time was over, or the event was stored before under another number.
        without_ledger: Numbers that rows carry and the ledger does not know.
        is_unknown: The ledger knows nothing of this run.
        is_excused: Retention deleted at least as many rows as there are numbers without a row, of
            all runs that were counted together.
        counted_at: Moment of the count.
    """

    rows: int
    without_row: Ranges
    without_ledger: Ranges
    is_unknown: bool
    is_excused: bool = False
    counted_at: datetime

    @property
    def is_proved(self) -> bool:
        """Whether rows and ledger agree, or may: see the module about deleted rows."""
        return not self.without_ledger and (self.is_excused or not self.without_row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One snapshot: its ledger, its rows in PostgreSQL, and what it says is archived."""

    ledger: Mapping[Run, tuple[Ranges, Ranges]]
    """Numbers that need a row, and all that arrived."""
    numbers: "RowNumbers"
    archived: ArchivedRows | None
    counted_at: datetime


def lock_partitions(connection: Connection) -> None:
    """Keep partitions where they are until the transaction ends; its first statement."""
    connection.execute(_LOCK)


def count_snapshot(
    connection: Connection, asked: Mapping[str, Any], reader: ArchiveReader | None
) -> Counted:
    """Read the rows of PostgreSQL.

    Args:
        connection: In a repeatable-read transaction that began with `lock_partitions`.
        asked: With `producer_ids`: only these, None: all.
        reader: None where nothing is archived.
    """
    # The daily check uses the accounts without rows; its processes do without Polars.
    from audit_platform.events.row_numbers import RowNumbers  # noqa: PLC0415 - see above

    queries = load_queries("completeness")
    archived = None if reader is None else reader(connection)
    spans = [] if archived is None else archived.spans
    given = {**asked, "los": [lo for lo, _ in spans], "his": [hi for _, hi in spans]}
    ledger = connection.execute(queries["list_ledger_numbers"], asked).fetchall()
    moment = connection.execute(queries["read_count_moment"]).fetchone()
    assert moment is not None  # noqa: S101 - a SELECT without FROM gives a row
    numbers = RowNumbers()
    islands = connection.execute(queries["list_numbered_islands"], given)
    while rows := islands.fetchmany(_FETCHED):
        numbers.add_islands(rows)
    return Counted(
        ledger={
            (producer_id, epoch): (ranges_of(wanted), ranges_of(got))
            for producer_id, epoch, wanted, got in ledger
        },
        numbers=numbers,
        archived=archived,
        counted_at=moment[0],
    )


def compare(
    counted: Counted, producer_ids: Sequence[int] | None
) -> tuple[dict[Run, RowCheck], Deleted]:
    """Add the rows of the archive, and compare all with the ledger; outside the transaction.

    Raises:
        ArchiveError: As `ArchivedRows.count`.
    """
    deleted = Deleted()
    numbers = counted.numbers
    if counted.archived is not None:
        cold = counted.archived.count(producer_ids)
        deleted = cold.deleted
        numbers.add(cold.numbers)
    found = numbers.by_run()
    apart = {
        run: _apart(counted.ledger.get(run, ((), ())), found.get(run, (0, ())))
        for run in sorted(counted.ledger.keys() | found.keys())
    }
    is_excused = sum(count(without_row) for _, without_row, _ in apart.values()) <= deleted.rows
    checks = {
        run: RowCheck(
            rows=rows,
            without_row=without_row,
            without_ledger=without_ledger,
            is_unknown=run not in counted.ledger,
            is_excused=is_excused and bool(without_row),
            counted_at=counted.counted_at,
        )
        for run, (rows, without_row, without_ledger) in apart.items()
    }
    return checks, deleted


def _apart(ledger: tuple[Ranges, Ranges], found: tuple[int, Ranges]) -> tuple[int, Ranges, Ranges]:
    (wanted, got), (rows, numbers) = ledger, found
    return rows, minus(wanted, numbers), minus(numbers, got)
