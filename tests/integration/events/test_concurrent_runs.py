"""Two runs at once, or a run from behind its fence: each event is stored once."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from audit_platform.db.pool import connect
from audit_platform.errors import FenceLost, LockNotAvailable
from audit_platform.events.copy_rows import TransactionLimits
from tests.conftest import Database
from tests.factories import event, wire
from tests.integration.events.shard import Shard
from tests.integration.events.store import Writer, frame_of

pytestmark = pytest.mark.integration

CUTS = 8
# Never twice for one batch: that would open the circuit breaker, and the test would wait for its
# probes.
CUT = b"""
    select pg_terminate_backend(pid), (select count(*) from audit.ingest_batch)
    from pg_stat_activity
    where
        usename = 'audit_writer' and datname = current_database() and xact_start is not null
        and %s <> (select count(*) from audit.ingest_batch)
"""


def test_a_zombie_adds_no_row(
    writer: Writer, make_writer: Callable[..., Writer], shard: Shard
) -> None:
    successor = make_writer()

    with pytest.raises(FenceLost):
        writer.save(frame_of([event()]))
    successor.save(frame_of([event()]))

    assert len(shard.stored_ids()) == 1
    assert len(shard.rows("select from audit.ingest_batch")) == 1


def test_a_duplicate_in_an_open_transaction_is_waited_for_within_bounds(
    make_writer: Callable[..., Writer], shard: Shard, database: Database
) -> None:
    writer = make_writer(limits=TransactionLimits(lock_timeout="200ms"))
    frame = frame_of([event()])
    writer.save(frame)
    columns = "id, timestamp, received_at, ingested_at, batch_id, actor_type, leaf_hash,"
    columns += " tenant_id, source, action"
    with psycopg.connect(database.admin_url) as rival:
        # An uncommitted copy of the row under the same key, as another run would hold it.
        rival.execute(f"create temporary table kept as select {columns} from audit.event".encode())
        rival.execute(b"delete from audit.event")
        rival.commit()
        rival.execute(f"insert into audit.event ({columns}) select * from kept".encode())
        with pytest.raises(LockNotAvailable):
            writer.save(frame)
        rival.commit()
    counts = writer.save(frame)

    assert (counts.n_new, counts.n_dup) == (0, 1)
    assert len(shard.stored_ids()) == 1


def test_two_runs_with_the_same_events_store_each_once_and_never_deadlock(
    make_writer: Callable[..., Writer], shard: Shard
) -> None:
    """P01, on two shards, because on one the fence would stop the second run."""
    events = [event(tenant_id=f"tenant-{number % 7}") for number in range(3_000)]
    writers = [make_writer(shard=number) for number in (0, 1)]
    chosen = random.Random(7)

    def save_all(writer: Writer) -> list[int]:
        counts = [0, 0]
        for _ in range(6):
            saved = writer.save(frame_of(chosen.sample(events, 1_500)))
            counts = [counts[0] + saved.n_new, counts[1] + saved.n_dup]
        return counts

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(save_all, writers))

    stored = shard.stored_ids()
    assert len(stored) == len(set(stored)) == sum(new for new, _ in results)
    assert sum(new + duplicates for new, duplicates in results) == 2 * 6 * 1_500
    assert shard.letters() == []


def test_connections_cut_during_a_drain_cost_nothing(shard: Shard, database: Database) -> None:
    """F19 in small: the server ends the writer's connection again and again, also at COMMIT."""
    events = [event() for _ in range(4_000)]
    for start in range(0, len(events), 50):
        shard.add_batch([wire(one) for one in events[start : start + 50]])
    running = shard.drain_beside(drain_batch_rows=100, drain_idle_s=1.0)
    cuts, batches_at_cut = 0, 0

    with connect(database.admin_url, application="cutter") as cutter:
        while not running.done() and cuts < CUTS:
            cut = cutter.execute(CUT, (batches_at_cut,)).fetchone()
            if cut is not None:
                cuts, batches_at_cut = cuts + 1, cut[1]
    summary = running.result(60)

    assert cuts >= CUTS, "the fault must have happened"
    assert shard.stored_ids() == sorted(one["id"] for one in events)
    assert summary.rows == shard.ledger()["n_new"] == len(events)
    assert shard.waiting() == (0, 0)
