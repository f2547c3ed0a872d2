"""Reader thread of a drain: reads entries, decodes them, hands batches over.

Here: the order of reading (own pending entries, stale ones of others, then new ones), gathering
into batches, decoding while the storing thread copies the batch before, and keeping entries
claimed. Not here: decisions (`events/batch.py`), storing and acknowledging (`events/drain.py`).
Guarantee: nothing is acknowledged here; whatever this thread drops is pending in Redis and is read
first by the next run.

Source of the reading order: delivery design, section 6.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from threading import Event, Lock, Thread
from typing import Final

from audit_platform.crash_points import crash
from audit_platform.errors import GroupMissing, QueueError
from audit_platform.events.back_off import BackOff
from audit_platform.events.batch import (
    Buffered,
    FlushLimits,
    limits_at,
    next_read_count,
    should_flush,
)
from audit_platform.events.decode_batch import Decode, decode_batch
from audit_platform.events.hand_over import HandOver
from audit_platform.events.ready_frame import ReadyFrame, make_ready
from audit_platform.events.stream import FIRST_ID, Consumer
from audit_platform.events.stream_entry import StreamEntry
from audit_platform.events.suspects import Suspects

# While the store is busy the buffer only grows; looking for more is cheap and ends soon.
BUSY_BLOCK_MS: Final = 20
# Below XAUTOCLAIM's 60 s with room for three missed turns (delivery design, section 6).
REFRESH_INTERVAL_S: Final = 15.0
_REFRESH_CHUNK: Final = 1_000
_PUT_TURN_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Entries that are stored and acknowledged together."""

    entry_ids: tuple[str, ...]
    frames: tuple[ReadyFrame, ...]
    """One, unless the decoder failed on an entry."""
    bytes_: int


class _Phase(Enum):
    OWN_PENDING = auto()
    STALE_OF_OTHERS = auto()
    NEW = auto()


class Intake:
    """The reader thread and what it knows."""

    def __init__(
        self,
        consumer: Consumer,
        *,
        ensure_group: Callable[[], None],
        decode: Decode,
        new_batch_id: Callable[[], str],
        limits: FlushLimits,
        quiet_block_ms: int,
        clock: Callable[[], float],
    ) -> None:
        """Prepare; `start` begins to read.

        Args:
            consumer: Edge of one shard.
            ensure_group: Creates stream and group; needs a Redis user that may.
            decode: Entries to frame; bad events come back as rejects, never as errors.
            new_batch_id: Mints the id of a batch.
            limits: When a batch is flushed.
            quiet_block_ms: Longest wait in one read; stop flags are seen between reads.
            clock: Monotonic seconds.
        """
        self.batches: HandOver[Batch] = HandOver(depth=1)
        self._consumer, self._ensure_group = consumer, ensure_group
        self._decode, self._clock = decode, clock
        self._usual_limits = self._limits = limits
        self._new_batch_id = new_batch_id
        self._quiet_block_ms = quiet_block_ms
        self._stop = Event()
        self._back_off = BackOff(self._stop)
        self._thread = Thread(target=self._run, name=f"intake-{consumer.stream}", daemon=True)
        self._begin_reading_order()
        self._suspects = Suspects(consumer, clock=clock)
        self._entries: list[StreamEntry] = []
        self._buffered = Buffered()
        self._seen = (0, 0, 0)
        self._outstanding: set[str] = set()
        self._outstanding_lock = Lock()
        self._refreshed_s = clock()
        self._quiet_since_s: float | None = None

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what it holds stays pending in Redis."""
        self._stop.set()
        self._thread.join()

    def quiet_s(self) -> float:
        """Seconds since which the stream is known to be empty and nothing is on its way."""
        since_s = self._quiet_since_s
        with self._outstanding_lock:
            is_busy = bool(self._outstanding)
        if since_s is None or is_busy or not self.batches.is_empty:
            return 0.0
        return self._clock() - since_s

    def obey(self, level: int) -> None:
        """Gather batches as the overload level asks; takes effect with the next read."""
        self._limits = limits_at(level, self._usual_limits)

    def is_done_with(self, batch: Batch) -> None:
        """Take note that a batch is acknowledged: it needs no claim any more."""
        with self._outstanding_lock:
            self._outstanding.difference_update(batch.entry_ids)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._turn()
        except BaseException as exc:  # noqa: BLE001 - raised again by the storing thread
            self.batches.fail(exc)

    def _turn(self) -> None:
        try:
            self._refresh_if_due()
            if self._is_time_for_suspects():
                self._gather_suspects()
            elif self._suspects.is_impatient:
                self._stop.wait(BUSY_BLOCK_MS / 1000)
            else:
                self._gather(self._read())
        except GroupMissing:
            self._make_group()
            return
        except QueueError as exc:
            if not exc.retryable:
                raise
            self._quiet_since_s = None
            # The reply that was cut may have held entries: they are pending and nobody has them.
            self._begin_reading_order()
            self._back_off.wait()
            return
        self._back_off.reset()
        is_free = self.batches.is_taker_free
        if should_flush(self._buffered, self._limits, now_s=self._clock(), is_store_free=is_free):
            self._flush()

    def _is_time_for_suspects(self) -> bool:
        """Whether nothing is at work that a suspect could take down with it."""
        if self._quiet_since_s is None and not self._suspects.is_impatient:
            return False
        with self._outstanding_lock:
            return len(self._outstanding) == len(self._suspects) > 0

    def _gather_suspects(self) -> None:
        suspects = self._suspects.take(most_bytes=self._limits.bytes_)
        # Before the next ones: is there something new?
        self._quiet_since_s = None
        with self._outstanding_lock:
            self._outstanding.difference_update(entry.entry_id for entry in suspects)
        self._gather(suspects)
        self._flush()

    def _make_group(self) -> None:
        # FLUSHALL or DEL: what is being stored goes on; the group starts at 0 again.
        try:
            self._ensure_group()
        except QueueError as exc:
            if not exc.retryable:
                raise
            self._back_off.wait()
            return
        self._begin_reading_order()

    def _begin_reading_order(self) -> None:
        self._phase, self._after, self._cursor = _Phase.OWN_PENDING, FIRST_ID, FIRST_ID

    def _read(self) -> list[StreamEntry]:
        count = next_read_count(self._buffered, self._limits, mean=self._mean())
        if self._phase is _Phase.OWN_PENDING:
            return self._read_own_pending(count)
        if self._phase is _Phase.STALE_OF_OTHERS:
            return self._read_stale(count)
        entries = self._consumer.read_new(count, self._block_ms())
        if entries or self._buffered.entries:
            self._quiet_since_s = None
        elif self._quiet_since_s is None:
            self._quiet_since_s = self._clock()
        return entries

    def _read_own_pending(self, count: int) -> list[StreamEntry]:
        entries = self._consumer.read_pending(self._after, count)
        if entries:
            self._after = entries[-1].entry_id
        else:
            self._phase = _Phase.STALE_OF_OTHERS
        return self._without_suspects(entries)

    def _without_suspects(self, entries: list[StreamEntry]) -> list[StreamEntry]:
        with self._outstanding_lock:
            at_work = self._outstanding.intersection(entry.entry_id for entry in entries)
        apart = self._suspects.set_apart(entries, at_work=at_work)
        suspects = {entry.entry_id for entry in apart}
        with self._outstanding_lock:
            self._outstanding |= suspects
        return [entry for entry in entries if entry.entry_id not in suspects]

    def _read_stale(self, count: int) -> list[StreamEntry]:
        self._cursor, entries = self._consumer.claim_stale(self._cursor, count)
        if self._cursor == FIRST_ID:
            self._phase = _Phase.NEW
        return entries

    def _block_ms(self) -> int:
        if not self._buffered.entries:
            return BUSY_BLOCK_MS if len(self._suspects) else self._quiet_block_ms
        age_s = self._clock() - self._buffered.since_s
        return max(BUSY_BLOCK_MS, int((self._limits.age_s - age_s) * 1000))

    def _mean(self) -> tuple[float, float]:
        entries, rows, bytes_ = self._seen
        return (rows / entries, bytes_ / entries) if entries else (0.0, 0.0)

    def _gather(self, entries: list[StreamEntry]) -> None:
        with self._outstanding_lock:
            fresh = [entry for entry in entries if entry.entry_id not in self._outstanding]
            self._outstanding.update(entry.entry_id for entry in fresh)
        if not fresh:
            return
        crash("C_READ")
        rows = sum(map(_declared_rows, fresh))
        bytes_ = sum(entry.size_bytes for entry in fresh)
        self._seen = tuple(
            a + b for a, b in zip(self._seen, (len(fresh), rows, bytes_), strict=True)
        )
        since_s = self._buffered.since_s if self._buffered.entries else self._clock()
        self._entries.extend(fresh)
        self._buffered = replace(
            self._buffered,
            entries=self._buffered.entries + len(fresh),
            rows=self._buffered.rows + rows,
            bytes_=self._buffered.bytes_ + bytes_,
            since_s=since_s,
        )

    def _flush(self) -> None:
        batch = Batch(
            entry_ids=tuple(entry.entry_id for entry in self._entries),
            frames=tuple(
                make_ready(frame, batch_id=self._new_batch_id())
                for frame in decode_batch(self._entries, self._decode)
            ),
            bytes_=self._buffered.bytes_,
        )
        self._entries, self._buffered = [], Buffered()
        crash("C_DECODED")
        while not self._stop.is_set() and not self.batches.put(batch, timeout_s=_PUT_TURN_S):
            self._refresh_quietly()

    def _refresh_quietly(self) -> None:
        try:
            self._refresh_if_due()
        except QueueError as exc:
            # The claim only saves work: without it another consumer would store duplicates as
            # duplicates. The next turn tries again.
            if not exc.retryable and not isinstance(exc, GroupMissing):
                raise

    def _refresh_if_due(self) -> None:
        if self._clock() - self._refreshed_s < REFRESH_INTERVAL_S:
            return
        self._refreshed_s = self._clock()
        with self._outstanding_lock:
            entry_ids = list(self._outstanding)
        for start in range(0, len(entry_ids), _REFRESH_CHUNK):
            self._consumer.refresh(entry_ids[start : start + _REFRESH_CHUNK])


def _declared_rows(entry: StreamEntry) -> int:
    """Rows an entry says it holds; what it really holds is found when it is decoded."""
    declared = entry.fields.get(b"n")
    if declared is None:
        return 1
    # Not int(): a wrong entry may carry megabytes of digits or none.
    return int(declared) if declared.isdigit() and len(declared) < len("10000") else 1
