"""The oracle: what was accepted against what is stored, by sets of ids (faults design, section 2).

Here: the verdict. Not here: what was attempted (`history.py`), what is stored (`stored.py`), rows
seen while faults go on (`reader.py`).
Guarantees: nothing of the platform's own accounting is trusted. Rows are counted as rows, and gaps
are computed from the ranges of the ledger. A loss that a class allows (`best_effort`; `standard` of
a process that did not end in good order) is excused only as far as gaps and declared ranges of
that very process cover it, and the numbers that are missing beyond that are counted (goal R3).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.harness.history import History, Mark, ProcessHistory
from tests.chaos.harness.stored import Stored

DURABLE: Final = "durable"
STANDARD: Final = "standard"
BEST_EFFORT: Final = "best_effort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The figures of faults design, section 2."""

    accepted: Mapping[str, int]
    """Accepted events by durability class."""
    lost: Mapping[str, int]
    """Accepted and not stored, by class; before anything is excused."""
    excused: int
    """Lost events of weak classes that gaps and declared ranges of their process cover."""
    unexcused: tuple[str, ...] = field(repr=False)
    """Lost ids that nothing excuses: the figure `lost` of the report; must be empty."""
    silent_gaps: int
    """Missing numbers beyond real losses: the ledger claims a loss that did not happen."""
    unexpected: tuple[str, ...] = field(repr=False)
    recovered: int
    """Unknown fate, and stored: allowed."""
    duplicated: int
    dead: int
    control: int
    gap_count: int
    is_conserved: bool
    is_at_rest: bool
    epochs: int

    @property
    def accepted_total(self) -> int:
        """N of the report."""
        return sum(self.accepted.values())

    def problems(self) -> list[str]:
        """What breaks a promise, one line each; empty when all is well."""
        said = {
            "lost": len(self.unexcused),
            "lost of `durable`": self.lost.get(DURABLE, 0),
            "missing numbers without a loss": self.silent_gaps,
            "unexpected": len(self.unexpected),
            "duplicated": self.duplicated,
        }
        lines = [f"{name}: {count}" for name, count in said.items() if count]
        lines += [] if self.is_conserved else ["the ledger's sums differ from the rows"]
        lines += [] if self.is_at_rest else ["entries wait in Redis"]
        return lines


def judge(history: History, stored: Stored) -> Verdict:
    """Compare the sets; see `Verdict` and the guarantee above."""
    all_ids = stored.all_ids
    lost = history.ok - all_ids
    lost_by_class = Counter(
        process.durability[one] for process in history.processes for one in process.ok & lost
    )
    excused, silent = _excused(history, stored, lost)
    return Verdict(
        accepted=history.accepted_by_class(),
        lost=lost_by_class,
        excused=len(excused),
        unexcused=tuple(sorted(lost - excused)),
        silent_gaps=silent,
        unexpected=tuple(sorted(all_ids - history.attempted)),
        recovered=len(history.unknown & all_ids),
        duplicated=sum(stored.ids.values()) - len(stored.ids),
        dead=stored.dead_count,
        control=stored.control_count,
        gap_count=sum(len(numbers.gaps) for numbers in stored.numbers.values()),
        is_conserved=stored.is_conserved,
        is_at_rest=stored.is_at_rest,
        epochs=len(stored.numbers),
    )


def _excused(history: History, stored: Stored, lost: set[str]) -> tuple[set[str], int]:
    """Lost ids that missing numbers cover, and missing numbers that cover nothing.

    Each process is compared with its own epochs first. An epoch of which no row is stored names no
    process: all of these together are compared with what is left over.
    """
    own_epochs = {
        epoch: process
        for process in history.processes
        for one in process.attempts
        if one in stored.epoch_of
        for epoch in [stored.epoch_of[one][0]]
    }
    missing: Counter[int] = Counter()
    unclaimed = 0
    for epoch, numbers in stored.numbers.items():
        process = own_epochs.get(epoch)
        if process is None:
            unclaimed += numbers.missing
        else:
            missing[id(process)] += numbers.missing
    all_ids = stored.all_ids
    excused: set[str] = set()
    uncovered: list[str] = []
    silent = unsure = 0
    for process in history.processes:
        count = missing[id(process)]
        gone = sorted(process.ok & lost)
        weak = [one for one in gone if _may_lose(process, one)]
        excused |= set(weak[:count])
        uncovered += weak[count:]
        # A refused call, or one cut short, may have used up a number.
        spare = len((process.unknown | process.ids(Mark.FAIL)) - all_ids)
        beyond = max(0, count - len(gone))
        silent += max(0, beyond - spare)
        unsure += max(0, spare - beyond)
    excused |= set(uncovered[:unclaimed])
    return excused, silent + max(0, unclaimed - len(uncovered) - unsure)


def _may_lose(process: ProcessHistory, event_id: str) -> bool:
    """Whether the class allows a loss: never `durable`, `standard` only where it was killed."""
    durability = process.durability[event_id]
    return durability == BEST_EFFORT or (durability == STANDARD and not process.is_closed)
