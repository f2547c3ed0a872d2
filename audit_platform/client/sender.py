"""The sender thread: buffer and spool → Redis; repeats the same bytes until somebody has them.

Here: the loop. Not here: room and numbers (`client/buffer.py`), one attempt
(`client/transport.py`), what is kept after it (`client/custodian.py`), when to flush
(`events/policy.py`).
Guarantee: an event leaves memory only after Redis or the disk has it, or after `close()` gave up.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from audit_platform.client.buffer import Buffer, Wake
from audit_platform.client.custodian import Custodian
from audit_platform.client.custody import Outgoing
from audit_platform.client.lane import Run
from audit_platform.client.transport import Transport
from audit_platform.crash_points import crash
from audit_platform.events.policy import MAX_EVENTS_PER_FLUSH, BatchPolicy
from audit_platform.events.stream import BatchEntry

logger = logging.getLogger(__name__)

# Of a backlog, four entries share a round trip; more gain little and make a time-out likely.
_MAX_RUNS_PER_TRIP: Final = 4
# What a spill leaves behind are `best_effort` events a few numbers at a time: as four entries a
# trip, 60 events a second left on a busy machine, and the buffer ran over behind them.
_MAX_SMALL_RUNS_PER_TRIP: Final = 128
_BYTES_LIKE_AN_EVENT: Final = 1_024
# At 1,000 events/s this keeps the waiting calls below a fifth of their limit.
_MAKING_INTERVAL_S: Final = 0.05
# What waits in memory during an outage goes to the disk so often.
_SPILL_INTERVAL_S: Final = 0.25
_AFTER_ERROR_S: Final = 1.0
# Under overload there is always more to send; polls and the disk must not wait for its end.
_LONGEST_TRIPS_S: Final = 0.5
_ENDING_S: Final = 0.5


class Sender:
    """Sends the events of one client from one thread, which it starts when first asked."""

    def __init__(
        self,
        *,
        buffer: Buffer,
        policy: BatchPolicy,
        custodian: Custodian,
        transport: Transport,
        make_events: Callable[[], None],
    ) -> None:
        """Keep what is needed; nothing starts and nothing connects yet.

        Args:
            buffer: Where the events are.
            policy: When to flush.
            custodian: Keeps what is not confirmed.
            transport: The way to Redis.
            make_events: Makes events of the calls that wait in the buffer.
        """
        self._buffer, self._policy = buffer, policy
        self._custodian, self._transport, self._make_events = custodian, transport, make_events
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_left_behind = False

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

    def finish(self, timeout_s: float) -> bool:
        """Wait until the thread has sent all, or send in this thread where none was started.

        Returns:
            Whether the sending has ended, so that its parts may be used by the caller.
        """
        with self._starting:
            thread = self._thread
        if thread is None:
            self.run()
            return True
        if thread is threading.current_thread():
            return False
        # It ends by itself when the time is up, unless it waits for a reply.
        thread.join(timeout_s + _ENDING_S)
        with self._starting:
            self._is_left_behind = thread.is_alive()
            return not self._is_left_behind

    def run(self) -> None:
        """Send until the buffer is closed and empty, or out of time."""
        try:
            self._run()
        finally:
            self._transport.close()
            with self._starting:
                is_last = self._is_left_behind
            if is_last:
                self._custodian.leave()

    def _run(self) -> None:
        self._custodian.open()
        while True:
            due_s = self._custodian.due_s(can_send=self._transport.breaker.failures == 0)
            wake = self._buffer.wait_for_work(self._present_policy(), due_s)
            try:
                self._turn()
            except Exception:
                # Long-lived loop: what it was is in the log, the events are kept.
                logger.exception("the audit sender met an unexpected error and goes on")
                self._buffer.pause(_AFTER_ERROR_S)
            if (wake is Wake.END and self._is_done()) or self._buffer.is_out_of_time:
                break

    def _is_done(self) -> bool:
        """Whether Redis has all of this process; what earlier ones left may wait for the next."""
        if not any(custody.unsent for custody in self._custodian.own):
            return True
        if self._transport.breaker.failures == 0:
            return False
        self._buffer.pause(_SPILL_INTERVAL_S)
        return False

    def _turn(self) -> None:
        self._make_events()
        # While events are held nothing is sent, so no success would ever end a failure: only asking
        # tells that the platform takes events again.
        is_holding = self._custodian.is_holding
        self._custodian.tend(self._transport.appender(is_holding=is_holding))
        if self._custodian.is_holding and not self._buffer.is_closing:
            self._spill()
            self._pause(_SPILL_INTERVAL_S)
        elif not self._send_all():
            self._spill()

    def _present_policy(self) -> BatchPolicy:
        linger_s = self._custodian.rule.linger_s(self._policy.interval_s)
        if linger_s == self._policy.interval_s:
            return self._policy
        return BatchPolicy(size=self._policy.size, interval_s=linger_s)

    def _send_all(self) -> bool:
        """Send what waits in memory, then from disk; False after a failure, or to write to disk."""
        ends_s = time.monotonic() + _LONGEST_TRIPS_S
        while outgoing := self._from_memory():
            crash("P_BUFFERED")
            if not self._send(outgoing):
                return False
            if self._buffer.is_out_of_time:
                return True
            if time.monotonic() > ends_s:
                # Slower than what comes in: the platform's level is asked for in between, and what
                # would soon find no room waits on disk.
                return not self._buffer.is_half_full
        for outgoing in (self._custodian.resends, self._from_disk):
            entries = outgoing()
            if entries and not self._send(entries):
                return False
        return True

    def _from_memory(self) -> list[Outgoing]:
        self._make_events()
        # After a failure one entry goes alone: a probe, and the least that can make progress.
        limit = _MAX_SMALL_RUNS_PER_TRIP if self._transport.breaker.failures == 0 else 1
        runs, room = list[Run](), _MAX_RUNS_PER_TRIP * MAX_EVENTS_PER_FLUSH
        while room > 0 and len(runs) < limit and (run := self._buffer.take()) is not None:
            runs.append(run)
            room -= len(run.records) + run.size_bytes // _BYTES_LIKE_AN_EVENT
        return self._custodian.from_memory(runs)

    def _from_disk(self) -> list[Outgoing]:
        has_failed = self._transport.breaker.failures > 0
        return self._custodian.from_disk(1 if has_failed else _MAX_SMALL_RUNS_PER_TRIP)

    def _send(self, outgoing: list[Outgoing]) -> bool:
        """Send entries; after a failure put them back, wait, and return False."""
        delay_s = self._transport.attempt([self._entry(one) for one in outgoing])
        if delay_s is None:
            for one in outgoing:
                self._custodian.note_sent(one)
            # A little after each trip: half a second's worth in one piece let the buffer run full.
            self._custodian.trim_window()
            return True
        if self._transport.is_refused:
            self._custodian.note_refusal()
        for one in reversed(outgoing):
            if one.run is not None:
                self._buffer.put_back(one.run)
        self._spill()
        self._pause(delay_s)
        return False

    def _entry(self, outgoing: Outgoing) -> BatchEntry:
        return BatchEntry(
            shard=outgoing.custody.shard_of(outgoing.parcel),
            ndjson=outgoing.parcel.lines or b"",
            count=outgoing.parcel.count,
            received_ms=time.time_ns() // 1_000_000,
            stamp=outgoing.custody.stamp(outgoing.parcel),
        )

    def _spill(self) -> None:
        self._make_events()
        self._custodian.spill()

    def _pause(self, delay_s: float) -> None:
        """Wait between two attempts; make events of the calls that come, and write them to disk.

        Otherwise an outage would fill the room for waiting calls, and `log()` would do the work.
        """
        now_s = time.monotonic()
        deadline_s, spill_s = now_s + delay_s, now_s + _SPILL_INTERVAL_S
        while not self._buffer.is_closing:
            self._make_events()
            now_s = time.monotonic()
            if now_s >= spill_s:
                self._custodian.tend(None)
                self._custodian.spill()
                spill_s = now_s + _SPILL_INTERVAL_S
            if now_s >= deadline_s:
                return
            self._buffer.pause(min(deadline_s - now_s, _MAKING_INTERVAL_S))
        if self._buffer.counts().buffered:
            self._buffer.pause(delay_s)
