"""Two persons: one asks, another approves; it is done once, as asked, not before its time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from audit_platform.approval import MAX_AGE, TwoPersonAct, Wanted, ask, decide, list_open
from audit_platform.db.pool import Connection
from audit_platform.errors import ApprovalRefused

pytestmark = pytest.mark.integration

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WANTED = Wanted(act=TwoPersonAct.RELEASE_HOLD, target="release 1 hold", args={"holds": ["a"]})


def asked(conn: Connection, *, delay: timedelta = timedelta()) -> UUID:
    made = ask(conn, WANTED, request_id=uuid4(), reason="over", person="ada", delay=delay, now=NOW)
    return made.request_id


def decided(
    conn: Connection, request_id: UUID, *, person: str = "bob", now: datetime = NOW
) -> bool:
    return decide(conn, WANTED, request_id=request_id, person=person, now=now)[1]


def test_another_person_approves_and_it_is_done_once(admin: Connection) -> None:
    request_id = asked(admin)

    approval, is_due = decide(admin, WANTED, request_id=request_id, person="bob", now=NOW)

    assert is_due
    assert (approval.requested_by, approval.approved_by, approval.executed_at) == (
        "ada",
        "bob",
        NOW,
    )
    with pytest.raises(ApprovalRefused, match="carried out"):
        decided(admin, request_id)


@pytest.mark.parametrize("person", ["ada", "Ada", " ADA "])
def test_the_person_who_asked_cannot_approve(admin: Connection, person: str) -> None:
    request_id = asked(admin)

    with pytest.raises(ApprovalRefused, match="another person"):
        decided(admin, request_id, person=person)


def test_the_table_refuses_what_the_program_might_forget(admin: Connection) -> None:
    asked(admin, delay=timedelta(hours=48))
    for change in (
        "approved_by = 'ADA', approved_at = now()",
        "approved_by = 'bob'",
        "executed_at = now()",
        "approved_by = 'bob', approved_at = requested_at, executed_at = requested_at",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            admin.execute(f"update audit.approval set {change}".encode())


def test_what_leads_to_a_deletion_waits_for_its_time(admin: Connection) -> None:
    request_id = asked(admin, delay=timedelta(hours=48))

    assert not decided(admin, request_id, now=NOW + timedelta(hours=1))
    assert not decided(admin, request_id, person="ada", now=NOW + timedelta(hours=47))
    assert decided(admin, request_id, person="ada", now=NOW + timedelta(hours=48))


@pytest.mark.parametrize(
    "other",
    [
        replace(WANTED, args={"holds": ["a", "b"]}),
        replace(WANTED, target="release 2 holds"),
        replace(WANTED, act=TwoPersonAct.SHORTEN_RETENTION),
    ],
)
def test_only_what_was_asked_for_is_done(admin: Connection, other: Wanted) -> None:
    request_id = asked(admin)

    with pytest.raises(ApprovalRefused, match="something else"):
        decide(admin, other, request_id=request_id, person="bob", now=NOW)
    assert decided(admin, request_id)


def test_old_and_unknown_requests_are_refused(admin: Connection) -> None:
    request_id = asked(admin)

    with pytest.raises(ApprovalRefused, match="no such request"):
        decided(admin, uuid4())
    with pytest.raises(ApprovalRefused, match="older than"):
        decided(admin, request_id, now=NOW + MAX_AGE + timedelta(seconds=1))


def _failing_act(conn: Connection, request_id: UUID) -> None:
    with conn.transaction():
        assert decided(conn, request_id)
        raise RuntimeError("the act failed")


def test_an_act_that_fails_leaves_its_request_open(admin: Connection) -> None:
    request_id = asked(admin)
    with pytest.raises(RuntimeError):
        _failing_act(admin, request_id)

    (waiting,) = list_open(admin, now=NOW)
    assert (waiting.request_id, waiting.approved_by) == (request_id, None)
    assert decided(admin, request_id)
    assert list_open(admin, now=NOW) == []
