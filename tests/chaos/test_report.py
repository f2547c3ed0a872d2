"""The table of `make chaos`: parts shown as one result, storage apart from the path of events."""

from typing import Any

import pytest

from tests.chaos.harness.report import NO_REDIS, joined, total_of

pytestmark = pytest.mark.chaos


def result(**changed: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "name": "life",
        "postgres": "18.4",
        "redis": NO_REDIS,
        "part": "",
        "seconds": 1.5,
        "accepted": {"stored": 100},
        "lost": 0,
        "excused": 0,
        "missing": {},
        "recovered": 0,
        "duplicated": 0,
        "unexpected": 0,
        "missing_numbers": 0,
        "faults": {},
    }
    return known | changed


def kills(point: str, count: int) -> dict[str, Any]:
    return {point: {"n": count, "proved": count, "kills": count, "recovery_s": [2.0]}}


def test_parts_of_one_name_and_server_are_one_result() -> None:
    parts = [
        result(part="a", faults=kills("A", 1)),
        result(part="b", faults=kills("B", 2), duplicated=1),
        result(part="a", faults=kills("A", 4), postgres="16.9"),
        result(name="another"),
    ]

    whole = joined(parts)

    assert [(one["name"], one["postgres"]) for one in whole] == [
        ("life", "18.4"),
        ("life", "16.9"),
        ("another", "18.4"),
    ]
    assert (set(whole[0]["faults"]), whole[0]["accepted"]) == ({"A", "B"}, {"stored": 200})
    assert (whole[0]["duplicated"], whole[0]["seconds"]) == (1, 3.0)
    assert parts[0]["duplicated"] == 0


def test_kills_of_storage_do_not_count_for_the_goals_of_events() -> None:
    total = total_of(
        [
            result(faults=kills("A", 300), lost=2),
            result(name="sweep", redis="8.0", faults=kills("F01", 7), accepted={"durable": 5}),
        ]
    )

    assert (total["kills"], total["storage_kills"], total["accepted"]) == (7, 300, 5)
    assert total["lost"] == 2
