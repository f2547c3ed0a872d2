"""Completeness: for each run of a producer, what became of every number it gave.

Here: the accounts of the ledger. Not here: counting the rows themselves against them
(`events/row_check.py`), who asks (`cli/completeness.py`, `assets/completeness_check.py`), the words
of a certificate (`events/certificate.py`).
Guarantee: `accepted = stored + late + dead + declared + missing` for every run, from one statement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from audit_platform.db.pool import Connection, transaction
from audit_platform.db.queries import load_queries
from audit_platform.events.number_ranges import Ranges, Run, count, ranges_of
from audit_platform.events.row_check import (
    ArchiveReader,
    Deleted,
    RowCheck,
    compare,
    count_snapshot,
    lock_partitions,
)

SETTLING_S: Final = 900
"""A missing number is judged after this time; until then it may still be on its way."""


class EpochState(StrEnum):
    """What is known about the end of a run."""

    OPEN = "open"
    ENDED = "ended"
    UNCLEAN = "unclean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One run of a producer.

    Attributes:
        producer_id: Producer.
        epoch: Run of its process, or the lane of one.
        name: As the producer names itself, if it did.
        state: Open, ended, or ended by a crash, when the last number may be too low.
        accepted: Highest number known.
        stored: In `audit.event` or its archive, or there already; also after its time was over.
        late: Waiting in `audit.event_late`; stored once it is merged.
        dead: In `audit.dead_letter`.
        declared: Given up and declared, by reason.
        declared_count: The same without reasons; one number may have two.
        missing: Neither arrived nor declared.
        settled_missing: Of these the ones missing for over 15 minutes.
        seen_at: Last arrival, to a minute or two.
        check: Rows counted, if that was asked for.
    """

    producer_id: int
    epoch: int
    name: str | None
    state: EpochState
    accepted: int
    stored: int
    late: int
    dead: int
    declared: Mapping[str, int]
    declared_count: int
    missing: Ranges
    settled_missing: Ranges
    seen_at: datetime
    check: RowCheck | None = None

    @property
    def missing_count(self) -> int:
        """How many numbers are missing."""
        return count(self.missing)

    @property
    def is_complete(self) -> bool:
        """Whether every number is accounted for, by the ledger and by the rows if counted."""
        return not self.missing and (self.check is None or self.check.is_proved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """All accounts asked for, and what has no account."""

    accounts: Sequence[Account]
    left_out: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    """Events that policies left out, by producer and kind (`sampled`, `dropped`)."""
    unstamped: int = 0
    """Events without a number, for which no gap can be seen."""
    deleted: Deleted | None = None
    """What retention deleted, if rows were counted."""

    @property
    def is_complete(self) -> bool:
        """Whether no account has a gap."""
        return all(account.is_complete for account in self.accounts)

    def totals(self) -> dict[str, int]:
        """Sums over all accounts, by the names on reports."""
        return {
            "accepted": sum(one.accepted for one in self.accounts),
            "stored": sum(one.stored for one in self.accounts),
            "late": sum(one.late for one in self.accounts),
            "dead": sum(one.dead for one in self.accounts),
            "declared": sum(one.declared_count for one in self.accounts),
            "missing": sum(one.missing_count for one in self.accounts),
            "sampled": self._left_out("sampled"),
            "dropped by policy": self._left_out("dropped"),
            "without number": self.unstamped,
        }

    def _left_out(self, kind: str) -> int:
        return sum(counts.get(kind, 0) for counts in self.left_out.values())


def read_completeness(
    connection: Connection,
    *,
    producer_ids: Sequence[int] | None = None,
    since: datetime | None = None,
    is_verified: bool = False,
    archive: ArchiveReader | None = None,
) -> Completeness:
    """Read the accounts.

    Args:
        connection: As the owner.
        producer_ids: Only these; None: all.
        since: Only runs heard of since then; None: all.
        is_verified: Also read every row; takes as long as reading the table, and every archived
            file.
        archive: Finds the rows of archived partitions; without it they are not looked for, and
            their numbers come out as without a row.

    Raises:
        DatabaseUnavailable: No answer.
        ArchiveError: A file has no good copy.
    """
    asked: dict[str, Any] = {
        "producer_ids": None if producer_ids is None else list(producer_ids),
        "since": since,
    }
    queries = load_queries("completeness")
    with transaction(connection):
        # One snapshot for all questions: a batch that commits between them would look like a loss.
        connection.execute("set transaction isolation level repeatable read read only")
        if is_verified:
            lock_partitions(connection)
        accounts = connection.execute(queries["list_accounts"], asked).fetchall()
        declared = connection.execute(queries["list_declared"], asked).fetchall()
        left_out = connection.execute(queries["sum_left_out"], asked).fetchall()
        unstamped = connection.execute(queries["sum_unstamped"], asked).fetchone()
        counted = count_snapshot(connection, asked, archive) if is_verified else None
    checks, deleted = ({}, None) if counted is None else compare(counted, producer_ids)
    reasons = _by_epoch(declared)
    return Completeness(
        accounts=(*_accounts(accounts, reasons, checks), *_unknown(checks)),
        left_out=_left_out(left_out),
        unstamped=unstamped[0] if unstamped else 0,
        deleted=deleted,
    )


def _accounts(
    rows: Sequence[tuple[Any, ...]],
    reasons: Mapping[Run, Mapping[str, int]],
    checks: Mapping[Run, RowCheck],
) -> tuple[Account, ...]:
    return tuple(
        Account(
            producer_id=producer_id,
            epoch=epoch,
            name=name,
            state=_state(is_ended=is_ended, is_unclean=is_unclean),
            accepted=max_seq,
            stored=stored,
            late=late,
            dead=dead,
            declared=reasons.get((producer_id, epoch), {}),
            declared_count=declared,
            missing=ranges_of(missing),
            settled_missing=ranges_of(settled),
            seen_at=seen_at,
            check=checks.get((producer_id, epoch)),
        )
        for (
            producer_id,
            epoch,
            name,
            is_ended,
            is_unclean,
            max_seq,
            stored,
            late,
            dead,
            declared,
            missing,
            settled,
            seen_at,
        ) in rows
    )


def _unknown(checks: Mapping[Run, RowCheck]) -> tuple[Account, ...]:
    """Accounts of runs that only rows speak of: their ledger is gone."""
    return tuple(
        Account(
            producer_id=producer_id,
            epoch=epoch,
            name=None,
            state=EpochState.OPEN,
            accepted=0,
            stored=0,
            late=0,
            dead=0,
            declared={},
            declared_count=0,
            missing=(),
            settled_missing=(),
            seen_at=check.counted_at,
            check=check,
        )
        for (producer_id, epoch), check in checks.items()
        if check.is_unknown
    )


def _state(*, is_ended: bool, is_unclean: bool) -> EpochState:
    if is_unclean:
        return EpochState.UNCLEAN
    return EpochState.ENDED if is_ended else EpochState.OPEN


def _by_epoch(rows: Sequence[tuple[Any, ...]]) -> dict[Run, dict[str, int]]:
    found: dict[Run, dict[str, int]] = {}
    for producer_id, epoch, reason, number in rows:
        found.setdefault((producer_id, epoch), {})[reason] = number
    return found


def _left_out(rows: Sequence[tuple[Any, ...]]) -> dict[int, dict[str, int]]:
    found: dict[int, dict[str, int]] = {}
    for producer_id, kind, number in rows:
        found.setdefault(producer_id, {})[kind] = number
    return found
