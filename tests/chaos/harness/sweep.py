"""Random faults in a row: kinds from a shuffled deck, times from the same number (F23).

Here: the loop over the fast stack. Not here: faults (`kills.py`), figures (`report.py`).
"""

from dataclasses import dataclass
from threading import Event
from time import monotonic
from typing import Final

from tests.chaos.harness.fast_stack import FastStack
from tests.chaos.harness.kills import FAULTS, inject

SHORTEST_PAUSE_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many kills, and how long from one fault to the next."""

    kills: int
    pause_s: float
    """Mean; each pause is between a fifth and 1.8 times of it."""


def sweep(stack: FastStack, pace: Pace) -> int:
    """Inject until enough processes were killed; returns the number of kills.

    Every kind of fault comes once before any comes again.
    """
    deck: list[str] = []
    killed, pause = 0, Event()
    while killed < pace.kills or deck:
        if not deck:
            deck = sorted(FAULTS)
            stack.random.shuffle(deck)
        began_s = monotonic()
        inject(stack, deck.pop())
        killed = sum(fault.kills for fault in stack.recoveries.faults)
        wanted_s = pace.pause_s * stack.random.uniform(0.2, 1.8)
        pause.wait(max(SHORTEST_PAUSE_S, wanted_s - (monotonic() - began_s)))
    return killed
