"""The time of one search: what is left, and where the archive asks for it."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from audit_platform.archive.store import open_store
from audit_platform.errors import InvalidQuery
from audit_platform.search.cold import Archive
from audit_platform.search.query import EventQuery
from audit_platform.search.time_limit import TimeLimit
from tests.archiving import write_partition
from tests.unit.search.archived_day import LAST, SPAN, day_rows


def _clock(*moments: float) -> Iterator[float]:
    yield from moments


def test_what_is_left_shrinks_to_nothing() -> None:
    moments = _clock(100.0, 103.0, 109.9, 110.1)
    limit = TimeLimit(10, clock=lambda: next(moments))

    assert [limit.left_s for _ in range(3)] == pytest.approx([7.0, 0.1, 0.0])


def test_limit_of_each_part_never_ends_the_whole() -> None:
    hours = count(0, 3_600)
    limit = TimeLimit(10, is_for_each_part=True, clock=lambda: next(hours))

    limit.check()

    assert limit.left_s == 10


def test_error_says_how_far_it_came_and_what_to_do() -> None:
    moments = _clock(0.0, 11.0)
    limit = TimeLimit(10, clock=lambda: next(moments))

    with pytest.raises(InvalidQuery) as caught:
        limit.check("in the archive of 2026-03-05")

    assert "longer than 10 s and was in the archive of 2026-03-05" in str(caught.value)
    for remedy in ("--since", "--until", "--tenant", "--entity", "AUDIT_SEARCH_TIMEOUT_S"):
        assert remedy in str(caught.value)


@pytest.mark.parametrize(("looks", "place"), [(0, "before"), (4, "in")])
def test_archive_stops_before_the_next_file_or_row_group(
    tmp_path: Path, looks: int, place: str
) -> None:
    store = open_store(tmp_path.as_uri())
    partition = write_partition(store, day_rows(), SPAN)
    seconds = count(0)
    limit = TimeLimit(looks + 0.5, clock=lambda: next(seconds))

    with pytest.raises(InvalidQuery, match=f"{place} the archive of 2026-03-05"):
        Archive([store.url]).search(
            partition, EventQuery(), since=SPAN.lo, until=LAST, wanted=1_000, limit=limit
        )
