"""Numbers out of rows: the same ranges in whatever order and portions the rows come."""

import random

import polars as pl
import pytest

from audit_platform.events.number_ranges import Ranges, count, minus
from audit_platform.events.row_numbers import RowNumbers

SEED = 20_261_123
HIGHEST = 2**63 - 1


def rows_of(rows: list[tuple[int | None, int | None, int | None]]) -> pl.DataFrame:
    """Rows with the types of archived columns."""
    return pl.DataFrame(
        rows,
        schema={"producer_id": pl.Int32, "producer_epoch": pl.Int64, "producer_seq": pl.Int64},
        orient="row",
    )


def ranges_of(numbers: set[int]) -> Ranges:
    """The plain way."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


@pytest.mark.parametrize("portion", [1, 7, 1_000])
def test_rows_in_any_order_become_the_same_ranges(portion: int) -> None:
    """Two producers, rows of equal numbers included, folded in the middle."""
    rnd = random.Random(SEED)
    rows = [(rnd.choice((3, 4)), rnd.choice((1, 2)), rnd.randrange(1, 200)) for _ in range(600)]
    found = RowNumbers()

    for first in range(0, len(rows), portion):
        found.add_rows(rows_of([*rows[first : first + portion], (None, None, None)]))
        if first % 5 == 0:
            found.ranges()

    assert found.by_run() == {
        run: (
            sum(one[:2] == run for one in rows),
            ranges_of({one[2] for one in rows if one[:2] == run}),
        )
        for run in sorted({one[:2] for one in rows})
    }


def test_only_asked_producers_are_added() -> None:
    found = RowNumbers()

    found.add_rows(rows_of([(3, 1, 1), (4, 1, 9)]), [4])
    found.add_rows(rows_of([(3, 1, 1)]), [])

    assert found.by_run() == {(4, 1): (1, ((9, 9),))}


def test_ranges_join_rows_and_one_another() -> None:
    one, other = RowNumbers(), RowNumbers()
    one.add_islands([(3, 1, 1, 4, 4), (3, 1, 9, 9, 2)])
    other.add_rows(rows_of([(3, 1, 5), (3, 1, 2), (3, 2, 6)]))

    one.add(other)
    one.add(RowNumbers())

    assert one.by_run() == {(3, 1): (8, ((1, 5), (9, 9))), (3, 2): (1, ((6, 6),))}


def test_the_highest_number_is_the_one_that_the_ledger_keeps() -> None:
    found = RowNumbers()

    found.add_rows(rows_of([(3, 1, HIGHEST), (3, 1, HIGHEST - 2)]))

    assert found.by_run() == {(3, 1): (2, ((HIGHEST - 2, HIGHEST - 1),))}


def test_more_rows_than_wait_unfolded_are_one_range_in_the_end() -> None:
    found = RowNumbers(fold_at=100)

    for first in range(0, 10_000, 50):
        # Every second number, then those in between.
        found.add_rows(rows_of([(3, 1, first + n) for n in (*range(0, 50, 2), *range(1, 50, 2))]))

    assert found.ranges().height == 1


def test_difference_of_ranges_is_that_of_sets() -> None:
    rnd = random.Random(SEED)
    for _ in range(300):
        one = set(rnd.sample(range(1, 40), rnd.randrange(0, 30)))
        other = set(rnd.sample(range(1, 40), rnd.randrange(0, 30)))

        left = minus(ranges_of(one), ranges_of(other))

        assert left == ranges_of(one - other), (one, other)
        assert count(left) == len(one - other)
