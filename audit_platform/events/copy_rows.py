"""The consumer transaction: one batch into PostgreSQL, with its ledger row.

Here: the transaction, the direct COPY, and the choice of path after an error about the data. Not
here: the merge path (`events/merge_rows.py`), splitting by partition (`events/split_rows.py`),
what is written beside the rows (`events/ledger.py`), retries after an outage and the
acknowledgement (`events/drain.py`).
Guarantee: a batch is committed as a whole or not at all; what is committed obeys
`n_read = n_new + n_dup + n_late + n_bad`; storing a batch again adds no row.

Source: delivery design, sections 7 and 8.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import polars as pl

from audit_platform.crash_points import crash
from audit_platform.db.pool import Connection, transaction, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import (
    DatabaseError,
    PartitionMissing,
    Redelivered,
    RowCountMismatch,
    RowRefused,
)
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.frame import FrameResult
from audit_platform.events.lease import check_fence
from audit_platform.events.ledger import BatchContext, BatchCounts, StorePath, write_ledger
from audit_platform.events.merge_rows import EVENT, ROW_NO, Loaded, Merge, Refusal, copy_into
from audit_platform.events.ready_frame import COLUMNS, ReadyFrame, with_batch_id
from audit_platform.events.split_rows import PartitionRanges, Split, read_ranges, split_rows

# Beyond this many named rows a bisection is cheaper (delivery design, section 8).
MAX_NAMED_ROWS: Final = 20
_LEDGER_KEY: Final = "ingest_batch_pkey"
# An even sample is enough for percentiles; 20,000 rows give 2,500 values.
_LAG_STRIDE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionLimits:
    """Time-outs of one batch's transaction, in PostgreSQL's notation."""

    lock_timeout: str = "2s"
    statement_timeout: str = "60s"
    idle_timeout: str = "30s"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How to try next; each error about the data changes it, so that attempts are bounded."""

    rows: pl.DataFrame
    copy_data: bytes | None
    refused: tuple[Refusal, ...] = ()
    path: StorePath = StorePath.COPY
    is_isolating: bool = False
    reloads: int = 0


class RowStore:
    """Stores frames; holds the known partition ranges between batches."""

    def __init__(
        self,
        connection: Callable[[], Connection],
        vault: DeadLetterVault,
        limits: TransactionLimits | None = None,
    ) -> None:
        """Prepare.

        Args:
            connection: Gives the writer's connection, a new one after a break.
            vault: Encrypts dead letters.
            limits: Time-outs of each transaction.
        """
        self._connection = connection
        self._vault = vault
        self._limits = limits or TransactionLimits()
        self._ranges: PartitionRanges | None = None
        self._unconfirmed: tuple[str, BatchCounts] | None = None

    def connect(self) -> None:
        """Connect and read the partitions, so that the first batch need not wait for it.

        Raises:
            DatabaseUnavailable: PostgreSQL does not answer; the first batch tries again.
        """
        connection = self._connection()
        with translated():
            self._ranges = read_ranges(connection)

    def store(self, ready: ReadyFrame, context: BatchContext) -> BatchCounts:
        """Store one batch in one transaction.

        Call it again with the same arguments after a retryable error: also when the commit had
        happened and only its reply was lost, each event is stored once.

        Raises:
            FenceLost: Another run took the shard; nothing was stored.
            DatabaseUnavailable: No answer; it is unknown whether the batch was committed.
            LockNotAvailable: A lock took too long; nothing was stored.
        """
        rows = with_batch_id(ready.frame.rows.with_row_index(ROW_NO), context.batch_id)
        plan = _Plan(rows=rows, copy_data=ready.copy_data)
        while True:
            try:
                return self._attempt(ready.frame, plan, context)
            except Redelivered as exc:
                if exc.constraint == _LEDGER_KEY and self._unconfirmed:
                    return self._counts_of_commit(context)
                if plan.path is StorePath.MERGE:
                    raise
                plan = replace(plan, path=StorePath.MERGE)
            except PartitionMissing:
                plan = self._reloaded(plan)
            except (RowRefused, RowCountMismatch) as exc:
                plan = _without_refused(plan, exc)

    def _counts_of_commit(self, context: BatchContext) -> BatchCounts:
        """The ledger holds this batch: the commit whose reply was lost had happened."""
        assert self._unconfirmed is not None  # noqa: S101 - checked by the caller
        batch_id, counts = self._unconfirmed
        if batch_id != context.batch_id:
            raise DatabaseError("Two batches have one id. Give each batch a fresh one.")
        return counts

    def _reloaded(self, plan: _Plan) -> _Plan:
        self._ranges = None
        # Fresh ranges and still no partition: the registry and the tables disagree. Alone, each
        # row finds its partition or becomes late.
        if plan.reloads >= 1:
            return replace(plan, path=StorePath.MERGE, is_isolating=True)
        return replace(plan, reloads=plan.reloads + 1)

    def _attempt(self, frame: FrameResult, plan: _Plan, context: BatchContext) -> BatchCounts:
        connection = self._connection()
        with transaction(connection):
            now = self._begin(connection, context)
            split = self._split(connection, plan.rows)
            loaded = self._load(connection, split, plan, frame.rows.height)
            loaded = replace(loaded, refused=plan.refused + loaded.refused)
            counts = write_ledger(
                connection,
                self._vault,
                frame,
                context,
                loaded=loaded,
                path=plan.path,
                leaves=_stored_leaves(plan.rows, loaded),
                lags_s=_lags_s(plan.rows, now),
            )
            crash("C_BEFORE_COMMIT")
            self._unconfirmed = (context.batch_id, counts)
        crash("C_COMMITTED")
        return counts

    def _begin(self, connection: Connection, context: BatchContext) -> datetime:
        row = connection.execute(
            load_queries("events")["limit_transaction"],
            {
                "lock_timeout": self._limits.lock_timeout,
                "statement_timeout": self._limits.statement_timeout,
                "idle_timeout": self._limits.idle_timeout,
            },
        ).fetchone()
        check_fence(connection, shard=context.shard, fence=context.fence)
        assert row is not None  # noqa: S101 - a select without a table has one row
        return row[-1]

    def _split(self, connection: Connection, rows: pl.DataFrame) -> Split:
        if self._ranges is not None:
            split = split_rows(rows, self._ranges)
            if split.late.is_empty():
                return split
        # Late by what was known: a partition may have been made since, for example by an import.
        self._ranges = read_ranges(connection)
        return split_rows(rows, self._ranges)

    def _load(self, connection: Connection, split: Split, plan: _Plan, row_count: int) -> Loaded:
        if plan.is_isolating:
            return Merge(connection, COLUMNS).load_isolating(split, row_count=row_count)
        if plan.path is StorePath.MERGE:
            return Merge(connection, COLUMNS).load(split, row_count=row_count)
        if not split.open_.is_empty():
            data = plan.copy_data if split.late.is_empty() else None
            copy_into(connection, EVENT, COLUMNS, split.open_, data=data)
        n_new = split.open_.height
        if split.late.is_empty():
            return Loaded(n_new=n_new, n_late=0)
        only_late = replace(split, open_=split.open_.clear())
        late = Merge(connection, COLUMNS).load(only_late, row_count=row_count)
        return replace(late, n_new=n_new)


def halves(frame: FrameResult) -> tuple[FrameResult, FrameResult]:
    """Split a batch of at least two rows that is too large for this link or this lock.

    The second half carries rejects, duplicates and ranges: a range must not be recorded as
    arrived before its last row is stored.
    """
    middle = frame.rows.height // 2
    first = replace(
        frame,
        rows=frame.rows.head(middle),
        rejects=(),
        ranges=(),
        unstamped=0,
        n_read=middle,
        n_dup=0,
        redis_lost=0,
    )
    second = replace(frame, rows=frame.rows.slice(middle), n_read=frame.n_read - middle)
    return first, second


def _without_refused(plan: _Plan, error: RowRefused | RowCountMismatch) -> _Plan:
    """Set the named row apart; bisect when none is named or too many were."""
    if plan.is_isolating:
        raise error
    row_no = error.fields.get(ROW_NO)
    if row_no is None or len(plan.refused) >= MAX_NAMED_ROWS:
        return replace(plan, path=StorePath.MERGE, is_isolating=True)
    refusal = Refusal(row_no=int(str(row_no)), error=error)
    rows = plan.rows.filter(pl.col(ROW_NO) != refusal.row_no)
    return replace(plan, rows=rows, copy_data=None, refused=(*plan.refused, refusal))


def _lags_s(rows: pl.DataFrame, now: datetime) -> list[float]:
    received = rows["received_at"].gather_every(_LAG_STRIDE)
    return [(now - moment).total_seconds() for moment in received.to_list()]


def _stored_leaves(rows: pl.DataFrame, loaded: Loaded) -> list[bytes]:
    """Distinct leaves of the rows that are stored now, in byte order."""
    set_apart = {*loaded.collided, *(refusal.row_no for refusal in loaded.refused)}
    if set_apart:
        rows = rows.filter(~pl.col(ROW_NO).is_in(list(set_apart)))
    return rows["leaf_hash"].unique().sort().to_list()
