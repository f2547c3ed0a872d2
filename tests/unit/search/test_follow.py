"""What `tail` shows: each event once, oldest first."""

from datetime import UTC, datetime, timedelta
from typing import Any

from audit_platform.search.follow import LOOK_BACK, Follower

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def _row(number: int, age: timedelta = timedelta(0)) -> dict[str, Any]:
    return {"tenant_id": "acme", "id": number, "timestamp": NOW - age}


def test_event_is_shown_once_and_oldest_first() -> None:
    follower = Follower(started_at=NOW)

    first = follower.take_new([_row(2), _row(1)], now=NOW)
    second = follower.take_new([_row(3), _row(2), _row(1)], now=NOW)

    assert [row["id"] for row in first] == [1, 2]
    assert [row["id"] for row in second] == [3]


def test_same_id_of_another_tenant_is_another_event() -> None:
    follower = Follower(started_at=NOW)

    found = follower.take_new([_row(1), _row(1) | {"tenant_id": "globex"}], now=NOW)

    assert len(found) == 2


def test_memory_holds_the_look_back_only() -> None:
    follower = Follower(started_at=NOW)
    follower.take_new([_row(1)], now=NOW)

    later = NOW + LOOK_BACK + timedelta(seconds=1)

    assert follower.since(later) > NOW
    follower.take_new([], now=later)
    assert follower.take_new([_row(1)], now=later)
