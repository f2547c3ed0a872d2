"""The sender thread: buffer → Redis; repeats the same bytes until Redis confirms them.

Here: the loop, retries, the circuit breaker, the log lines about outages. Not here: room and
numbers (`client/buffer.py`), when to flush (`events/policy.py`), Redis itself (`events/stream.py`).
Guarantee: a run leaves the buffer only after Redis confirmed it or after `close()` gave up.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from audit_platform.client.breaker import Breaker
from audit_platform.client.buffer import Buffer
from audit_platform.client.lane import Run
from audit_platform.client.stats import BreakerState
from audit_platform.crash_points import crash
from audit_platform.errors import AuditPlatformError
from audit_platform.events.policy import BatchPolicy
from audit_platform.events.stream import Appender, BatchEntry, Stamp

logger = logging.getLogger(__name__)

# Of a backlog, four entries share a round trip; more gain little and make a time-out likely.
_MAX_RUNS_PER_TRIP: Final = 4
# At 1,000 events/s this keeps the waiting calls below a fifth of their limit.
_MAKING_INTERVAL_S: Final = 0.05


class Sender:
    """Sends runs of one buffer from one thread, which it starts when first asked."""

    def __init__(
        self,
        *,
        buffer: Buffer,
        policy: BatchPolicy,
        producer_id: int,
        connect: Callable[[], Appender],
        make_events: Callable[[], None],
    ) -> None:
        """Keep what is needed; nothing starts and nothing connects yet.

        Args:
            buffer: Where the events are.
            policy: When to flush.
            producer_id: Written into every stamp.
            connect: Makes the Redis edge, in the sending thread.
            make_events: Makes events of the calls that wait in the buffer.
        """
        self._buffer, self._policy, self._producer_id = buffer, policy, producer_id
        self._connect, self._make_events = connect, make_events
        self._appender: Appender | None = None
        self._breaker = Breaker()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self.retries = 0
        self.last_error: str | None = None

    @property
    def breaker_state(self) -> BreakerState:
        """State of the circuit to Redis."""
        return self._breaker.state

    def ensure_started(self) -> None:
        """Start the thread unless it runs; also after the interpreter refused it before."""
        with self._starting:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self.run, name="audit-sender", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is shutting down; `close()` sends from its own thread.
                return
            self._thread = thread

    @property
    def is_started(self) -> bool:
        """Whether the thread was started; an unlocked look for the fast path of `log()`."""
        return self._thread is not None

    def finish(self, timeout_s: float) -> None:
        """Wait until the thread has sent all, or send in this thread where none was started."""
        with self._starting:
            thread = self._thread
        if thread is None:
            self.run()
        elif thread is not threading.current_thread():
            thread.join(timeout_s)

    def run(self) -> None:
        """Send until the buffer is closed and empty, or out of time."""
        while self._buffer.wait_for_work(self._policy):
            while runs := self._take():
                crash("P_BUFFERED")
                self._send(runs)
                if self._buffer.is_out_of_time:
                    break
        if self._appender is not None:
            self._appender.close()

    def _send(self, runs: list[Run]) -> None:
        entries = [self._entry(run) for run in runs]
        while runs and not self._buffer.is_out_of_time:
            # After a failure one entry goes alone: a probe, and the least that can make progress.
            size = len(runs) if self._breaker.failures == 0 else 1
            if self._attempt(entries[:size]):
                for run in runs[:size]:
                    self._buffer.confirm(run)
                del entries[:size], runs[:size]

    def _take(self) -> list[Run]:
        self._make_events()
        runs: list[Run] = []
        while len(runs) < _MAX_RUNS_PER_TRIP and (run := self._buffer.take()) is not None:
            runs.append(run)
        return runs

    def _entry(self, run: Run) -> BatchEntry:
        stamp = Stamp(producer_id=self._producer_id, epoch=run.epoch, first_seq=run.first_seq)
        return BatchEntry(
            shard=run.shard,
            ndjson=b"\n".join(run.payloads),
            count=len(run.payloads),
            received_ms=time.time_ns() // 1_000_000,
            stamp=stamp,
        )

    def _attempt(self, entries: Sequence[BatchEntry]) -> bool:
        """Send once; after a failure wait and return False. The bytes stay the same."""
        self._breaker.begin_attempt()
        try:
            self._append(entries)
            crash("P_ADDED")
        except Exception as exc:  # noqa: BLE001 - long-lived loop, counted and logged
            # Whatever it was, the events are kept and the thread goes on (long-lived loop).
            self._pause(self._note_failure(exc))
            return False
        self._note_success()
        return True

    def _pause(self, delay_s: float) -> None:
        """Wait between two attempts, and make events of the calls that come meanwhile.

        Otherwise an outage would fill the room for waiting calls, and `log()` would do the work.
        """
        deadline_s = time.monotonic() + delay_s
        while not self._buffer.is_closing:
            self._make_events()
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                return
            self._buffer.pause(min(remaining_s, _MAKING_INTERVAL_S))
        self._buffer.pause(delay_s)

    def _append(self, entries: Sequence[BatchEntry]) -> None:
        if self._appender is None:
            self._appender = self._connect()
        if len(entries) == 1:
            self._appender.append_batch(entries[0])
        else:
            self._appender.append_many(entries)

    def _note_failure(self, exc: Exception) -> float:
        was_open = self._breaker.state is not BreakerState.CLOSED
        self.retries += 1
        # Messages of other errors may quote the URL, and with it a password.
        detail = f": {exc}" if isinstance(exc, AuditPlatformError) else ""
        self.last_error = type(exc).__name__ + detail
        # Jitter keeps producers apart after an outage; it protects nothing.
        delay_s = self._breaker.record_failure(uniform01=random.random())  # noqa: S311
        if not was_open and self._breaker.state is BreakerState.OPEN:
            logger.warning("audit events wait in memory: %s", self.last_error)
        return delay_s

    def _note_success(self) -> None:
        if self._breaker.state is not BreakerState.CLOSED:
            logger.info("audit events are sent again after %d failures", self._breaker.failures)
        self._breaker.record_success()
        self.last_error = None
