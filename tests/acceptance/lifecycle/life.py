"""The drive: days of rows from their arrival to their end, and the same questions at every stage.

Here: the order of what happens, and what must hold at each stage. Not here: the days and moments
(`plan.py`), rows (`rows.py`, `storing.py`), searches (`searches.py`), sets (`balance.py`).

    stored              every day open; three archived early, their late rows wait
    archived            sealed, exported, verified: half of the days, then all
    detached            read from the archive; one day is held hot
    dropped             after the grace; one day is held
    merged              late rows open a dropped, a detached and a verified day again
    archived again      those days as their next generation
    restored            one day beside the archive, one into the searched table
    expired             files of the class `short` deleted: declared, searches lose these rows
    too late            late rows of a day whose files expired wait for their own end; days go on

Guarantee: at every stage hot + cold + late + expired = accepted and every recorded answer is the
same, column by column; at the end the same by sets of ids and leaves.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import uuid4

import polars as pl

from audit_platform.db.pool import connected
from audit_platform.events.dead_letter import DeadLetterVault, list_dead_letters
from audit_platform.retention.partition_states import State
from tests.acceptance.conftest import Stack
from tests.acceptance.dagster_api import eventually
from tests.acceptance.lifecycle.balance import partitions_of
from tests.acceptance.lifecycle.drive import done, done_by_two, nights_off, run_job
from tests.acceptance.lifecycle.plan import DAY, NIGHT, Plan
from tests.acceptance.lifecycle.report import Outcome
from tests.acceptance.lifecycle.rows import OWN_RULE_TENANT, SHORT
from tests.acceptance.lifecycle.storing import (
    await_late,
    await_settled,
    late_rows,
    send,
    send_broken,
    settled,
    store_in_bulk,
)
from tests.acceptance.lifecycle.watch import Watch
from tests.acceptance.load import Load, loaded

BROKEN: Final = 5
TOLD_S: Final = 60.0


def live(stack: Stack, plan: Plan, say: Callable[[str], None]) -> Outcome:
    """Drive a platform through a plan.

    Args:
        stack: It may hold other events, none of them on the days of the plan.
        plan: What happens.
        say: Prints a line at once.

    Raises:
        AssertionError: Something cannot go on at all; everything else is in the outcome.
    """
    return _Life(stack, plan, Watch(stack, plan, say)).live()


@dataclass(slots=True)
class _Life:
    stack: Stack
    plan: Plan
    watch: Watch
    marker: str = field(default_factory=lambda: f"e2e.broken.{uuid4().hex[:8]}")

    def live(self) -> Outcome:
        """Drive to the end."""
        began_s = time.monotonic()
        with nights_off(self.stack), loaded(self.stack.data_dir, rate=self.plan.rate) as load:
            self._arrive()
            self._archive()
            self._leave()
            self._merge()
            self._restore()
            self._expire()
            self._too_late()
            self._settle(load)
        self.watch.figures["seconds in all"] = f"{time.monotonic() - began_s:.0f}"
        return self.watch.outcome()

    def _arrive(self) -> None:
        stack, plan = self.stack, self.plan
        done_by_two(stack, "retention", "class", "set", *SHORT, "short")
        done(stack, "retention", "set", "standard", "--keep", "7y", "--tenant", OWN_RULE_TENANT)
        with self.watch.timed("stored in bulk", plan.rows):
            self.watch.accept(store_in_bulk(stack, plan))
        with self.watch.stage("stored", plan.sealed(max(plan.late_days))):
            before = settled(stack)
            streamed = send(stack, plan, range(plan.days), plan.streamed, seed=plan.seed + 1)
            self.watch.accept(streamed)
            await_settled(stack, before + streamed.prints.height)
            # Their rows come late from now on: sealed, or a day that never had a partition.
            early = plan.sealed(max(plan.late_days))
            run_job(stack, "archive_partitions", now=early, partitions=plan.names(*plan.late_days))
            late = send(stack, plan, (*plan.late_days, plan.days), plan.late, seed=plan.seed + 2)
            self.watch.accept(late)
            await_late(stack, plan, late.prints.height)
            send_broken(stack, self.marker, BROKEN)
            self.watch.record_searches()

    def _archive(self) -> None:
        plan, middle = self.plan, self.plan.sealed(self.plan.half - 1)
        if plan.half < plan.days:
            with self.watch.stage("archived, half", middle):
                run_job(self.stack, "archive_partitions", now=middle)
        now = plan.sealed(plan.days - 1)
        with self.watch.stage("archived", now):
            run_job(self.stack, "archive_partitions", now=now)

    def _leave(self) -> None:
        plan, stack = self.plan, self.stack
        with self.watch.stage("detached", plan.detaching):
            self._hold(plan.held_hot, "--keep-hot")
            self._hold(plan.held)
            run_job(stack, "detach_partitions", now=plan.detaching)
            if plan.is_whole:
                self._drill()
        self.watch.check_state(plan.held_hot, State.VERIFIED)
        with self.watch.stage("dropped", plan.dropping):
            run_job(stack, "drop_partitions", now=plan.dropping)
            if plan.is_whole:
                run_job(stack, "detach_partitions", now=plan.dropping)
        self.watch.check_state(plan.held_hot, State.VERIFIED)
        self.watch.check_state(plan.held, State.DETACHED)
        self.watch.check_state(plan.late_days[0], State.DROPPED)
        self.watch.check_state(plan.late_days[1], State.DETACHED)
        self.watch.check_state(plan.late_days[2], State.VERIFIED)

    def _merge(self) -> None:
        plan, stack, now = self.plan, self.stack, self.plan.dropping + NIGHT
        with self.watch.stage("merged", now):
            run_job(stack, "merge_late_rows", now=now)
        for day in plan.late_days:
            self.watch.check_state(day, State.OPEN, generation=2)
        self.watch.check(late_rows(stack, plan) == 0, "late rows were not merged")
        with self.watch.stage("archived again", now):
            run_job(stack, "archive_partitions", now=now)
        for day in plan.late_days:
            self.watch.check_state(day, State.VERIFIED, generation=2)

    def _restore(self) -> None:
        plan, stack, now = self.plan, self.stack, self.plan.dropping + 2 * NIGHT
        with self.watch.stage("restored", now):
            (beside,) = plan.names(plan.beside)
            self.watch.figures["restored beside"] = done(
                stack, "restore", "--partition", beside
            ).strip()
            ((rows,),) = stack.ask(f"select count(*) from audit.restored_{beside}")
            wanted = self.watch.accepted.filter(pl.col("day") == plan.beside).height
            self.watch.check(rows == wanted, f"{rows:,} of {wanted:,} rows restored beside")
            done(stack, "restore", "--partition", beside, "--remove")
            (attached,) = plan.names(plan.attached)
            self.watch.figures["attached"] = done(
                stack, "restore", "--partition", attached, "--attach"
            ).strip()
        self.watch.check_state(plan.attached, State.VERIFIED)

    def _expire(self) -> None:
        plan, stack, now = self.plan, self.stack, self.plan.dropping + 3 * NIGHT
        dropped = [
            row.lo for row in partitions_of(stack, plan) if row.state is State.DROPPED and row.n
        ]
        days = [(lo - plan.first) // DAY for lo in dropped]
        self.watch.check(plan.too_late in days, "nothing can expire")
        short = self.watch.accepted.filter(pl.col("is_short") & pl.col("day").is_in(days))
        # From the mark on no search reads them.
        self.watch.removed = frozenset(short["id"])
        with self.watch.stage("expired", now):
            run_job(stack, "expire_archive", now=now)
            run_job(stack, "expire_archive", now=now + timedelta(hours=2))
        files = [entry for row in partitions_of(stack, plan) for entry in row.files]
        gone = [entry for entry in files if entry.expired_at is not None]
        self.watch.check(
            sum(entry.rows for entry in gone) == short.height,
            f"{sum(entry.rows for entry in gone):,} of {short.height:,} rows expired",
        )
        self.watch.figures["expired files"] = f"{len(gone)} of {len(files)}"

    def _too_late(self) -> None:
        plan, stack = self.plan, self.stack
        now = plan.dropping + 3 * NIGHT + DAY
        late = send(stack, plan, [plan.too_late], plan.late // 3, seed=plan.seed + 3)
        self.watch.accept(late)
        self.watch.added = frozenset(late.prints["id"])
        await_late(stack, plan, late.prints.height)
        with self.watch.stage("too late", now):
            run_job(stack, "merge_late_rows", now=now)
            leaving = plan.names(*range(plan.days - plan.left))
            run_job(stack, "detach_partitions", now=now, partitions=leaving)
            if plan.is_whole:
                run_job(stack, "drop_partitions", now=now)
        self.watch.check(
            late_rows(stack, plan) == late.prints.height, "rows of an expired day moved"
        )

    def _settle(self, load: Load) -> None:
        """Count what is no row of the plan: the application's events, dead letters, own acts."""
        report = load.end()
        self.watch.check(report.accepted == report.called, f"the application lost {report.dropped}")
        eventually(
            lambda: len(self.stack.stored(load.action)) == report.accepted,
            within_s=TOLD_S,
            what="all events of the application",
        )
        twice = [one for one in self.stack.stored(load.action).values() if one != 1]
        self.watch.check(not twice, f"{len(twice)} events of the application stand twice")
        self.watch.figures["application beside it"] = (
            f"{report.accepted:,} logged, each stored once"
        )
        dead = self._dead_letters()
        self.watch.check(dead == BROKEN, f"{dead} of {BROKEN} broken events are dead letters")
        ((acts, distinct),) = self.stack.ask(
            "select count(*), count(distinct id) from audit.event_all where source = 'audit'"
        )
        self.watch.check(acts == distinct, f"{acts - distinct} acts of the platform stand twice")
        self.watch.figures["dead letters"] = f"{dead}"
        self.watch.figures["acts of the platform in its own log"] = f"{acts}"

    def _drill(self) -> None:
        run_job(self.stack, "drill_restore", now=self.plan.detaching)
        ((rows, mismatches),) = self.stack.ask(
            "select rows, mismatches from audit.restore_drill order by at desc limit 1"
        )
        self.watch.check(rows > 0 and not mismatches, f"the drill found {mismatches} mismatches")
        self.watch.figures["restore drill"] = f"{rows:,} rows, {mismatches} mismatches"

    def _hold(self, day: int, *options: str) -> None:
        lo, hi = (self.plan.midnight(each).isoformat() for each in (day, day + 1))
        done(
            self.stack, "hold", "place", f"case-{day}", "--tenant", "*", "--since", lo,
            "--until", hi, "--reason", "end-to-end test", *options,
        )  # fmt: skip

    def _dead_letters(self) -> int:
        vault = DeadLetterVault.of_settings(self.stack.settings)
        url = self.stack.settings.database_url_of("maint")
        with connected(url, application="tests", role="audit_owner") as connection:
            letters = list_dead_letters(connection, vault, limit=1_000)
        return sum(self.marker.encode() in (letter.raw or b"") for letter in letters)
