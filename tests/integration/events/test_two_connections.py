"""Two connections of one drain: duplicates in flight, renewals beside batches, their failures."""

from contextlib import AbstractContextManager

import psycopg
import pytest

from audit_platform.db.pool import Connection, connected, transaction
from audit_platform.errors import LockNotAvailable, PermissionRefused
from audit_platform.events import lease as leases
from audit_platform.events.lease import Lease, LeaseState
from audit_platform.events.tally import EndReason
from tests.conftest import Database
from tests.factories import event, wire
from tests.integration.events.shard import Shard, wait_until

pytestmark = pytest.mark.integration


def test_events_that_lie_in_both_batches_in_flight_are_stored_once(shard: Shard) -> None:
    """Each event lies in four entries next to each other, over several tenants and days."""
    events = [event(tenant_id=f"tenant-{number % 5}") for number in range(4_000)]
    lines = [wire(one) for one in events]
    for start in range(0, len(lines), 200):
        for copy in range(4):
            part = lines[start : start + 200]
            shard.add_batch(part[copy:] + part[:copy])

    summary = shard.drain(drain_batch_rows=200, drain_connections=2)

    assert shard.stored_ids() == sorted(one["id"] for one in events)
    assert summary.rows == len(events)
    assert summary.rows + summary.duplicates == 4 * len(events)
    assert summary.dead_letters == 0
    assert shard.waiting() == (0, 0)
    paths = shard.rows("select count(*) filter (where n_dup > 0) from audit.ingest_batch")
    assert paths[0][0] > 0, "no batch met a duplicate"


def test_two_batches_are_in_a_transaction_at_the_same_time(
    shard: Shard, database: Database
) -> None:
    """A lock on one tenant's row stops one batch; the other connection stores the rest."""
    first, rest = event(), [event() for _ in range(300)]
    shard.add_event(wire(first))
    shard.drain(run_id="run-0")
    kept = "select * from audit.event"
    with psycopg.connect(database.admin_url) as rival:
        rival.execute(f"create temporary table kept as {kept}".encode())
        rival.execute(b"delete from audit.event")
        rival.commit()
        rival.execute(b"insert into audit.event select * from kept")
        shard.add_event(wire(first))
        running = shard.drain_beside(drain_connections=2, drain_batch_rows=50, drain_idle_s=1.0)
        wait_until(lambda: bool(_waiting_for_locks(shard)))
        for one in rest:
            shard.add_event(wire(one))
        wait_until(lambda: len(shard.stored_ids()) == len(rest))
        rival.commit()
    summary = running.result(60)

    assert (summary.rows, summary.duplicates) == (len(rest), 1)
    assert shard.stored_ids() == sorted(one["id"] for one in [first, *rest])
    assert shard.waiting() == (0, 0)


def test_a_lease_is_renewed_while_a_batch_holds_its_fence(database: Database) -> None:
    """Otherwise a run with two connections would never find the moment for it."""
    with _writer(database) as holder, _writer(database) as keeper:
        lease = _take(holder, "run-1")
        with transaction(holder):
            leases.check_fence(holder, shard=0, fence=lease.fence)
            keeper.execute(b"set lock_timeout = '1s'")
            state = leases.renew(keeper, lease)

    assert state is LeaseState.HELD


def test_a_takeover_waits_for_the_batch_that_holds_the_fence(database: Database) -> None:
    with _writer(database) as holder, _writer(database) as successor, _writer(database) as keeper:
        lease = _take(holder, "run-1")
        successor.execute(b"set lock_timeout = '300ms'")
        with transaction(holder):
            leases.check_fence(holder, shard=0, fence=lease.fence)
            # A renewal in between must not lose what the batch holds.
            leases.renew(keeper, lease)
            with pytest.raises(LockNotAvailable):
                _take(successor, "run-2", dead_run_id="run-1")
        taken = _take(successor, "run-2", dead_run_id="run-1")

    assert taken.fence == lease.fence + 1


def test_a_batch_that_waited_for_a_takeover_finds_its_fence_lost(
    shard: Shard, database: Database
) -> None:
    """Both connections of the replaced run; neither adds a row."""
    running = shard.drain_beside(drain_idle_s=60.0, drain_connections=2)
    wait_until(lambda: bool(shard.rows("select from audit.drain_lease where fence > 0")))
    with psycopg.connect(database.admin_url) as successor:
        successor.execute(
            b"update audit.drain_lease set fence = fence + 1, run_id = 'other'"
            b" where shard = (select shard from audit.drain_lease for update)"
        )
        for _ in range(4):
            shard.add_event(wire(event()))
        wait_until(lambda: bool(_waiting_for_locks(shard)))
        successor.commit()

    assert running.result(30).ended_because is EndReason.FENCE_LOST
    assert shard.stored_ids() == []


def test_an_error_on_one_connection_ends_the_run_with_that_error(shard: Shard) -> None:
    shard.sql.execute(b"revoke insert on audit.ingest_batch from audit_writer")
    shard.add_event(wire(event()))

    running = shard.drain_beside(drain_connections=2, drain_idle_s=60.0)

    assert isinstance(running.exception(30), PermissionRefused)
    assert shard.stored_ids() == []
    assert shard.waiting()[0] == 1


def _writer(database: Database) -> AbstractContextManager[Connection]:
    return connected(database.writer_url, application="lease test")


def _take(connection: Connection, run_id: str, *, dead_run_id: str | None = None) -> Lease:
    taken = leases.take(connection, shard=0, run_id=run_id, ttl_s=30, dead_run_id=dead_run_id)
    assert taken is not None
    return taken


def _waiting_for_locks(shard: Shard) -> list[int]:
    return [
        row[0]
        for row in shard.rows(
            "select pid from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )
    ]
