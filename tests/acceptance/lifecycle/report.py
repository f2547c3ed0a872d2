"""What a drive came to: one line per stage, the balance, one line that begins with PASS or FAIL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.acceptance.lifecycle.balance import Balance, Places

_HEAD = (
    *("stage", "now", "jobs s", "search s", "hot", "cold", "late", "expired", "sum"),
    *("equal", "opened", "skipped", "states"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage.

    Attributes:
        name: What was done before it.
        now: Injected moment, as text.
        jobs_s: How long that took.
        searches_s: How long all searches took.
        places: Where the rows are.
        equal: Searches with the recorded answer.
        differing: What differs, by kind of search.
        opened: Archive files that the searches read.
        skipped: Files that they could rule out.
    """

    name: str
    now: str
    jobs_s: float
    searches_s: float
    places: Places
    equal: int
    differing: Sequence[str]
    opened: int
    skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A whole drive.

    Attributes:
        stages: In order.
        balance: By sets of ids.
        figures: Further numbers, for people.
        failures: Everything that is wrong; empty: it passed.
    """

    stages: Sequence[Stage]
    balance: Balance
    figures: Mapping[str, str]
    failures: Sequence[str]

    @property
    def verdict(self) -> str:
        """One line."""
        kept = self.balance
        sums = (
            f"{kept.hot:,} hot + {kept.cold:,} cold + {kept.late:,} late + {kept.expired:,} expired"
            f" = {kept.accepted:,} accepted"
        )
        return f"FAIL {'; '.join(self.failures)}" if self.failures else f"PASS {sums}, each id once"


def table(outcome: Outcome) -> str:
    """The whole report as text."""
    rows = [_HEAD, *map(_cells, outcome.stages)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += ["", *(f"{name}: {value}" for name, value in outcome.figures.items()), ""]
    return "\n".join([*lines, outcome.verdict])


def _cells(stage: Stage) -> tuple[str, ...]:
    places = stage.places
    return (
        stage.name,
        stage.now,
        f"{stage.jobs_s:.1f}",
        f"{stage.searches_s:.1f}",
        *(f"{n:,}" for n in (places.hot, places.cold, places.late, places.expired, places.total)),
        str(stage.equal),
        str(stage.opened),
        str(stage.skipped),
        ", ".join(f"{count} {state}" for state, count in sorted(places.states.items())),
    )
