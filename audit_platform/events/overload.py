"""Overload levels: how far the drain is behind, as one number from 0 to 3 (pure).

Here: the thresholds, and how a level falls again. Not here: who measures
(`events/return_path.py`, `events/backlog.py`), what the drain does (`events/batch.py`) and what a
producer does (`client/overload_rules.py`).
Guarantee: a level rises at once and falls one step at a time, so that shedding does not flicker.

Source of the thresholds: delivery design, section 12.
"""

from typing import Final, NamedTuple

LONGEST_AGE_S: Final = (10.0, 60.0, 300.0)
LARGEST_MEMORY_SHARE: Final = (0.50, 0.70, 0.85)
MAX_LEVEL: Final = len(LONGEST_AGE_S)
# A level ends only below this part of what began it: at the threshold itself it would come and go
# with every batch.
RELEASE: Final = 0.8


class Load(NamedTuple):
    """What a level follows from.

    Attributes:
        oldest_age_s: Age of the oldest entry in the stream, 0 when it is empty.
        memory_share: Memory that Redis uses, as a part of its limit; 0 without a limit.
    """

    oldest_age_s: float
    memory_share: float


def level_of(oldest_age_s: float, memory_share: float) -> int:
    """Level that a load reaches: 0 to 3, the higher of the two measures."""
    return max(_reached(oldest_age_s, LONGEST_AGE_S), _reached(memory_share, LARGEST_MEMORY_SHARE))


def next_level(previous: int, load: Load) -> int:
    """Level after a new measurement: up at once, down by one step when clearly below.

    Args:
        previous: Level of the measurement before, 0 at the beginning.
        load: As measured now.
    """
    reached = level_of(*load)
    if reached >= previous:
        return reached
    is_clearly_below = level_of(*(part / RELEASE for part in load)) < previous
    return previous - 1 if is_clearly_below else previous


def _reached(value: float, thresholds: tuple[float, ...]) -> int:
    return sum(value > threshold for threshold in thresholds)
