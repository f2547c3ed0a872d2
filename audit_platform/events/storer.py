"""One storing thread of a drain: take a batch, store it, acknowledge it, until the run ends.

Here: retries of one batch and its halving, on a connection of its own. Not here: reading and
decoding (`events/intake.py`), the transaction (`events/copy_rows.py`), lease, reports and the
reason to end (`events/drain_loop.py`).
Guarantee: an entry is acknowledged only after the commit that holds its events; an outage of
PostgreSQL or Redis is waited out, within the lifetime of the run.

A run has several of these, since one COPY keeps one core busy, not two. Each batch is a transaction
of its own with its own fence check. An event that lies in two batches at once is stored once:
the second COPY waits at the unique index for the first to commit, and goes through the merge path.
"""

from contextlib import suppress
from threading import Thread
from typing import Final

from audit_platform.crash_points import crash
from audit_platform.errors import (
    DatabaseError,
    DatabaseUnavailable,
    FenceLost,
    GroupMissing,
    LockNotAvailable,
    QueueError,
)
from audit_platform.events.back_off import BackOff
from audit_platform.events.batch import should_halve
from audit_platform.events.copy_rows import RowStore, halves
from audit_platform.events.intake import Batch, Intake
from audit_platform.events.lease import Lease
from audit_platform.events.ledger import BatchContext, BatchCounts, new_batch_id
from audit_platform.events.ready_frame import ReadyFrame
from audit_platform.events.return_path import ReturnPath
from audit_platform.events.run_state import RunState
from audit_platform.events.stream import Consumer
from audit_platform.events.tally import EndReason

_TAKE_TURN_S: Final = 0.2
_STATEMENT_TIMED_OUT: Final = "57014"


class Storer:
    """One thread with its own store."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        intake: Intake,
        store: RowStore,
        lease: Lease,
        return_path: ReturnPath,
        run: RunState,
    ) -> None:
        """Prepare; `start` begins to store.

        Args:
            consumer: Acknowledges; shared with the other threads.
            intake: The reader thread.
            store: Stores batches; of this thread alone.
            lease: Taken already.
            return_path: Learns what is committed.
            run: Shared by the threads of the run.
        """
        self._consumer, self._intake = consumer, intake
        self._store, self._lease, self._run_state = store, lease, run
        self._return_path = return_path
        self._thread = Thread(target=self._run, name=f"store-{consumer.stream}", daemon=True)

    def start(self) -> None:
        """Begin to store."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the present batch; the run must have a reason to end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            with suppress(DatabaseUnavailable):
                self._store.connect()
            while not self._run_state.is_ending:
                batch = self._intake.batches.take(timeout_s=_TAKE_TURN_S)
                if batch is not None and self._store_batch(batch):
                    self._acknowledge(batch)
        except BaseException as exc:  # noqa: BLE001 - raised again by the thread of the run
            self._run_state.fail(exc)

    def _store_batch(self, batch: Batch) -> bool:
        """Store a batch, in parts if need be; False when the run has to end before."""
        parts = list(reversed(batch.frames))
        while parts:
            part = parts.pop()
            counts = self._store_part(part)
            if counts is None:
                return False
            if isinstance(counts, tuple):
                parts += reversed(counts)
                continue
            self._run_state.add(counts, redis_lost=part.frame.redis_lost)
            self._return_path.touch(part.frame)
        self._run_state.add_bytes(batch.bytes_)
        return True

    def _store_part(self, part: ReadyFrame) -> BatchCounts | tuple[ReadyFrame, ReadyFrame] | None:
        """Try until stored; halves of a frame that keeps timing out; None when the run ends."""
        context = BatchContext(
            batch_id=part.batch_id,
            shard=self._lease.shard,
            run_id=self._lease.run_id,
            fence=self._lease.fence,
        )
        back_off, timeouts = BackOff(self._run_state.stop), 0
        while not self._run_state.is_ending:
            try:
                return self._store.store(part, context)
            except FenceLost:
                self._run_state.end(EndReason.FENCE_LOST)
                return None
            except DatabaseError as exc:
                if not exc.retryable:
                    raise
                timeouts += _is_timeout(exc)
            if should_halve(timeouts=timeouts, rows=part.frame.rows.height):
                first, second = halves(part.frame)
                return (
                    ReadyFrame(frame=first, batch_id=new_batch_id()),
                    ReadyFrame(frame=second, batch_id=new_batch_id()),
                )
            back_off.wait(longest_s=self._run_state.remaining_s())
        return None

    def _acknowledge(self, batch: Batch) -> None:
        back_off = BackOff(self._run_state.stop)
        # Given up at the end of the run: the next one reads the entries again and finds that
        # their events are stored.
        while not (back_off.failures and self._run_state.is_ending):
            try:
                self._consumer.ack_and_delete(batch.entry_ids)
                break
            except GroupMissing:
                break
            except QueueError as exc:
                if not exc.retryable:
                    raise
                back_off.wait(longest_s=self._run_state.remaining_s())
        self._intake.is_done_with(batch)
        crash("C_DONE")


def _is_timeout(error: DatabaseError) -> bool:
    return isinstance(error, LockNotAvailable) or error.sqlstate == _STATEMENT_TIMED_OUT
