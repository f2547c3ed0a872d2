"""Looks at the platform after every stage of a drive, and keeps what it found.

Here: which rows were accepted so far, the recorded answers, one stage after the other, what is
wrong. Not here: what happens between the stages (`life.py`), the report (`report.py`).
Guarantee: every stage asks every search, in the product and some of them on the command line, too,
and counts every row; nothing that is wrong ends the drive before its report.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import polars as pl

from audit_platform.retention.partition_states import State
from tests.acceptance.conftest import Stack
from tests.acceptance.lifecycle.balance import compare, count_places, partitions_of
from tests.acceptance.lifecycle.drive import searched
from tests.acceptance.lifecycle.plan import Plan
from tests.acceptance.lifecycle.report import Outcome, Stage
from tests.acceptance.lifecycle.searches import (
    Answer,
    Search,
    arguments_of,
    ask_all,
    difference,
    make_searches,
)
from tests.acceptance.lifecycle.storing import Stored, together

SHOWN_DIFFERENCES: Final = 3
BY_COMMAND: Final = 3
"""Searches of each stage that are asked on the command line, too."""


@dataclass(slots=True)
class Watch:
    """What a drive has found so far.

    Attributes:
        stack: The platform.
        plan: The drive.
        say: Prints a line at once.
        removed: Ids of rows that expired, as declared.
        added: Ids of rows that came after the answers were recorded, as declared.
    """

    stack: Stack
    plan: Plan
    say: Callable[[str], None]
    stages: list[Stage] = field(default_factory=list[Stage])
    failures: list[str] = field(default_factory=list[str])
    figures: dict[str, str] = field(default_factory=dict[str, str])
    removed: frozenset[bytes] = frozenset()
    added: frozenset[bytes] = frozenset()
    _stored: list[Stored] = field(default_factory=list[Stored])
    _searches: list[Search] = field(default_factory=list[Search])
    _recorded: list[Answer] = field(default_factory=list[Answer])

    def accept(self, stored: Stored) -> None:
        """Take note of rows that the platform has taken."""
        self._stored.append(stored)

    @property
    def accepted(self) -> pl.DataFrame:
        """All of them, as `rows.fingerprints` gives them."""
        return together(self._stored).prints

    def record_searches(self) -> None:
        """Make the searches out of what is stored; the end of the stage records their answers."""
        self._searches = make_searches(together(self._stored).sample, self.plan)

    def check(self, is_well: bool, otherwise: str) -> None:
        """Note what is wrong, and go on."""
        if not is_well:
            self.say(f"WRONG {otherwise}")
            self.failures.append(otherwise)

    def check_state(self, day: int, state: State, *, generation: int | None = None) -> None:
        """Look where a day stands in its life."""
        (name,) = self.plan.names(day)
        (row,) = [one for one in partitions_of(self.stack, self.plan) if one.name == name]
        self.check(row.state is state, f"{name} is {row.state} and not {state}")
        self.check(row.last_error is None, f"{name}: {row.last_error}")
        if generation is not None:
            self.check(row.generation == generation, f"{name} is generation {row.generation}")

    @contextmanager
    def timed(self, what: str, rows: int) -> Iterator[None]:
        """Note the rate of a block."""
        began_s = time.monotonic()
        yield
        took_s = time.monotonic() - began_s
        self.figures[what] = f"{rows:,} rows, {rows / took_s:,.0f} rows/s"
        self.say(f"{what}: {took_s:.1f} s")

    @contextmanager
    def stage(self, name: str, now: datetime) -> Iterator[None]:
        """Let something happen, then ask and count everything again."""
        began_s = time.monotonic()
        yield
        jobs_s = time.monotonic() - began_s
        began_s = time.monotonic()
        answers = ask_all(self.stack.settings, self._searches)
        searches_s = time.monotonic() - began_s
        self._recorded = self._recorded or answers
        differing = self._differing(answers)
        stage = Stage(
            name=name,
            now=f"{now:%Y-%m-%d %H:%M}",
            jobs_s=jobs_s,
            searches_s=searches_s,
            places=count_places(self.stack, self.plan),
            equal=len(answers) - len(differing),
            differing=differing,
            opened=sum(one.use.opened for one in answers),
            skipped=sum(one.use.skipped for one in answers),
        )
        self.stages.append(stage)
        self._judge(stage)
        self._compare_commands(answers)
        self.say(
            f"{name}: {stage.equal} of {len(answers)} answers equal, "
            f"{jobs_s:.1f} s, searches {searches_s:.1f} s"
        )

    def outcome(self) -> Outcome:
        """Compare the sets, and bring everything together."""
        removed = pl.Series(list(self.removed), dtype=pl.Binary)
        with self.timed("compared by sets", self.accepted.height):
            balance = compare(self.stack, self.plan, self.accepted, removed)
        self.failures += balance.problems()
        found = sum(len(one.rows) for one in self._recorded)
        self.figures["rows in the recorded answers"] = f"{found:,}"
        return Outcome(
            stages=self.stages, balance=balance, figures=self.figures, failures=self.failures
        )

    def _judge(self, stage: Stage) -> None:
        shown = "; ".join(stage.differing[:SHOWN_DIFFERENCES])
        self.check(
            not stage.differing, f"{stage.name}: {len(stage.differing)} answers differ: {shown}"
        )
        total, accepted = stage.places.total, self.accepted.height
        self.check(total == accepted, f"{stage.name}: {total:,} rows of {accepted:,} accepted")

    def _differing(self, answers: Sequence[Answer]) -> list[str]:
        found: list[str] = []
        for search, before, after in zip(self._searches, self._recorded, answers, strict=True):
            how = difference(before, after, removed=self.removed, added=self.added)
            if how is not None:
                found.append(f"{search.kind}: {how}")
        return found

    def _compare_commands(self, answers: Sequence[Answer]) -> None:
        """Ask some searches with `audit-platform search`; its first page is that of the answer."""
        step = len(self._searches) // BY_COMMAND
        for position in range(len(self.stages) % step, len(self._searches), step):
            query, rows = self._searches[position].query, answers[position].rows
            wanted = [event_id.hex() for event_id, _ in rows[: query.limit]]
            printed = searched(self.stack, arguments_of(query))
            found = [event_id.replace("-", "") for event_id in printed]
            self.check(found == wanted, f"the command line answers {query} otherwise")
