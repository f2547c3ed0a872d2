"""Some days of rows through their whole life on the real stack: `make e2e-lifecycle`, small."""

import random
from datetime import UTC, datetime

import polars as pl
import pytest

from audit_platform.search.hot import ArchiveUse
from tests.acceptance.conftest import Stack
from tests.acceptance.lifecycle.balance import judge
from tests.acceptance.lifecycle.life import live
from tests.acceptance.lifecycle.plan import small_plan
from tests.acceptance.lifecycle.report import table
from tests.acceptance.lifecycle.searches import Answer, difference

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(400),
]

ROWS = tuple((bytes([number]), b"digest") for number in range(4))


def prints(*rows: tuple[bytes, bytes]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"id": pl.Binary, "leaf": pl.Binary}, orient="row")


def answer(*rows: tuple[bytes, bytes], is_complete: bool = True) -> Answer:
    return Answer(rows=rows, is_complete=is_complete, use=ArchiveUse())


def changes(before: Answer, after: Answer, *, removed: set[bytes], added: set[bytes]) -> bool:
    return difference(before, after, removed=removed, added=added) is not None


def test_every_row_is_in_one_place_and_every_search_answers_the_same_all_the_way(
    stack: Stack,
) -> None:
    # pytest-randomly prints the number that everything here follows from.
    plan = small_plan(now=datetime.now(UTC), seed=random.randrange(1 << 30))

    outcome = live(stack, plan, print)

    assert not outcome.failures, table(outcome)
    assert {stage.equal for stage in outcome.stages} == {plan.searches}
    kept = outcome.balance
    assert min(kept.hot, kept.cold, kept.late, kept.expired) > 0
    assert kept.hot + kept.cold + kept.late + kept.expired == kept.accepted


def test_the_sets_notice_a_row_that_is_lost_strange_twice_or_altered() -> None:
    found = judge(
        prints(*ROWS),
        pl.Series([b"\3"], dtype=pl.Binary),
        hot=prints(ROWS[1], (b"\2", b"other!")),
        late=prints(ROWS[1]),
        cold=prints((b"\x09", b"digest")),
    )

    counts = (found.missing, found.unexpected, found.repeated, found.altered)
    assert counts == (1, 1, 1, 1)
    assert len(found.problems()) == 4


def test_an_answer_may_differ_by_what_was_declared_and_by_nothing_else() -> None:
    whole, other = answer(*ROWS), (b"\2", b"other")
    page = answer(*ROWS[:3], is_complete=False)

    assert not changes(whole, answer(*ROWS), removed=set(), added=set())
    assert not changes(whole, answer(ROWS[0], *ROWS[2:]), removed={b"\1"}, added=set())
    assert not changes(page, answer(ROWS[0], *ROWS[2:]), removed={b"\1"}, added=set())
    assert not changes(answer(*ROWS[1:]), whole, removed=set(), added={b"\0"})
    assert changes(whole, answer(*ROWS[:3]), removed=set(), added=set())
    assert changes(whole, answer(*ROWS[:3], is_complete=False), removed=set(), added=set())
    assert changes(whole, answer(*ROWS[::-1]), removed=set(), added=set())
    assert changes(whole, answer(*ROWS[:2], other, ROWS[3]), removed=set(), added=set())
    assert changes(whole, answer(ROWS[0], ROWS[3]), removed={b"\1"}, added=set())
    assert changes(page, answer(ROWS[0], ROWS[3]), removed={b"\1"}, added=set())
