"""Storing thread of a drain: take a batch, store it, acknowledge it, until a reason to end.

Here: the loop, its retries, its lease and its reports. Not here: reading and decoding
(`events/intake.py`), the transaction (`events/copy_rows.py`), counting (`events/tally.py`) and
building the edges (`events/drain.py`).
Guarantee: an entry is acknowledged only after the commit that holds its events; an outage of
PostgreSQL or Redis is waited out, within the lifetime of the run.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Final

from audit_platform.crash_points import crash
from audit_platform.errors import (
    DatabaseError,
    FenceLost,
    GroupMissing,
    LockNotAvailable,
    QueueError,
)
from audit_platform.events import lease as leases
from audit_platform.events.back_off import BackOff
from audit_platform.events.batch import should_halve
from audit_platform.events.copy_rows import RowStore, halves
from audit_platform.events.intake import Batch, Intake
from audit_platform.events.lease import Lease, LeaseState
from audit_platform.events.ledger import BatchContext, BatchCounts, new_batch_id
from audit_platform.events.ready_frame import ReadyFrame
from audit_platform.events.stream import Consumer
from audit_platform.events.tally import DrainReport, DrainSummary, EndReason, Tally
from audit_platform.events.writer_session import WriterSession

# Also how soon a stop request is seen: `audit-platform down` waits for it.
RENEW_INTERVAL_S: Final = 2.0
_TAKE_TURN_S: Final = 0.2
_STATEMENT_TIMED_OUT: Final = "57014"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimits:
    """When a run ends or reports, in seconds."""

    idle_s: float
    lifetime_s: float
    observation_interval_s: float


class Drain:
    """The storing thread's side of one run."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        intake: Intake,
        session: WriterSession,
        store: RowStore,
        lease: Lease,
        limits: DrainLimits,
        report: Callable[[DrainReport], None],
        stop: Event,
    ) -> None:
        """Take over the edges; `run` uses them.

        Args:
            consumer: Acknowledges; shared with the reader thread.
            intake: The reader thread.
            session: Connection for the lease, the same as the store's.
            store: Stores batches.
            lease: Taken already.
            limits: When to end and to report.
            report: Called about every `observation_interval_s`, from this thread.
            stop: Set by SIGTERM.
        """
        self._consumer, self._intake = consumer, intake
        self._session, self._store, self._lease = session, store, lease
        self._limits, self._report, self._stop = limits, report, stop
        self._started_s = self._renewed_s = time.monotonic()
        self._tally = Tally(now_s=self._started_s)
        self._is_fence_lost = False
        self._backlog = 0

    def run(self) -> DrainSummary:
        """Drain until there is a reason to end; what is not stored by then stays pending."""
        self._intake.start()
        try:
            ended_because = self._loop()
        finally:
            self._intake.stop()
        self._report_window()
        return self._tally.summary(now_s=time.monotonic(), ended_because=ended_because)

    def _loop(self) -> EndReason:
        while True:
            reason = self._reason_to_end()
            if reason is not None:
                return reason
            batch = self._intake.batches.take(timeout_s=_TAKE_TURN_S)
            if batch is not None and self._store_batch(batch):
                self._acknowledge(batch)
            elif self._intake.quiet_s() >= self._limits.idle_s:
                return EndReason.IDLE
            self._renew_if_due()
            self._report_if_due()

    def _reason_to_end(self) -> EndReason | None:
        if self._is_fence_lost:
            return EndReason.FENCE_LOST
        if self._stop.is_set():
            return EndReason.STOP
        return EndReason.LIFETIME if self._remaining_s() <= 0 else None

    def _remaining_s(self) -> float:
        return self._limits.lifetime_s - (time.monotonic() - self._started_s)

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
            self._tally.add(counts, redis_lost=part.frame.redis_lost)
        self._tally.add_bytes(batch.bytes_)
        return True

    def _store_part(self, part: ReadyFrame) -> BatchCounts | tuple[ReadyFrame, ReadyFrame] | None:
        """Try until stored; halves of a frame that keeps timing out; None when the run ends."""
        context = BatchContext(
            batch_id=part.batch_id,
            shard=self._lease.shard,
            run_id=self._lease.run_id,
            fence=self._lease.fence,
        )
        back_off, timeouts = BackOff(self._stop), 0
        while self._reason_to_end() is None:
            try:
                return self._store.store(part, context)
            except FenceLost:
                self._is_fence_lost = True
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
            self._wait(back_off)
        return None

    def _acknowledge(self, batch: Batch) -> None:
        back_off = BackOff(self._stop)
        # Given up at the end of the run: the next one reads the entries again and finds that
        # their events are stored.
        while self._reason_to_end() is None or not back_off.failures:
            try:
                self._consumer.ack_and_delete(batch.entry_ids)
                break
            except GroupMissing:
                break
            except QueueError as exc:
                if not exc.retryable:
                    raise
                self._wait(back_off)
        self._intake.is_done_with(batch)
        crash("C_DONE")

    def _wait(self, back_off: BackOff) -> None:
        """Wait out one failure of a service; lease and reports go on meanwhile."""
        back_off.wait(longest_s=self._remaining_s())
        self._renew_if_due()
        self._report_if_due()

    def _renew_if_due(self) -> None:
        if time.monotonic() - self._renewed_s < RENEW_INTERVAL_S:
            return
        try:
            state = leases.renew(self._session.connection(), self._lease)
        except DatabaseError as exc:
            # Each batch checks its fence: a lease that could not be renewed costs no event.
            if not exc.retryable:
                raise
            return
        self._renewed_s = time.monotonic()
        self._is_fence_lost = state is LeaseState.LOST
        if state is LeaseState.STOP_REQUESTED:
            self._stop.set()

    def _report_if_due(self) -> None:
        age_s = self._tally.seconds_since_report(time.monotonic())
        if age_s >= self._limits.observation_interval_s:
            self._report_window()

    def _report_window(self) -> None:
        try:
            self._backlog = self._consumer.length()
        except QueueError as exc:
            if not exc.retryable:
                raise
        self._report(self._tally.report(now_s=time.monotonic(), backlog=self._backlog))


def _is_timeout(error: DatabaseError) -> bool:
    return isinstance(error, LockNotAvailable) or error.sqlstate == _STATEMENT_TIMED_OUT
