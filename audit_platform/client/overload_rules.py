"""What a producer does at each overload level: one table (pure).

Here: level to linger, shedding and spilling. Not here: the level itself (`events/overload.py`),
reading it, whether it is fresh, and acting on it (`client/custodian.py`).
Guarantee: only `best_effort` is ever shed, and an unknown level is never stricter than the last
row of the table.

Source: delivery design, section 12.
"""

from dataclasses import dataclass
from typing import Final


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

REFUSED_LEVEL: Final = len(RULES) - 1
"""While Redis refuses entries because it is full."""


def rule_at(level: int) -> OverloadRule:
    """Rule of a level; a level outside the table gets the nearest row."""
    return RULES[min(max(level, 0), len(RULES) - 1)]
