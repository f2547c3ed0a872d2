"""Rows are split by the partitions that take them."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from audit_platform.events.split_rows import PartitionRanges, split_rows

DAY = timedelta(days=1)
START = datetime(2026, 11, 1, tzinfo=UTC)
# 1 November is sealed, 2 and 3 are open, 4 is missing, 5 is open.
RANGES = PartitionRanges.of_rows(
    [
        (START, START + DAY, "sealed"),
        (START + DAY, START + 2 * DAY, "open"),
        (START + 2 * DAY, START + 3 * DAY, "open"),
        (START + 4 * DAY, START + 5 * DAY, "open"),
    ]
)
MICROSECOND = timedelta(microseconds=1)


def _rows(*moments: datetime) -> pl.DataFrame:
    return pl.DataFrame(
        {"timestamp": moments, "no": range(len(moments))},
        schema={"timestamp": pl.Datetime("us", "UTC"), "no": pl.Int64},
    )


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (START - MICROSECOND, "no_partition"),
        (START, "sealed"),
        (START + DAY - MICROSECOND, "sealed"),
        (START + DAY, None),
        (START + 3 * DAY - MICROSECOND, None),
        (START + 3 * DAY, "no_partition"),
        (START + 4 * DAY, None),
        (START + 5 * DAY, "no_partition"),
        (datetime(9999, 12, 31, tzinfo=UTC), "no_partition"),
    ],
)
def test_bounds_are_inclusive_below_and_exclusive_above(
    moment: datetime, reason: str | None
) -> None:
    split = split_rows(_rows(moment), RANGES)

    assert split.open_.height == (reason is None)
    assert split.late["late_reason"].to_list() == ([] if reason is None else [reason])


def test_every_row_comes_out_once_and_in_order() -> None:
    moments = [START + 6 * DAY * share / 50 for share in range(50)]

    split = split_rows(_rows(*moments), RANGES)

    numbers = split.open_["no"].to_list(), split.late["no"].to_list()
    assert sorted(numbers[0] + numbers[1]) == list(range(50))
    assert all(part == sorted(part) for part in numbers)


def test_without_any_partition_every_row_is_late() -> None:
    split = split_rows(_rows(START, START + DAY), PartitionRanges.of_rows([]))

    assert split.open_.is_empty()
    assert split.late["late_reason"].to_list() == ["no_partition"] * 2


def test_no_rows_give_no_rows_with_the_same_columns() -> None:
    split = split_rows(_rows(), RANGES)

    assert split.open_.columns == ["timestamp", "no"]
    assert split.late.columns == ["timestamp", "no", "late_reason"]
