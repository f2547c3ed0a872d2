"""Controls: with one protection taken out the same faults do lose, deadlock or let a zombie in.

A fault test that passes without the protection tests nothing. Each test here takes one protection
out, in the memory of the child process only, and asserts the damage; the run with it asserts none.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from signal import SIGCONT, SIGKILL
from threading import Event

import psutil
import pytest
import redis

from tests.chaos.harness.extent import amount, start_number
from tests.chaos.harness.fast_stack import drain, producer
from tests.chaos.harness.history import read_history
from tests.chaos.harness.kept import ROOT, Kept
from tests.chaos.harness.oracle import Verdict, judge
from tests.chaos.harness.services import Services, running_services
from tests.chaos.harness.stream_load import StreamLoad, stream_load
from tests.integration.events.shard import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

RATE = 600.0
# The control of F20 may need several kills: what a kill loses is what the last 0.2 s committed.
MOST_KILLS = 15
# Nothing is lost with the protection, so fewer kills do within `make test`.
REAL_KILLS = amount(3, MOST_KILLS)
MERGED_ROWS = 4_000
MERGE_ROUNDS = amount(4, 12)


@pytest.fixture
def services() -> Iterator[Services]:
    with running_services() as running:
        yield running


@contextmanager
def draining(services: Services, **config: object) -> Iterator[Kept]:
    kept = drain(services, "drain-a", module="prepared_drain", **config)
    kept.begin()
    try:
        yield kept
    finally:
        kept.discard()


def judged(services: Services, load: StreamLoad) -> Verdict:
    """Wait until nothing is on its way, then judge."""
    history = load.stop()
    wait_until(lambda: services.waiting() == (0, 0), deadline_s=60)
    return judge(history, services.stored())


@pytest.mark.parametrize(
    ("without", "loses"), [("acknowledge_last", True), (None, False)], ids=["control", "real"]
)
def test_acknowledging_before_the_commit_loses(
    services: Services, without: str | None, loses: bool
) -> None:
    with (
        draining(services, without=without) as kept,
        stream_load(services.settings, rate=RATE) as load,
    ):
        for start in range(3):
            wait_until(lambda: len(load.accepted) > 100)
            kept.order("arm C_BEFORE_COMMIT")
            end = kept.wait_for_end(start, within_s=30)
            assert end is not None
            assert end.is_killed, kept.last_lines()
        verdict = judged(services, load)

    assert (len(verdict.unexcused) > 0) == loses, verdict
    assert verdict.duplicated == 0


@pytest.mark.parametrize(
    ("without", "loses"), [("flush", True), (None, False)], ids=["control", "real"]
)
def test_commits_that_do_not_wait_for_the_disk_lose(
    services: Services, without: str | None, loses: bool
) -> None:
    """F20: the whole server dies by SIGKILL; what it had confirmed and not yet written is gone."""
    random, kills = Random(start_number()), 0
    with draining(services, without=without), stream_load(services.settings, rate=RATE) as load:
        wait_until(lambda: services.ask("select 1 from audit.event limit 1") != [])
        verdict = None
        while kills < (MOST_KILLS if loses else REAL_KILLS) and (
            verdict is None or not verdict.unexcused
        ):
            Event().wait(random.uniform(0.3, 1.0))
            services.postgres.kill_all()
            kills += 1
            services.postgres.start()
            verdict = judged_so_far(services, load)
        verdict = judged(services, load)
    print(f"{len(verdict.unexcused)} of {verdict.accepted_total} lost after {kills} kills")  # noqa: T201

    assert (len(verdict.unexcused) > 0) == loses, verdict
    assert verdict.duplicated == 0


def judged_so_far(services: Services, load: StreamLoad) -> Verdict:
    """Judge what was accepted until now, as soon as nothing of it waits any more.

    Batches are stored beside each other: that something later is stored is not enough.
    """
    known, now_ms = list(load.accepted), time.time_ns() // 1_000_000
    later = "select count(*) from audit.event where id > %s::uuid"
    wait_until(lambda: services.ask(later, known[-1]) != [(0,)], deadline_s=60)
    with redis.Redis.from_url(services.site.redis_url) as client:
        wait_until(lambda: services.site.oldest_waiting_ms(client) > now_ms, deadline_s=60)
    return judge(load.history(known), services.stored())


@pytest.mark.parametrize(
    ("without", "loses"), [("resend", True), (None, False)], ids=["control", "real"]
)
def test_what_redis_forgets_is_lost_unless_it_is_sent_again(
    services: Services, without: str | None, loses: bool
) -> None:
    """Redis acknowledged everything and is emptied before a drain has read it."""
    logs = producer(
        services,
        "application",
        module="prepared_producer",
        without=without,
        limit=300,
        resend_after_s=1,
    )
    logs.begin()
    kept = drain(services, "drain-a")
    try:
        wait_until(lambda: len(read_history(services.histories).ok) == 300)
        wait_until(lambda: services.waiting()[1] > 0)
        Event().wait(1)  # the last entry is on its way
        services.redis.cli("flushall")
        assert services.waiting() == (0, 0)
        kept.begin()
        verdict = services.settled_verdict(within_s=10 if loses else 60)
    finally:
        logs.discard()
        kept.discard()

    assert (sum(verdict.lost.values()) > 0) == loses, verdict
    assert verdict.duplicated == 0


@pytest.mark.parametrize("without", ["fence", None], ids=["control", "real"])
def test_a_zombie_that_wakes_up_with_a_batch_adds_no_row(
    services: Services, without: str | None
) -> None:
    """F10: frozen between reading and storing, longer than its lease; another run stores all.

    With the fence the zombie commits nothing. Without it, it does commit its batch: the ledger
    shows it, and only the identity of the events keeps every row single.
    """
    load = StreamLoad(services.settings, rate=0)
    load.add(50)
    with draining(services, without=without, halt_at="C_DECODED") as zombie:
        wait_until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED)
        other = drain(services, "drain-b")
        other.begin()
        try:
            wait_until(lambda: len(services.stored().ids) == 50, deadline_s=60)
            before = batches(services)
            zombie.hold()
            zombie.signal(SIGCONT)
            if without:
                wait_until(lambda: batches(services) > before, deadline_s=30)
            else:
                Event().wait(3)
                assert batches(services) == before
            [(by_zombie,)] = services.ask(
                "select coalesce(sum(n_new), 0)::int from audit.ingest_batch"
                " where run_id = 'drain-a-0'"
            )
        finally:
            other.discard()
    stored = services.stored()

    assert by_zombie == 0
    assert sorted(stored.ids.values()) == [1] * 50
    assert stored.is_conserved
    assert zombie.ends[0].code != -SIGKILL or zombie.starts == 1


def batches(services: Services) -> int:
    return services.ask("select count(*) from audit.ingest_batch")[0][0]


@pytest.mark.parametrize("is_sorted", [False, True], ids=["control", "real"])
def test_merges_in_opposite_order_deadlock_unless_they_sort(
    services: Services, is_sorted: bool
) -> None:
    """P08: two transactions merge the same new rows, one from the front, one from the back."""
    completed = subprocess.run(
        [sys.executable, "-m", "tests.chaos.harness.opposite_merges"],
        input=json.dumps(
            {
                "url": services.settings.database_url_of("writer"),
                "rows": MERGED_ROWS,
                "rounds": MERGE_ROUNDS,
                "is_sorted": is_sorted,
            }
        ),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=150,
    )
    assert completed.returncode == 0, completed.stderr
    deadlocks = json.loads(completed.stdout)["deadlocks"]

    assert (deadlocks > 0) == (not is_sorted)
    [(rows,)] = services.ask("select count(*) from audit.event")
    assert rows == MERGED_ROWS * MERGE_ROUNDS
