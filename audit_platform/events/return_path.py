"""Return path: tells producers, through Redis, what is stored and how the shard is.

Here: when watermarks are asked for, published and folded, and the shard's status each second. Not
here: the questions to the ledger (`events/watermark.py`), measuring the load
(`events/load_gauge.py`), what producers do about it (`client/coverage.py`).
Guarantee: nothing is published before its commit, and no failure here ends a run or delays an
acknowledgement: a stale value makes a producer send again, which costs no event.

Source: delivery design, section 5, "Return path".
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Lock, Thread
from typing import Final, Self

from audit_platform.db.pool import Connection
from audit_platform.errors import DatabaseError, QueueError
from audit_platform.events.frame import FrameResult
from audit_platform.events.load_gauge import LoadGauge
from audit_platform.events.stream import Consumer
from audit_platform.events.watermark import Epoch, fold_ranges, read_watermarks, recent_epochs

PUBLISH_INTERVAL_S: Final = 1.0
FOLD_INTERVAL_S: Final = 60.0
# Shedding makes ranges of single numbers. A watermark past 40,000 of them that are not folded takes
# 30 ms, past folded ones 0.3 ms; folding them takes 0.2 s (PostgreSQL 18, 2026-11-22).
FOLD_RANGES: Final = 20_000
STATUS_FIELD: Final = "shard"
_STOP_PATIENCE_S: Final = 2.0
_FIELDS_AT_ONCE: Final = 1_000
_LOG = logging.getLogger(__name__)


class ReturnPath:
    """The run's side: which epochs changed, and when to say so."""

    def __init__(
        self,
        *,
        connection: Callable[[], Connection],
        tell: Callable[[Mapping[str, str], Sequence[int]], None],
        told: Callable[[], Sequence[str]],
        shard: int,
        shards: int,
        clock: Callable[[], float],
        clock_ms: Callable[[], int],
    ) -> None:
        """Start with everything unpublished.

        Args:
            connection: Gives the writer's connection, outside a transaction.
            tell: Writes fields into the hashes of some shards.
            told: Names the fields that are there.
            shard: Shard of this run.
            shards: How many there are: a report may speak of an epoch of another shard.
            clock: Monotonic seconds.
            clock_ms: Milliseconds since 1970.
        """
        self._connection, self._tell, self._told = connection, tell, told
        self._shard, self._shards = shard, shards
        self._clock, self._clock_ms = clock, clock_ms
        # Storing threads note, the thread of the run publishes.
        self._lock = Lock()
        self._touched: set[Epoch] = set()
        self._reported: set[Epoch] = set()
        self._unfolded = 0
        self._known: Connection | None = None
        self._published_s = float("-inf")
        self._folded_s = clock()

    def touch(self, frame: FrameResult) -> None:
        """Take note of a batch that is committed; called from any thread."""
        touched = {(one.producer_id, one.epoch) for one in frame.ranges}
        reported = {
            (one.producer_id, one.epoch) for report in frame.reports for one in report.ranges
        }
        ranges = len(frame.ranges) + sum(len(report.ranges) for report in frame.reports)
        with self._lock:
            self._touched |= touched
            self._reported |= reported
            self._unfolded += ranges

    def publish_if_due(self) -> None:
        """Publish what changed, at most once per interval; fold once a minute, or many ranges."""
        now_s = self._clock()
        if now_s - self._published_s >= PUBLISH_INTERVAL_S:
            self._published_s = now_s
            self._quietly(self._publish)
        if now_s - self._folded_s >= FOLD_INTERVAL_S or (
            self._unfolded >= FOLD_RANGES and now_s - self._folded_s >= PUBLISH_INTERVAL_S
        ):
            self._folded_s = now_s
            self._quietly(self._fold)

    def finish(self) -> None:
        """Publish and fold at the end of a run."""
        self._quietly(self._publish)
        self._quietly(self._fold)

    def _publish(self) -> None:
        connection = self._connection()
        if connection is not self._known:
            # The first one, or a server that was away: it may have come back at an earlier point
            # in time, and then exactly those that believe to be done must learn of it. They may be
            # unknown to the ledger now, so Redis is asked as well.
            recent = recent_epochs(connection) | _epochs_of(self._told_fields())
            with self._lock:
                self._touched |= recent
            self._known = connection
        self._publish_to((self._shard,), self._touched)
        self._publish_to(range(self._shards), self._reported)

    def _told_fields(self) -> Sequence[str]:
        try:
            return self._told()
        except QueueError as exc:
            if exc.retryable:
                raise
            # A Redis user without HKEYS: only a ledger that forgot an epoch goes unnoticed then.
            _LOG.warning("grant the consumer HKEYS: %s", exc.message)
            return ()

    def _publish_to(self, shards: Sequence[int], epochs: set[Epoch]) -> None:
        # Taken off before the question: what is committed after it is noted anew.
        with self._lock:
            due = sorted(epochs)
            epochs.clear()
        try:
            while due:
                part = due[:_FIELDS_AT_ONCE]
                at_ms = self._clock_ms()
                marks = read_watermarks(self._connection(), part)
                self._tell({mark.field: mark.value(at_ms=at_ms) for mark in marks}, shards)
                del due[:_FIELDS_AT_ONCE]
        finally:
            with self._lock:
                epochs.update(due)

    def _fold(self) -> None:
        with self._lock:
            self._unfolded = 0
        fold_ranges(self._connection())

    def _quietly(self, step: Callable[[], object]) -> None:
        try:
            step()
        except (DatabaseError, QueueError) as exc:
            # What is not published stays noted; an outage is the storing thread's to report.
            if not exc.retryable:
                _LOG.warning("the return path failed: %s", exc.message)


def _epochs_of(fields: Sequence[str]) -> set[Epoch]:
    """Read the names of fields; those that are no epoch's are left out."""
    pairs = [field.partition(":")[::2] for field in fields]
    return {
        (int(producer_id), int(epoch))
        for producer_id, epoch in pairs
        if producer_id.isdecimal() and epoch.isdecimal()
    }


class ShardStatus:
    """A thread that says each second how the shard is, also while PostgreSQL is away."""

    def __init__(
        self,
        consumer: Consumer,
        gauge: LoadGauge,
        *,
        obey: Callable[[int], None],
        clock_ms: Callable[[], int],
    ) -> None:
        """Prepare; entering the block starts it.

        Args:
            consumer: Edge of the shard.
            gauge: Measures its load.
            obey: Told the level after each measurement.
            clock_ms: Milliseconds since 1970.
        """
        self._consumer, self._gauge = consumer, gauge
        self._obey, self._clock_ms = obey, clock_ms
        self._stop = Event()
        self._thread = Thread(target=self._run, name=f"status-{consumer.stream}", daemon=True)
        self._last_refusal: str | None = None

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop; a look that hangs is left behind."""
        self._stop.set()
        self._thread.join(_STOP_PATIENCE_S)

    def _run(self) -> None:
        while True:
            try:
                self._look()
            except QueueError as exc:
                self._note(exc)
            if self._stop.wait(PUBLISH_INTERVAL_S):
                return

    def _look(self) -> None:
        level = self._gauge.measure()
        self._obey(level)
        status = {
            "level": level,
            "lag_s": round(self._gauge.lag_s, 3),
            "at_ms": self._clock_ms(),
        }
        self._consumer.tell({STATUS_FIELD: json.dumps(status, separators=(",", ":"))})

    def _note(self, error: QueueError) -> None:
        if not error.retryable and error.message != self._last_refusal:
            self._last_refusal = error.message
            _LOG.warning("producers do not learn how the shard is: %s", error.message)
