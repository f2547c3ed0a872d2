"""What a drain run did: counts since the last report and in total (pure).

Here: the report and the summary of a run, and adding them up. Not here: where reports go; the
caller of `run_drain` decides.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from audit_platform.events.ledger import BatchCounts


class EndReason(StrEnum):
    """Why a drain run ended."""

    IDLE = "idle"
    LIFETIME = "lifetime"
    STOP = "stop"
    FENCE_LOST = "fence_lost"
    LEASE_HELD = "lease_held"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """What happened since the report before; `lag_*_s` is from received to stored."""

    rows: int
    batches: int
    rows_per_s: float
    lag_p50_s: float
    lag_p99_s: float
    bytes_: int
    duplicates: int
    late: int
    dead_letters: int
    dead_by_reason: Mapping[str, int]
    redis_lost: int
    backlog: int
    """Entries in the stream, those being stored included."""
    level: int = 0
    """Overload level, 0 to 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainSummary:
    """What a whole run did."""

    ended_because: EndReason
    seconds: float
    rows: int = 0
    batches: int = 0
    bytes_: int = 0
    duplicates: int = 0
    late: int = 0
    dead_letters: int = 0
    dead_by_reason: Mapping[str, int] = field(default_factory=dict[str, int])
    redis_lost: int = 0


@dataclass(slots=True, kw_only=True)
class _Sums:
    since_s: float
    totals: Counter[str] = field(default_factory=Counter)
    dead_by_reason: Counter[str] = field(default_factory=Counter)
    lags_s: list[float] = field(default_factory=list)

    def add(self, counts: BatchCounts, *, redis_lost: int) -> None:
        self.totals.update(
            rows=counts.n_new,
            batches=1,
            duplicates=counts.n_dup,
            late=counts.n_late,
            dead_letters=counts.n_bad,
            redis_lost=redis_lost,
        )
        self.dead_by_reason.update(counts.dead_by_reason)


class Tally:
    """Adds batches up, for the next report and for the run."""

    def __init__(self, *, now_s: float) -> None:
        """Start at zero.

        Args:
            now_s: Monotonic seconds.
        """
        self._run = _Sums(since_s=now_s)
        self._window = _Sums(since_s=now_s)

    def add(self, counts: BatchCounts, *, redis_lost: int) -> None:
        """Count one committed batch."""
        self._run.add(counts, redis_lost=redis_lost)
        self._window.add(counts, redis_lost=redis_lost)
        self._window.lags_s.extend(counts.lags_s)

    def add_bytes(self, bytes_: int) -> None:
        """Count the bytes of entries that were read and stored."""
        self._run.totals["bytes_"] += bytes_
        self._window.totals["bytes_"] += bytes_

    def seconds_since_report(self, now_s: float) -> float:
        """Length of the present window."""
        return now_s - self._window.since_s

    def report(self, *, now_s: float, backlog: int, level: int = 0) -> DrainReport:
        """Close the present window and begin the next."""
        window, self._window = self._window, _Sums(since_s=now_s)
        seconds, totals = max(now_s - window.since_s, 1e-9), window.totals
        lags_s = sorted(window.lags_s)
        return DrainReport(
            rows=totals["rows"],
            batches=totals["batches"],
            rows_per_s=totals["rows"] / seconds,
            lag_p50_s=percentile(lags_s, 0.50),
            lag_p99_s=percentile(lags_s, 0.99),
            bytes_=totals["bytes_"],
            duplicates=totals["duplicates"],
            late=totals["late"],
            dead_letters=totals["dead_letters"],
            dead_by_reason=dict(window.dead_by_reason),
            redis_lost=totals["redis_lost"],
            backlog=backlog,
            level=level,
        )

    def summary(self, *, now_s: float, ended_because: EndReason) -> DrainSummary:
        """Give the totals of the run."""
        totals = self._run.totals
        return DrainSummary(
            ended_because=ended_because,
            seconds=now_s - self._run.since_s,
            rows=totals["rows"],
            batches=totals["batches"],
            bytes_=totals["bytes_"],
            duplicates=totals["duplicates"],
            late=totals["late"],
            dead_letters=totals["dead_letters"],
            dead_by_reason=dict(self._run.dead_by_reason),
            redis_lost=totals["redis_lost"],
        )


def percentile(sorted_values: list[float], fraction: float) -> float:
    """Return the nearest-rank percentile of sorted values; 0 when there are none."""
    if not sorted_values:
        return 0.0
    return sorted_values[min(len(sorted_values) - 1, int(fraction * len(sorted_values)))]
