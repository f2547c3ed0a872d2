"""What a producer does at each overload level: one table (pure).

Here: level to linger, shedding and spilling, and when a level read from Redis still counts. Not
here: the level itself (`events/overload.py`), reading it and acting on it (`client/`).
Guarantee: only `best_effort` is ever shed, and an unknown level is never stricter than the last
row of the table.

Source: delivery design, section 12.
"""

from dataclasses import dataclass
from typing import Final

FRESH_MS: Final = 15_000
"""A level older than this says nothing: no drain run is alive that could take it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverloadRule:
    """What a producer does at one level.

    Attributes:
        least_linger_s: A flush waits at least so long for more events; 0 leaves the preset.
        sheds_best_effort: Whether new `best_effort` events are dropped and declared.
        spools_standard: Whether `standard` events go to the spool instead of Redis.
    """

    least_linger_s: float
    sheds_best_effort: bool
    spools_standard: bool

    def linger_s(self, preset_s: float) -> float:
        """Longest wait of an event for its flush; a preset that waits longer is kept."""
        return max(preset_s, self.least_linger_s)


RULES: Final = (
    OverloadRule(least_linger_s=0.0, sheds_best_effort=False, spools_standard=False),
    # Larger entries cost Redis and the drain less per event.
    OverloadRule(least_linger_s=0.05, sheds_best_effort=False, spools_standard=False),
    OverloadRule(least_linger_s=0.05, sheds_best_effort=True, spools_standard=False),
    OverloadRule(least_linger_s=0.05, sheds_best_effort=True, spools_standard=True),
)


def rule_at(level: int) -> OverloadRule:
    """Rule of a level; a level outside the table gets the nearest row."""
    return RULES[min(max(level, 0), len(RULES) - 1)]


def level_in_force(published: int, *, age_ms: int, is_refused: bool) -> int:
    """Level that a producer obeys.

    Args:
        published: Level that the drain wrote last.
        age_ms: Time since it did.
        is_refused: Whether Redis refuses writes, for example because its memory is full.

    Returns:
        The highest level while Redis refuses. Otherwise the published one, unless it is stale:
        nobody would ever take that back.
    """
    if is_refused:
        return len(RULES) - 1
    return published if age_ms <= FRESH_MS else 0
