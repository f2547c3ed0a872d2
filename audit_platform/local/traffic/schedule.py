"""When the demo's events happen: a day with nights, office hours and bursts (pure).

Here: how many events fall into each slot of the told day. Not here: their content
(`traffic_catalogue.py`), and the pacing of the sender (`traffic_producer.py`).
Guarantee: the counts of a schedule add up to exactly the asked number of events.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

SLOT: Final = timedelta(minutes=5)
_NIGHT_SHARE: Final = 0.12
_WEEKEND_SHARE: Final = 0.35
_BURST_FACTOR: Final = 8.0
_SLOTS_PER_BURST: Final = 72
_PEAKS: Final = ((10.0, 1.8), (15.0, 2.2))  # hour of the day, width in hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Five minutes of the told day."""

    start: datetime
    event_count: int
    is_burst: bool


def plan_slots(
    rng: random.Random, *, event_count: int, since: datetime, until: datetime
) -> tuple[Slot, ...]:
    """Spread events over a period as office hours, nights, weekends and a few bursts would.

    Args:
        rng: Seeded by the caller; decides noise and the place of bursts.
        event_count: Events of the whole period.
        since: Aware, start of the first slot.
        until: Aware, exclusive end; after `since`.

    Raises:
        ValueError: `until` is not after `since`.
    """
    if until <= since:
        raise ValueError("until must lie after since")
    starts = [since + SLOT * n for n in range(math.ceil((until - since) / SLOT))]
    bursts = set(rng.sample(range(len(starts)), math.ceil(len(starts) / _SLOTS_PER_BURST)))
    weights = [
        _busyness(start) * rng.uniform(0.7, 1.3) * (_BURST_FACTOR if n in bursts else 1)
        for n, start in enumerate(starts)
    ]
    counts = share_out(event_count, weights)
    return tuple(
        Slot(start=start, event_count=count, is_burst=n in bursts)
        for n, (start, count) in enumerate(zip(starts, counts, strict=True))
    )


def share_out(total: int, weights: Sequence[float]) -> list[int]:
    """Divide a whole number by weights; the largest remainders get the rest.

    Returns:
        As many counts as weights; their sum is `total`.
    """
    scale = total / sum(weights)
    counts = [int(weight * scale) for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda n: counts[n] - weights[n] * scale)
    for n in by_remainder[: total - sum(counts)]:
        counts[n] += 1
    return counts


def _busyness(moment: datetime) -> float:
    hour = moment.hour + moment.minute / 60
    day = sum(math.exp(-(((hour - peak) / width) ** 2)) for peak, width in _PEAKS)
    share = _WEEKEND_SHARE if moment.weekday() >= 5 else 1.0  # noqa: PLR2004 - Saturday
    return (_NIGHT_SHARE + day) * share
