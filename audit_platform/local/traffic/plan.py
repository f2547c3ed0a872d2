"""The demo's traffic: who produces how much of the told day (pure).

Here: dividing the events between applications and older programs. Not here: the processes
(`traffic_process.py`), what they send (`traffic_application.py` with the SDK, `traffic_legacy.py`
without), what becomes of it (`traffic_found.py`, `traffic_balance.py`).
Guarantee: the parts add up to the asked number of events.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from audit_platform.local.traffic.application import run_application, run_live
from audit_platform.local.traffic.legacy import LegacyPlan, run_legacy
from audit_platform.local.traffic.process import Job, Queue
from audit_platform.local.traffic.schedule import share_out

TOLD_TIME: Final = timedelta(hours=24)
# Measured on 2 cores: the drain keeps up with 4,000 events/s beside four producers.
EVENTS_PER_S: Final = 4_000
_LEAST_PACE_S: Final = 5.0
_SINGLE_SHARE: Final = 0.04
_BATCHED_SHARE: Final = 0.08
_LATE_SHARE: Final = 0.001
_BAD_SHARE_PER_KIND: Final = 0.000_05
_LIVE_SEED: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPlan:
    """Who produces how much of the told time, and in how many real seconds."""

    application_counts: tuple[int, ...]
    legacy: LegacyPlan
    since: datetime
    until: datetime
    pace_s: float
    seed: int

    @property
    def event_count(self) -> int:
        """Events accepted in the end, broken ones included, each counted once."""
        return sum(self.application_counts) + self.legacy.event_count


def plan_traffic(
    *, event_count: int, application_count: int, now: datetime, seed: int
) -> TrafficPlan:
    """Divide the events between applications and older programs.

    Args:
        event_count: Of all producers; small numbers are raised to one event of each kind.
        application_count: Processes that use the SDK, at least one.
        now: End of the told day.
        seed: Of all content.
    """
    legacy = LegacyPlan(
        single_count=int(event_count * _SINGLE_SHARE),
        batched_count=int(event_count * _BATCHED_SHARE),
        late_count=max(3, int(event_count * _LATE_SHARE)),
        bad_count_per_kind=max(1, int(event_count * _BAD_SHARE_PER_KIND)),
        since=now - TOLD_TIME,
        until=now,
    )
    rest = max(event_count - legacy.event_count, application_count)
    # Applications differ in size too: the first has several times the traffic of the last.
    weights = [1 / (number + 1) ** 0.5 for number in range(application_count)]
    return TrafficPlan(
        application_counts=tuple(share_out(rest, weights)),
        legacy=legacy,
        since=now - TOLD_TIME,
        until=now,
        pace_s=max(_LEAST_PACE_S, event_count / EVENTS_PER_S),
        seed=seed,
    )


def jobs_of(plan: TrafficPlan, queue: Queue, history_dir: Path) -> dict[str, Job]:
    """Name each producer of a plan and say what it does."""
    jobs: dict[str, Job] = {}
    for number, count in enumerate(plan.application_counts, start=1):
        name = f"shop-{number}"
        jobs[name] = partial(
            run_application,
            name=name,
            queue=queue,
            history_dir=history_dir,
            event_count=count,
            since=plan.since,
            until=plan.until,
            pace_s=plan.pace_s,
            seed=plan.seed + number,
        )
    jobs["crm-classic"] = partial(
        run_legacy, queue=queue, history_dir=history_dir, plan=plan.legacy, seed=plan.seed
    )
    return jobs


def live_jobs(queue: Queue, history_dir: Path) -> dict[str, Job]:
    """Name the producer that goes on after the told day."""
    live = partial(run_live, queue=queue, history_dir=history_dir, seed=_LIVE_SEED)
    return {"shop-live": live}
