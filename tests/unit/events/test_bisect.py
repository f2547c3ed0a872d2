"""Bisecting finds the failing rows in few attempts and loads all others once."""

from hypothesis import given
from hypothesis import strategies as st

from audit_platform.errors import RowRefused
from audit_platform.events.merge_rows import bisect


class _Table:
    """Takes a range as a whole unless it holds a poisoned row."""

    def __init__(self, poison: set[int]) -> None:
        self.poison, self.rows, self.attempts = poison, list[int](), 0

    def load(self, lo: int, hi: int) -> int:
        self.attempts += 1
        if self.poison.intersection(range(lo, hi)):
            raise RowRefused
        self.rows.extend(range(lo, hi))
        return hi - lo


@given(count=st.integers(0, 300), data=st.data())
def test_all_but_the_failing_rows_are_loaded_once_in_order(count: int, data: st.DataObject) -> None:
    poison = data.draw(st.sets(st.integers(0, count - 1) if count else st.nothing()))
    table = _Table(poison)

    result = bisect(table.load, count)

    assert table.rows == [row for row in range(count) if row not in poison]
    assert [failed.row_no for failed in result.failed] == sorted(poison)
    assert result.affected == count - len(poison)


def test_one_row_in_ten_thousand_takes_at_most_29_attempts() -> None:
    table = _Table({4_321})

    bisect(table.load, 10_000)

    assert table.attempts <= 29
