"""How often a drain run speaks to Dagster, and what it says (pure).

Here: adding reports up into one observation, and when one is due. Not here: logging it
(`jobs/ingest.py`), making reports (`events/drain.py`).
An observation costs 2.5 KB in Dagster's storage, indexes included; the target is 5 MB per million
events. One for 2,000 events takes a quarter of it; slow shards speak once a minute.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from audit_platform.events.tally import DrainReport

EVENTS_PER_OBSERVATION: Final = 2_000
QUIET_INTERVAL_S: Final = 60.0
_MS: Final = 1_000


@dataclass(slots=True)
class ObservationWindow:
    """Reports since the last observation.

    Attributes:
        began_s: Clock at the last observation, or at the start of the run.
    """

    began_s: float
    rows: int = 0
    batches: int = 0
    bytes_: int = 0
    duplicates: int = 0
    late: int = 0
    dead_letters: int = 0
    redis_lost: int = 0
    backlog: int = 0
    level: int = 0
    """Highest overload level."""
    lag_p50_s: float = 0.0
    lag_p99_s: float = 0.0
    dead_by_reason: Counter[str] = field(default_factory=Counter)

    def add(self, report: DrainReport) -> None:
        """Add a report.

        Percentiles of parts do not give that of the whole: the median is weighted by rows, the
        99th percentile is the highest, which never hides a delay.
        """
        rows = self.rows + report.rows
        if rows:
            weighted_s = self.lag_p50_s * self.rows + report.lag_p50_s * report.rows
            self.lag_p50_s = weighted_s / rows
        self.lag_p99_s = max(self.lag_p99_s, report.lag_p99_s)
        self.rows = rows
        self.batches += report.batches
        self.bytes_ += report.bytes_
        self.duplicates += report.duplicates
        self.late += report.late
        self.dead_letters += report.dead_letters
        self.redis_lost += report.redis_lost
        self.backlog = report.backlog
        self.level = max(self.level, report.level)
        self.dead_by_reason.update(report.dead_by_reason)

    @property
    def events(self) -> int:
        """Events with any outcome."""
        return self.rows + self.duplicates + self.late + self.dead_letters

    @property
    def has_news(self) -> bool:
        """Whether anything happened that an operator would want to see."""
        return self.events > 0 or self.redis_lost > 0

    def is_due(self, now_s: float) -> bool:
        """Whether to observe now: when enough happened, or after a minute in which anything did."""
        is_quiet_over = now_s - self.began_s >= QUIET_INTERVAL_S
        return self.has_news and (self.events >= EVENTS_PER_OBSERVATION or is_quiet_over)

    def numbers(self, now_s: float) -> dict[str, int | float]:
        """Give the plotted numbers, by the names on the asset page."""
        seconds = max(now_s - self.began_s, 1e-3)
        return {
            "rows": self.rows,
            "batches": self.batches,
            "rows_per_s": round(self.rows / seconds, 1),
            "lag_p50_ms": round(self.lag_p50_s * _MS, 1),
            "lag_p99_ms": round(self.lag_p99_s * _MS, 1),
            "bytes": self.bytes_,
            "duplicates": self.duplicates,
            "late": self.late,
            "dead_letters": self.dead_letters,
            "redis_lost": self.redis_lost,
            "backlog": self.backlog,
            "overload_level": self.level,
        }
