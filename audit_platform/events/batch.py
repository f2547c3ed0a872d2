"""When to flush, how much to read, how long to wait, how to halve (pure).

Here: the decisions of the drain as functions of plain numbers. Not here: reading
(`events/intake.py`), storing (`events/copy_rows.py`) and the loop (`events/drain.py`).
Guarantee: no decision depends on a clock or on randomness that was not passed in.
"""

from dataclasses import dataclass, replace
from typing import Final

from audit_platform.events.stream import MAX_ENTRY_BYTES, MAX_EVENTS_PER_ENTRY

# Entries may suddenly be large: 256 of them are 256 MiB at worst, and small ones still take only
# 80 reads for 20,000 rows.
MAX_ENTRIES_PER_READ: Final = 256

# delivery design, section "Errors": full jitter from 0.1 s, the circuit opens after 5 failures,
# then a probe every 5 s. So the ceiling of 30 s is never reached.
MIN_DELAY_S: Final = 0.1
PROBE_DELAY_S: Final = 5.0
FAILURES_UNTIL_OPEN: Final = 5

# At an overload level the oldest event is over 10 s old or Redis half full: another second of
# waiting costs nobody anything, and full batches cost the database less per row.
OVERLOAD_LINGER_S: Final = 1.0

# A connection that waits gets what is there from this part of a batch on: with a backlog the first
# COPY begins sooner and the last ends sooner; smaller batches cost hardly more (decision 0012).
WORTH_STARTING: Final = 0.25

# Three time-outs in a row are no accident: the batch is too large for this link or this lock.
TIMEOUTS_UNTIL_HALVED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushLimits:
    """Bounds of one batch; the first that is reached flushes it."""

    rows: int
    bytes_: int
    age_s: float

    def __post_init__(self) -> None:
        """Refuse bounds under which nothing would ever be flushed."""
        if self.rows < 1 or self.bytes_ < 1 or self.age_s <= 0:
            raise ValueError(f"every limit must be positive: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffered:
    """What waits for the next flush."""

    entries: int = 0
    rows: int = 0
    bytes_: int = 0
    since_s: float = 0.0
    """Clock value when the first entry came in; meaningless while `entries` is 0."""


def limits_at(level: int, limits: FlushLimits) -> FlushLimits:
    """Give the bounds of a batch at an overload level: from 1 on, it waits to become full."""
    if level < 1:
        return limits
    return replace(limits, age_s=max(limits.age_s, OVERLOAD_LINGER_S))


def is_full(buffered: Buffered, limits: FlushLimits) -> bool:
    """Say whether another read could exceed a batch."""
    return buffered.rows >= limits.rows or buffered.bytes_ >= limits.bytes_


def should_flush(
    buffered: Buffered, limits: FlushLimits, *, now_s: float, is_store_free: bool
) -> bool:
    """Decide whether to hand the buffer over.

    A full buffer goes at once. An old one, or a part worth starting with, goes only when the store
    can begin with it: while the store is busy, waiting costs nothing and makes the next COPY
    larger (adaptive batching).
    """
    if not buffered.entries:
        return False
    if is_full(buffered, limits):
        return True
    if not is_store_free:
        return False
    part = max(buffered.rows / limits.rows, buffered.bytes_ / limits.bytes_)
    return part >= WORTH_STARTING or now_s - buffered.since_s >= limits.age_s


def next_read_count(buffered: Buffered, limits: FlushLimits, *, mean: tuple[float, float]) -> int:
    """Choose how many entries to ask for, so that the answer fits the rest of the batch.

    Args:
        buffered: What is there already.
        limits: Bounds of the batch.
        mean: Rows and bytes per entry seen so far; zeros when nothing was seen.

    Returns:
        1 to `MAX_ENTRIES_PER_READ`.
    """
    # The first read knows no sizes and expects the largest.
    rows_per_entry, bytes_per_entry = mean if all(mean) else (MAX_EVENTS_PER_ENTRY, MAX_ENTRY_BYTES)
    by_rows = (limits.rows - buffered.rows) / rows_per_entry
    by_bytes = (limits.bytes_ - buffered.bytes_) / bytes_per_entry
    return max(1, min(MAX_ENTRIES_PER_READ, int(min(by_rows, by_bytes))))


def retry_delay_s(failures: int, *, uniform01: float) -> float:
    """Choose the wait before the next attempt.

    Args:
        failures: Consecutive failures so far, at least 1.
        uniform01: Random number in [0, 1).

    Returns:
        Seconds: full jitter below a doubling ceiling; from `FAILURES_UNTIL_OPEN` failures on, the
        circuit is open and a probe goes out about every `PROBE_DELAY_S`.
    """
    if failures >= FAILURES_UNTIL_OPEN:
        return PROBE_DELAY_S * (0.8 + 0.4 * uniform01)
    ceiling_s = MIN_DELAY_S * 2**failures
    return MIN_DELAY_S + (ceiling_s - MIN_DELAY_S) * uniform01


def should_halve(*, timeouts: int, rows: int) -> bool:
    """Decide whether a batch that keeps running into time-outs is stored in two parts."""
    return timeouts >= TIMEOUTS_UNTIL_HALVED and rows > 1
