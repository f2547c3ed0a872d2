"""What the threads of one drain run share: why it ends, and what it did so far.

Here: the reason to end, a failure of any thread, and the counts, each safe from every thread. Not
here: the threads (`events/intake.py`, `events/storer.py`, `events/drain_loop.py`).
Guarantee: the first failure of a thread is raised by the run; a reason to end stays one.
"""

import time
from threading import Event, Lock

from audit_platform.events.ledger import BatchCounts
from audit_platform.events.tally import DrainReport, DrainSummary, EndReason, Tally


class RunState:
    """One run, seen by all of its threads."""

    def __init__(self, *, lifetime_s: float, stop: Event) -> None:
        """Begin the run.

        Args:
            lifetime_s: It ends after this time.
            stop: Set by SIGTERM and by the stop flag of the lease.
        """
        self.stop = stop
        self._lifetime_s = lifetime_s
        self._started_s = time.monotonic()
        self._lock = Lock()
        self._tally = Tally(now_s=self._started_s)
        self._level = 0
        self._ended_because: EndReason | None = None
        self._failure: BaseException | None = None

    def reason_to_end(self) -> EndReason | None:
        """Say why no further batch shall be begun; None while there is no reason.

        Raises:
            BaseException: What a thread of this run failed with.
        """
        if self._failure is not None:
            raise self._failure
        if self._ended_because is None and self.stop.is_set():
            self.end(EndReason.STOP)
        if self._ended_because is None and self.remaining_s() <= 0:
            self.end(EndReason.LIFETIME)
        return self._ended_because

    @property
    def is_ending(self) -> bool:
        """Whether a thread shall not begin anything new, be it for a failure of another."""
        return self._failure is not None or self.reason_to_end() is not None

    def remaining_s(self) -> float:
        """Seconds until the end of its lifetime."""
        return self._lifetime_s - (time.monotonic() - self._started_s)

    def end(self, reason: EndReason) -> None:
        """Let the run end; the first reason counts."""
        with self._lock:
            self._ended_because = self._ended_because or reason

    def fail(self, error: BaseException) -> None:
        """Let the run end with an error; the first one counts."""
        with self._lock:
            self._failure = self._failure or error

    def add(self, counts: BatchCounts, *, redis_lost: int) -> None:
        """Count one committed batch."""
        with self._lock:
            self._tally.add(counts, redis_lost=redis_lost)

    def add_bytes(self, bytes_: int) -> None:
        """Count the bytes of entries that were read and stored."""
        with self._lock:
            self._tally.add_bytes(bytes_)

    def seconds_since_report(self) -> float:
        """Length of the present window."""
        return self._tally.seconds_since_report(time.monotonic())

    def note_level(self, level: int) -> None:
        """Take note of an overload level that was measured."""
        with self._lock:
            self._level = max(self._level, level)

    def report(self, *, backlog: int) -> DrainReport:
        """Close the present window and begin the next; its level is the highest in it."""
        with self._lock:
            level, self._level = self._level, 0
            return self._tally.report(now_s=time.monotonic(), backlog=backlog, level=level)

    def summary(self, *, ended_because: EndReason) -> DrainSummary:
        """Give the totals of the run."""
        with self._lock:
            return self._tally.summary(now_s=time.monotonic(), ended_because=ended_because)
