"""Legal holds: by case, several per object, each in force until it is released itself."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.retention.holds import (
    Hold,
    HoldScope,
    blocking_holds,
    frozen_holds,
    list_holds,
    place,
    release,
)
from tests.conftest import Database
from tests.integration.retention.creation import until

pytestmark = pytest.mark.integration

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LO = datetime(2026, 1, 1, tzinfo=UTC)
HI = LO + timedelta(days=1)


def hold(conn: Connection, case: str = "case-1", **scope: Any) -> Hold:
    given = {"tenant_id": "acme", "lo": LO, "hi": HI, **scope}
    return place(
        conn,
        hold_id=uuid4(),
        case_id=case,
        scope=HoldScope(**given),
        reason="a court asks for it",
        placed_by="ada",
        now=NOW,
    )


def blocking(conn: Connection, **asked: Any) -> set[UUID]:
    given = {"lo": LO, "hi": HI, "tenant": "acme", **asked}
    found = blocking_holds(conn, **given)
    return {one.hold_id for one in found}


def test_a_placed_hold_is_listed_as_it_was_placed(maint: Connection) -> None:
    made = hold(maint, entity_type="order", entity_id="1042", user_id="7", keep_hot=True)

    assert list_holds(maint) == [made]
    assert made.is_active


def test_every_hold_of_an_object_must_be_released(maint: Connection) -> None:
    first, second = hold(maint, "case-1"), hold(maint, "case-2")

    assert release(maint, [first.hold_id], released_by="ada", now=NOW) == [first.hold_id]
    assert blocking(maint) == {second.hold_id}
    release(maint, [second.hold_id], released_by="ada", now=NOW)
    assert blocking(maint) == set()


def test_a_case_has_any_number_of_holds(maint: Connection) -> None:
    first, second = hold(maint), hold(maint, entity_type="user", entity_id="7")
    other = hold(maint, "case-2")

    assert [one.hold_id for one in list_holds(maint, case_id="case-1")] == sorted(
        (first.hold_id, second.hold_id)
    )
    release(maint, [first.hold_id, second.hold_id], released_by="ada", now=NOW)
    assert [one.hold_id for one in list_holds(maint)] == [other.hold_id]
    assert len(list_holds(maint, with_released=True)) == 3


def test_a_released_hold_stays_released_by_whom_it_was(maint: Connection) -> None:
    made = hold(maint)
    release(maint, [made.hold_id], released_by="ada", now=NOW)

    assert release(maint, [made.hold_id], released_by="bob", now=NOW) == []
    (found,) = list_holds(maint, with_released=True)
    assert (found.released_by, found.released_at, found.is_active) == ("ada", NOW, False)


def test_a_repeated_placing_adds_nothing(maint: Connection) -> None:
    made = hold(maint)
    place(
        maint,
        hold_id=made.hold_id,
        case_id="another",
        scope=made.scope,
        reason="again",
        placed_by="bob",
        now=NOW,
    )

    assert list_holds(maint) == [made]


@pytest.mark.parametrize(
    ("scope", "asked", "is_blocking"),
    [
        ({}, {}, True),
        ({"tenant_id": "*"}, {}, True),
        ({"tenant_id": "globex"}, {}, False),
        ({"tenant_id": "globex"}, {"tenant": None}, True),
        ({"lo": HI, "hi": HI + timedelta(days=9)}, {}, False),
        ({"lo": HI - timedelta(microseconds=1), "hi": HI}, {}, True),
        ({"hi": LO + timedelta(seconds=1), "lo": LO - timedelta(days=9)}, {}, True),
        ({"lo": LO - timedelta(days=9), "hi": LO}, {}, False),
        ({}, {"keep_hot": True}, False),
        ({"keep_hot": True}, {"keep_hot": True}, True),
        ({"keep_hot": True}, {}, True),
        ({"entity_type": "order", "entity_id": "1"}, {}, True),
        ({"user_id": "7"}, {}, True),
    ],
)
def test_a_hold_blocks_what_may_contain_its_rows(
    maint: Connection, scope: dict[str, Any], asked: dict[str, Any], is_blocking: bool
) -> None:
    made = hold(maint, **scope)

    assert blocking(maint, **asked) == ({made.hold_id} if is_blocking else set())


def test_a_hold_without_bounds_covers_all_time(maint: Connection) -> None:
    made = place(
        maint,
        hold_id=uuid4(),
        case_id="c",
        scope=HoldScope(tenant_id="*"),
        reason="r",
        placed_by="ada",
        now=NOW,
    )

    for day in (datetime(1970, 1, 1, tzinfo=UTC), LO, datetime(2999, 1, 1, tzinfo=UTC)):
        found = blocking_holds(maint, day, day + timedelta(days=1), "acme")
        assert [one.hold_id for one in found] == [made.hold_id]


@pytest.mark.parametrize(
    "scope",
    [
        {"hi": LO},
        {"lo": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is the fault
        {"entity_id": "1042"},
        {"tenant_id": ""},
        {"user_id": "x" * 101},
    ],
)
def test_a_scope_that_holds_nothing_is_refused(scope: dict[str, Any]) -> None:
    given = {"tenant_id": "acme", "lo": LO, "hi": HI, **scope}
    with pytest.raises(ValueError, match=r"period|entity|tenant_id|user_id"):
        HoldScope(**given)


@pytest.mark.parametrize(
    ("case", "reason", "person"), [("", "r", "a"), ("c", " ", "a"), ("c", "r", "x\n")]
)
def test_a_hold_needs_a_case_a_reason_and_a_person(
    maint: Connection, case: str, reason: str, person: str
) -> None:
    with pytest.raises(ValueError, match="printable"):
        place(
            maint,
            hold_id=uuid4(),
            case_id=case,
            scope=HoldScope(tenant_id="acme"),
            reason=reason,
            placed_by=person,
            now=NOW,
        )
    assert list_holds(maint) == []


def test_placing_waits_for_a_step_that_destroys_and_asking_does_not(
    database: Database, maint: Connection, admin: Connection
) -> None:
    """A hold comes before the step or after it; in between it would be neither kept nor broken."""
    with (
        connected(database.maint_url, application="placer") as other,
        connected(database.maint_url, application="asker") as asker,
        ThreadPoolExecutor(1) as pool,
    ):
        with frozen_holds(maint):
            placing = pool.submit(hold, other)
            until(lambda: _is_waiting(admin, "placer"), what="the placing waits for the step")
            assert blocking(asker) == set()
        made = placing.result(timeout=30)
    assert blocking(maint) == {made.hold_id}


def _is_waiting(admin: Connection, application: str) -> bool:
    found = admin.execute(
        "select count(*) from pg_stat_activity"
        " where application_name = %s and wait_event_type = 'Lock'",
        [f"audit-platform {application}"],
    ).fetchone()
    return found == (1,)
