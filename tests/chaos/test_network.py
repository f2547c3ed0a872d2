"""Network faults N01 to N10 between the drain and its services: lost 0, duplicated 0.

The traffic goes through our fault proxy, whose counters prove each injection. Short versions by
default; `AUDIT_TEST_OUTAGE_S=600` gives the lengths of the fault catalogue. The producer's side
is in `test_network_producer.py`, TLS in `test_network_tls.py`.

Length: one table of the catalogue, one test or two for each of its rows.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from audit_platform.db.pool import connect
from audit_platform.errors import DatabaseUnavailable
from audit_platform.events.copy_rows import TransactionLimits, halves
from audit_platform.events.stream import GROUP
from audit_platform.events.tally import EndReason
from tests.chaos.harness.extent import full_only
from tests.chaos.harness.fault_proxy import Direction, Fault, FaultProxy
from tests.chaos.harness.traffic import OUTAGE_S, Traffic, seconds_until, started, through
from tests.conftest import Database, RedisSpace
from tests.factories import event, wire
from tests.integration.events.shard import Shard, wait_until
from tests.integration.events.store import frame_of, open_writer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120 + 4 * OUTAGE_S)]

SEED = 20_261_122
COMMIT_DONE = re.compile(rb"COMMIT\x00")
ENTRY_IN_REPLY = re.compile(rb"\$6\r\nevents\r\n")
XADD_REPLY = re.compile(rb"\$\d+\r\n\d{13}-\d+\r\n")


@pytest.fixture
def to_redis(redis_space: RedisSpace) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", redis_space.config.port, seed=SEED) as proxy:
        yield proxy


@pytest.fixture
def to_postgres(database: Database) -> Iterator[FaultProxy]:
    port = urlsplit(database.admin_url).port
    assert port is not None
    with FaultProxy("127.0.0.1", port, seed=SEED) as proxy:
        yield proxy


@pytest.fixture
def faulty(shard: Shard, to_redis: FaultProxy, to_postgres: FaultProxy) -> Shard:
    """The shard, its drain behind both proxies; the test itself looks past them."""
    return Shard(
        settings=through(shard.settings, redis=to_redis, postgres=to_postgres),
        redis=shard.redis,
        sql=shard.sql,
        key=shard.key,
    )


def test_a_lost_commit_reply_stores_each_event_once(faulty: Shard, to_postgres: FaultProxy) -> None:
    """N02: the commit happened, its reply did not arrive; the drain stores the batch again."""
    traffic = Traffic()
    traffic.add(faulty, batches=2)
    to_postgres.set(Direction.TO_CLIENT, Fault(cut_at=COMMIT_DONE, cuts=1))

    summary = faulty.drain()

    assert to_postgres.counters.cut == 1
    assert summary.ended_because is EndReason.IDLE
    traffic.check(faulty)


@full_only
def test_three_lost_commit_replies_in_a_row_change_nothing(
    faulty: Shard, to_postgres: FaultProxy
) -> None:
    traffic = Traffic()
    traffic.add(faulty, batches=2)
    to_postgres.set(Direction.TO_CLIENT, Fault(cut_at=COMMIT_DONE, cuts=3))

    faulty.drain()

    # The repeated batch fails on its ledger row and is rolled back: only a commit says COMMIT.
    assert to_postgres.counters.cut >= 1
    traffic.check(faulty)


def test_control_a_consumer_that_acknowledges_first_loses_what_the_cut_takes(
    shard: Shard, to_postgres: FaultProxy, database: Database
) -> None:
    """The same fault without the protection: acknowledged when read, stored afterwards."""
    accepted = [event()["id"] for _ in range(10)]
    shard.redis.xgroup_create(shard.key, GROUP, id="0", mkstream=True)
    for one in accepted:
        shard.add({"id": one})
    shard.sql.execute("create table public.naive (id text)")
    to_postgres.set(Direction.TO_SERVER, Fault(cut_at=re.compile(rb"COMMIT"), cuts=1))

    for _ in range(2):
        # The reply in RESP3 names the stream as a mapping.
        reply: Any = shard.redis.xreadgroup(GROUP, "naive", {shard.key: ">"}, count=5, noack=True)
        entries = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]
        with (
            suppress(psycopg.OperationalError),
            psycopg.connect(to_postgres.url(database.admin_url)) as connection,
        ):
            for _, fields in entries:
                connection.execute("insert into public.naive values (%s)", [fields[b"id"].decode()])

    assert to_postgres.counters.cut == 1
    stored = {row[0] for row in shard.rows("select id from public.naive")}
    assert stored == set(accepted[5:]), "lost 5 of 10"


@full_only
def test_a_cut_acknowledgement_is_repeated(faulty: Shard, to_redis: FaultProxy) -> None:
    """N01 on the drain's side: XACK and XDEL executed, the reply of EXEC cut."""
    traffic = Traffic()
    traffic.add(faulty, batches=2)
    to_redis.set(Direction.TO_CLIENT, Fault(cut_at=re.compile(rb"QUEUED\r\n\*2\r\n"), cuts=1))

    faulty.drain()

    assert to_redis.counters.cut == 1
    traffic.check(faulty)


def test_entries_of_a_cut_reply_are_read_again_by_the_same_run(
    faulty: Shard, to_redis: FaultProxy
) -> None:
    """N01: XREADGROUP executed, its reply cut. The run goes on and never falls idle."""
    running = faulty.drain_beside(drain_idle_s=30.0, drain_lifetime_s=40.0)
    wait_until(lambda: bool(faulty.redis.exists(faulty.key)))
    to_redis.set(Direction.TO_CLIENT, Fault(cut_at=ENTRY_IN_REPLY, cuts=1))
    traffic = Traffic()
    traffic.add(faulty)

    wait_until(lambda: to_redis.counters.cut == 1)
    traffic.add(faulty)
    wait_until(lambda: faulty.waiting() == (0, 0), deadline_s=20)

    assert not running.done(), "no other run brought them back"
    traffic.check(faulty)
    faulty.sql.execute(b"update audit.drain_lease set stop = true")
    running.result(timeout=30)


def test_a_half_open_redis_is_noticed_and_replaced(faulty: Shard, to_redis: FaultProxy) -> None:
    """N03: nothing comes back and nobody says so."""
    traffic = Traffic()
    traffic.add(faulty)
    running = faulty.drain_beside(drain_idle_s=1.0)
    wait_until(lambda: bool(faulty.stored_ids()) and faulty.waiting() == (0, 0))
    to_redis.set_both(Fault(is_stalled=True))
    accepted = to_redis.counters.accepted
    traffic.add(faulty)

    detected_s = seconds_until(lambda: to_redis.counters.accepted > accepted)
    to_redis.heal()
    running.result(timeout=60)
    faulty.drain(run_id="run-2")

    assert to_redis.counters.stalled_chunks >= 1
    # The longest block of a read and five seconds; generous for a busy machine.
    assert detected_s < 20
    traffic.check(faulty)


def test_a_half_open_database_is_noticed_and_replaced(
    faulty: Shard, to_postgres: FaultProxy
) -> None:
    """N03: the proxy's kernel answers keepalives, so only a limit on silence ends the wait."""
    traffic = Traffic()
    traffic.add(faulty)
    running = faulty.drain_beside(drain_idle_s=1.0, postgres_answer_s=1.0)
    wait_until(lambda: bool(faulty.stored_ids()) and faulty.waiting() == (0, 0))
    to_postgres.set_both(Fault(is_stalled=True))
    accepted = to_postgres.counters.accepted
    traffic.add(faulty)

    detected_s = seconds_until(lambda: to_postgres.counters.accepted > accepted)
    to_postgres.heal()
    running.result(timeout=60)
    faulty.drain(run_id="run-2")

    assert to_postgres.counters.stalled_chunks >= 1
    assert detected_s < 20
    traffic.check(faulty)


def test_control_without_a_limit_a_silent_database_is_waited_for(
    faulty: Shard, to_postgres: FaultProxy
) -> None:
    url = faulty.settings.database_url_of("writer")
    with (
        connect(url, application="patient") as patient,
        connect(url, application="impatient", answer_timeout_s=0.5) as impatient,
    ):
        to_postgres.set(Direction.TO_CLIENT, Fault(is_stalled=True))
        waiting = started(patient.execute, "select 1")
        with pytest.raises(psycopg.OperationalError, match="does not answer"):
            impatient.execute("select 1")

        waiting.join(timeout=1.5)

        assert waiting.is_alive(), "keepalives alone end nothing"
        assert impatient.closed
        to_postgres.heal()
        waiting.join(timeout=10)
        assert not waiting.is_alive()


def test_a_silent_database_surfaces_as_unavailable(to_postgres: FaultProxy, shard: Shard) -> None:
    to_postgres.set_both(Fault(is_black_hole=True))
    url = through(shard.settings, postgres=to_postgres).database_url_of("writer")

    with pytest.raises(DatabaseUnavailable):
        connect(url, application="tests", connect_timeout_s=2)

    assert to_postgres.counters.swallowed_bytes > 0


def test_latency_slows_down_and_loses_nothing(
    faulty: Shard, to_redis: FaultProxy, to_postgres: FaultProxy
) -> None:
    """N04; half of the catalogue's 200 ± 200 ms unless the long run asks for it."""
    latency_s = 0.2 if OUTAGE_S >= 60 else 0.05
    traffic = Traffic()
    traffic.add(faulty, batches=4)
    for proxy in (to_redis, to_postgres):
        proxy.set_both(Fault(latency_s=latency_s, jitter_s=latency_s))

    faulty.drain()

    assert to_redis.counters.delayed_chunks > 10
    assert to_postgres.counters.delayed_chunks > 10
    traffic.check(faulty)


def test_a_thin_link_halves_the_batch_until_it_fits(shard: Shard, to_postgres: FaultProxy) -> None:
    """N05: a batch that PostgreSQL's time-out ends thrice is stored in two parts.

    The same decision that the storing thread takes, with a time-out of 1 s instead of 60 s.
    """
    url = through(shard.settings, postgres=to_postgres).database_url_of("writer")
    writer = open_writer(url, limits=TransactionLimits(statement_timeout="1s"))
    traffic = [event() for _ in range(400)]
    waiting, states, sizes = [frame_of(traffic)], list[str | None](), list[int]()
    to_postgres.set(Direction.TO_SERVER, Fault(bytes_per_s=64_000))
    while waiting:
        frame = waiting.pop()
        try:
            writer.save(frame)
        except DatabaseUnavailable as exc:
            states.append(exc.sqlstate)
            waiting += reversed(halves(frame))
        else:
            sizes.append(frame.rows.height)
    writer.connection.close()

    assert to_postgres.counters.throttled_s > 1
    assert set(states) == {"57014"}, "time-outs, no broken connection"
    assert len(sizes) == len(states) + 1
    assert sorted(shard.stored_ids()) == sorted(one["id"] for one in traffic)


def test_resets_at_random_times_let_the_drain_progress(
    faulty: Shard, to_redis: FaultProxy, to_postgres: FaultProxy
) -> None:
    """N06: RST on both lines; every 1 to 5 s for 5 min in the long run."""
    least_s, most_s = (1.0, 5.0) if OUTAGE_S >= 60 else (0.2, 0.6)
    traffic, stop = Traffic(), threading.Event()
    threads = [
        started(traffic.add_until, faulty, stop),
        started(to_redis.reset_every, least_s, most_s, stop=stop),
        started(to_postgres.reset_every, least_s, most_s, stop=stop),
    ]
    running = faulty.drain_beside(drain_idle_s=1.0)

    threading.Event().wait(2 * OUTAGE_S)
    stored = len(faulty.stored_ids())
    stop.set()
    for thread in threads:
        thread.join()
    running.result(timeout=60)
    faulty.drain(run_id="run-2")

    assert to_redis.counters.reset >= 1
    assert to_postgres.counters.reset >= 1
    assert stored > 0, "progress between resets"
    traffic.check(faulty)


def test_a_black_hole_before_the_database_keeps_everything_in_the_stream(
    faulty: Shard, to_postgres: FaultProxy
) -> None:
    """N08, the drain's side: nothing is acknowledged while nothing can be stored."""
    traffic, stop = Traffic(), threading.Event()
    traffic.add(faulty)
    running = faulty.drain_beside(drain_idle_s=1.0, postgres_answer_s=1.0)
    wait_until(lambda: bool(faulty.stored_ids()) and faulty.waiting() == (0, 0))
    to_postgres.set_both(Fault(is_black_hole=True))
    before = len(faulty.stored_ids())
    producing = started(traffic.add_until, faulty, stop)

    threading.Event().wait(OUTAGE_S)
    stop.set()
    producing.join()
    waiting = faulty.waiting()[0]
    to_postgres.heal()
    recovered_s = seconds_until(lambda: faulty.waiting() == (0, 0), deadline_s=90)
    running.result(timeout=60)

    assert to_postgres.counters.swallowed_bytes > 0
    assert waiting == (len(traffic.ids) - before) / 50
    assert recovered_s < 90
    traffic.check(faulty)


def test_without_free_connections_the_drain_queues(
    faulty: Shard, to_postgres: FaultProxy, database: Database
) -> None:
    """N10: PostgreSQL answers 53300 until somebody leaves."""
    traffic = Traffic()
    traffic.add(faulty)
    refused = ""
    with ExitStack() as others:
        while not refused:
            try:
                others.enter_context(psycopg.connect(database.maint_url))
            except psycopg.OperationalError as exc:
                refused = str(exc)
        assert re.search("too many clients|remaining connection", refused), refused
        running = faulty.drain_beside()
        wait_until(lambda: to_postgres.counters.accepted >= 3)
        assert not faulty.stored_ids()

    assert running.result(timeout=60).ended_because is EndReason.IDLE
    traffic.check(faulty)


@full_only
def test_a_toggled_link_bounds_reconnects(faulty: Shard, to_redis: FaultProxy) -> None:
    """N09 on the drain's side: refused and reachable in turn, at 1 Hz."""
    traffic, stop = Traffic(), threading.Event()
    producing = started(traffic.add_until, faulty, stop)
    running = faulty.drain_beside(drain_idle_s=1.0)
    rounds, pause = max(3, int(OUTAGE_S)), threading.Event()
    for _ in range(rounds):
        pause.wait(0.5)
        to_redis.refuse()
        pause.wait(0.5)
        to_redis.listen_again()
    stop.set()
    producing.join()
    running.result(timeout=60)
    faulty.drain(run_id="run-2")

    assert to_redis.counters.refused == rounds
    # Two edges, and a back-off that doubles from 0.1 s: never a busy loop.
    assert to_redis.counters.accepted <= 10 * rounds
    traffic.check(faulty)


def test_control_a_sender_that_does_not_resend_loses(
    faulty: Shard, to_redis: FaultProxy, redis_space: RedisSpace
) -> None:
    """What the producer's resending is for: the request is cut, and nobody repeats it."""
    naive = redis.Redis.from_url(to_redis.url(redis_space.url("producer")))
    accepted = [event() for _ in range(20)]
    to_redis.set(Direction.TO_SERVER, Fault(cut_at=re.compile(rb"XADD"), cuts=5))
    for one in accepted:
        try:
            naive.execute_command("XADD", faulty.key, "*", "event", wire(one))
        except redis.ConnectionError:
            continue
    naive.close()
    faulty.drain()

    assert to_redis.counters.cut == 5
    lost = {one["id"] for one in accepted} - set(faulty.stored_ids())
    assert 0 < len(lost) <= 5
