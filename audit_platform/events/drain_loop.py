"""The run of a drain: starts its threads, keeps its lease, reports, until a reason to end.

Here: what goes on beside the storing. Not here: reading and decoding (`events/intake.py`),
storing and acknowledging (`events/storer.py`), counting (`events/tally.py`) and building the edges
(`events/drain.py`).
Guarantee: the lease is renewed while batches are being stored, however long one takes; an error of
any thread ends the run and is raised here.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from audit_platform.errors import DatabaseError, QueueError
from audit_platform.events import lease as leases
from audit_platform.events.intake import Intake
from audit_platform.events.lease import Lease, LeaseState
from audit_platform.events.return_path import ReturnPath
from audit_platform.events.run_state import RunState
from audit_platform.events.storer import Storer
from audit_platform.events.stream import Consumer
from audit_platform.events.tally import DrainReport, DrainSummary, EndReason
from audit_platform.events.writer_session import WriterSession

# Also how soon a stop request is seen: `audit-platform down` waits for it.
RENEW_INTERVAL_S: Final = 2.0
_TURN_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimits:
    """When a run ends or reports, in seconds."""

    idle_s: float
    observation_interval_s: float


class Drain:
    """One run and its threads."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        intake: Intake,
        storers: Sequence[Storer],
        session: WriterSession,
        lease: Lease,
        limits: DrainLimits,
        return_path: ReturnPath,
        report: Callable[[DrainReport], None],
        run: RunState,
    ) -> None:
        """Take over the edges; `run` uses them.

        Args:
            consumer: Asked for the backlog.
            intake: The reader thread.
            storers: The storing threads, at least one.
            session: Connection for lease and return path alone: no COPY delays a renewal.
            lease: Taken already.
            limits: When to end and to report.
            return_path: Tells producers what is stored.
            report: Called about every `observation_interval_s`, from this thread.
            run: Shared with the storing threads.
        """
        self._consumer, self._intake, self._storers = consumer, intake, storers
        self._session, self._lease = session, lease
        self._limits, self._report, self._run_state = limits, report, run
        self._return_path = return_path
        self._renewed_s = time.monotonic()
        self._backlog = 0

    def run(self) -> DrainSummary:
        """Drain until there is a reason to end; what is not stored by then stays pending."""
        self._intake.start()
        for storer in self._storers:
            storer.start()
        try:
            ended_because = self._loop()
        except BaseException as exc:
            self._run_state.fail(exc)
            raise
        finally:
            for storer in self._storers:
                storer.join()
            self._intake.stop()
        self._return_path.finish()
        self._report_window()
        return self._run_state.summary(ended_because=ended_because)

    def _loop(self) -> EndReason:
        while True:
            if self._intake.quiet_s() >= self._limits.idle_s:
                self._run_state.end(EndReason.IDLE)
            reason = self._run_state.reason_to_end()
            if reason is not None:
                return reason
            self._run_state.stop.wait(_TURN_S)
            self._return_path.publish_if_due()
            self._renew_if_due()
            self._report_if_due()

    def _renew_if_due(self) -> None:
        if time.monotonic() - self._renewed_s < RENEW_INTERVAL_S:
            return
        self._renewed_s = time.monotonic()
        try:
            state = leases.renew(self._session.connection(), self._lease)
        except DatabaseError as exc:
            # Each batch checks its fence: a lease that could not be renewed costs no event.
            if not exc.retryable:
                raise
            return
        if state is LeaseState.LOST:
            self._run_state.end(EndReason.FENCE_LOST)
        if state is LeaseState.STOP_REQUESTED:
            self._run_state.stop.set()

    def _report_if_due(self) -> None:
        if self._run_state.seconds_since_report() >= self._limits.observation_interval_s:
            self._report_window()

    def _report_window(self) -> None:
        try:
            self._backlog = self._consumer.length()
        except QueueError as exc:
            if not exc.retryable:
                raise
        self._report(self._run_state.report(backlog=self._backlog))
