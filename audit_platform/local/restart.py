"""When to start a dead process again (pure)."""

from dataclasses import dataclass
from typing import Final

FIRST_DELAY_S: Final = 0.5
LONGEST_DELAY_S: Final = 30.0
# A process that lived this long had started well (the slowest takes 3 s, 20 s on a machine under
# eightfold load): its next end is a new trouble, not the same.
HEALTHY_AFTER_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartState:
    """Ends in a row without a healthy time between them."""

    failures: int = 0


def after_end(state: RestartState, *, lived_s: float) -> RestartState:
    """Count an end; a healthy life before it starts the count anew."""
    return RestartState(failures=1 if lived_s >= HEALTHY_AFTER_S else state.failures + 1)


def delay_s(state: RestartState) -> float:
    """Wait before the next start: 0.5 s, doubled with each failure in a row, 30 s at most."""
    exponent = min(max(state.failures - 1, 0), 16)  # beyond, the power overflows for nothing
    return min(FIRST_DELAY_S * 2.0**exponent, LONGEST_DELAY_S)
