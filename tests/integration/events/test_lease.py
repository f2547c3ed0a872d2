"""The lease: one holder per shard, a fence that only grows, and no writes from behind it."""

import time
from collections.abc import Callable, Iterator
from threading import Event

import pytest

from audit_platform.db.pool import Connection, connect, connected, transaction
from audit_platform.errors import FenceLost, LockNotAvailable
from audit_platform.events import lease as leases
from audit_platform.events.lease import Lease, LeaseState
from tests.conftest import Database
from tests.silence import fall_silent

pytestmark = pytest.mark.integration


@pytest.fixture
def writer(database: Database) -> Iterator[Connection]:
    connection = connect(database.writer_url, application="lease test")
    yield connection
    connection.close()


def _take(writer: Connection, run_id: str, *, dead_run_id: str | None = None) -> Lease | None:
    return leases.take(writer, shard=3, run_id=run_id, ttl_s=30, dead_run_id=dead_run_id)


def _expire(database: Database) -> None:
    with connect(database.admin_url, application="lease test") as admin:
        admin.execute("update audit.drain_lease set expires_at = now() - interval '1 second'")


def test_a_live_lease_is_refused_to_another_run(writer: Connection) -> None:
    first = _take(writer, "run-1")

    second = _take(writer, "run-2")

    assert first is not None
    assert second is None


def _eventually(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline
        Event().wait(0.02)


def test_an_expired_lease_is_taken_with_a_higher_fence(
    writer: Connection, database: Database
) -> None:
    first = _take(writer, "run-1")
    _expire(database)

    second = _take(writer, "run-2")

    assert first is not None
    assert second is not None
    assert second.fence > first.fence
    assert leases.renew(writer, first) is LeaseState.LOST
    assert leases.renew(writer, second) is LeaseState.HELD


def test_an_expired_lease_that_nobody_took_is_renewed(
    writer: Connection, database: Database
) -> None:
    held = _take(writer, "run-1")
    assert held is not None
    _expire(database)

    state = leases.renew(writer, held)

    assert state is LeaseState.HELD
    assert _take(writer, "run-2") is None


def test_the_lease_of_a_run_known_to_be_dead_is_free_at_once(writer: Connection) -> None:
    _take(writer, "run-1")

    taken = _take(writer, "run-2", dead_run_id="run-1")

    assert taken is not None


def test_a_released_lease_is_free_and_keeps_its_fence(writer: Connection) -> None:
    first = _take(writer, "run-1")
    assert first is not None
    leases.release(writer, first)

    second = _take(writer, "run-2")

    assert second is not None
    assert second.fence == first.fence + 1


def test_releasing_a_lost_lease_leaves_the_new_holder_alone(
    writer: Connection, database: Database
) -> None:
    first = _take(writer, "run-1")
    _expire(database)
    second = _take(writer, "run-2")
    assert first is not None
    assert second is not None

    leases.release(writer, first)

    assert leases.renew(writer, second) is LeaseState.HELD


def test_a_stop_request_reaches_live_runs_and_ends_with_the_next_taking(
    writer: Connection,
) -> None:
    held = _take(writer, "run-1")
    assert held is not None

    asked = leases.request_stop(writer)

    assert asked == 1
    assert leases.renew(writer, held) is LeaseState.STOP_REQUESTED
    again = _take(writer, "run-1")
    assert again is not None
    assert leases.renew(writer, again) is LeaseState.HELD


def test_leases_are_shown_with_the_server_s_judgement(
    writer: Connection, database: Database
) -> None:
    _take(writer, "run-1")
    live = leases.read_leases(writer)
    _expire(database)
    expired = leases.read_leases(writer)

    assert [(row.shard, row.run_id, row.is_live) for row in live] == [(3, "run-1", True)]
    assert [row.is_live for row in expired] == [False]


def test_the_lease_of_a_silent_owner_without_a_session_is_free(
    writer: Connection, database: Database
) -> None:
    _take(writer, "run-1")
    assert _take(writer, "run-2") is None
    fall_silent(database)

    assert [row.is_live for row in leases.read_leases(writer)] == [False]
    assert _take(writer, "run-2") is not None


def test_a_silent_owner_with_a_session_keeps_its_lease(
    writer: Connection, database: Database
) -> None:
    """It is in the middle of a long statement: only the time to live ends its lease."""
    _take(writer, "run-1")
    fall_silent(database)
    with connected(database.writer_url, application=leases.session_name(3, "run-1")):
        assert [row.is_live for row in leases.read_leases(writer)] == [True]
        assert _take(writer, "run-2") is None

    _eventually(lambda: _take(writer, "run-2") is not None)


@pytest.mark.parametrize("run_id", ["9bc1d2ee-0000-4000-8000-000000000000", "r" * 200])
def test_a_session_is_known_by_its_run_and_shard(
    writer: Connection, database: Database, run_id: str
) -> None:
    _take(writer, run_id)
    fall_silent(database)
    with (
        connected(database.writer_url, application=leases.session_name(4, run_id)),
        connected(database.writer_url, application=leases.session_name(3, "another")),
    ):
        assert [row.is_live for row in leases.read_leases(writer)] == [False]
    with connected(database.writer_url, application=leases.session_name(3, run_id)):
        assert [row.is_live for row in leases.read_leases(writer)] == [True]


def test_a_renewal_ends_the_silence(writer: Connection, database: Database) -> None:
    """Behind a pooler that hides sessions, a drain that renews is alive all the same."""
    held = _take(writer, "run-1")
    assert held is not None
    fall_silent(database)

    assert leases.renew(writer, held) is LeaseState.HELD

    assert [row.is_live for row in leases.read_leases(writer)] == [True]


def test_a_lease_never_taken_has_no_end(writer: Connection) -> None:
    writer.execute("insert into audit.drain_lease (shard) values (9)")

    row = leases.read_leases(writer)[0]

    assert (row.shard, row.expires_at, row.is_live) == (9, None, False)


def test_the_fence_of_a_zombie_is_refused(writer: Connection, database: Database) -> None:
    first = _take(writer, "run-1")
    _expire(database)
    _take(writer, "run-2")
    assert first is not None

    with pytest.raises(FenceLost), transaction(writer):
        leases.check_fence(writer, shard=3, fence=first.fence)


def test_nobody_takes_over_while_a_batch_is_being_stored(
    writer: Connection, database: Database
) -> None:
    held = _take(writer, "run-1")
    assert held is not None
    _expire(database)
    rival = connect(database.writer_url, application="rival")
    rival.execute("set lock_timeout = '100ms'")

    with transaction(writer):
        leases.check_fence(writer, shard=3, fence=held.fence)
        with pytest.raises(LockNotAvailable):
            leases.take(rival, shard=3, run_id="run-2", ttl_s=30, dead_run_id=None)
    taken = leases.take(rival, shard=3, run_id="run-2", ttl_s=30, dead_run_id=None)
    rival.close()

    assert taken is not None
