"""What the platform tells producers is read exactly, or not believed."""

import pytest

from audit_platform.client.coverage import Freshness, ShardStatus, parse_coverage, parse_status
from audit_platform.client.seq_set import SeqSet


def test_everything_up_to_the_highest_number_but_the_gaps_is_confirmed() -> None:
    coverage = parse_coverage(b'{"watermark":3,"max":20,"gaps":[[4,5],[9,9]],"at_ms":1}')

    assert coverage is not None
    assert coverage.confirmed() == SeqSet([(1, 3), (6, 8), (10, 20)])
    assert coverage.covers(10, 20)
    assert not coverage.covers(10, 21)
    assert not coverage.covers(3, 4)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"nonsense",
        b"[]",
        b'{"max":3}',
        b'{"max":"x","gaps":[]}',
        b'{"max":1,"gaps":[1]}',
    ],
)
def test_an_unreadable_coverage_confirms_nothing(raw: bytes | None) -> None:
    assert parse_coverage(raw) is None


def test_a_status_is_read() -> None:
    assert parse_status(b'{"level":2,"lag_s":61.5,"at_ms":7}') == ShardStatus(
        level=2, lag_s=61.5, at_ms=7
    )


@pytest.mark.parametrize("raw", [None, b"{}", b'{"level":[],"lag_s":0,"at_ms":0}', b"\xff"])
def test_an_unreadable_status_is_none(raw: bytes | None) -> None:
    assert parse_status(raw) is None


def test_a_status_is_fresh_as_long_as_it_changes() -> None:
    freshness = Freshness()
    assert not freshness.is_fresh(0)

    freshness.note(ShardStatus(level=0, lag_s=0, at_ms=5), now_s=100)
    assert freshness.is_fresh(110)

    freshness.note(ShardStatus(level=0, lag_s=0, at_ms=5), now_s=114)
    assert not freshness.is_fresh(116)

    # Another machine's clock may stand anywhere: it only has to move.
    freshness.note(ShardStatus(level=0, lag_s=0, at_ms=4), now_s=117)
    assert freshness.is_fresh(118)
