"""A drain that stores two batches at once is killed at each point: lost 0, duplicated 0.

Also here: an entry whose storing kills the run each time, which must stop no other entry.
"""

from signal import SIGKILL
from typing import Any

import pytest

from audit_platform.events.stream import GROUP
from audit_platform.events.suspects import MOST_DELIVERIES
from tests.chaos.test_crash_points import start_drain
from tests.factories import event, wire
from tests.integration.events.shard import Shard, wait_until

pytestmark = pytest.mark.chaos

KILLS = 3
POINTS = (
    "C_READ",
    "C_DECODED",
    "C_MIDCOPY",
    "C_BEFORE_COMMIT",
    "C_COMMITTED",
    "C_DONE",
    "M_STAGED",
    "M_MERGED",
)
POISON = "poison"
# After the deliveries that every entry has, three groups that hold all: of 4,096, 512 and 64.
TRIES_IN_COMPANY = MOST_DELIVERIES + 3


@pytest.mark.parametrize("point", POINTS)
def test_killed_with_two_batches_in_flight_nothing_is_lost_or_stored_twice(
    shard: Shard, point: str
) -> None:
    """Each event lies in two entries, so that the batches in flight hold the same rows."""
    accepted: set[str] = set()
    kills = 0
    for number in range(KILLS):
        events = [event() for _ in range(600)]
        accepted |= {one["id"] for one in events}
        for copy in range(2):
            for start in range(0, 600, 50):
                lines = [wire(one) for one in events[start : start + 50]]
                first_seq = number * 1_200 + copy * 600 + start + 1
                shard.add_batch(lines, p=1, e=1, s=first_seq)
        process = start_drain(
            shard,
            run_id=f"run-{number}",
            dead_run_id=f"run-{number - 1}" if number else None,
            crash=point,
            drain_batch_rows=200,
            drain_connections=2,
            drain_idle_s=1,
        )
        _, errors = process.communicate(timeout=60)
        kills += process.returncode == -SIGKILL
        assert process.returncode in {0, -SIGKILL}, errors.decode()

    shard.sql.execute(b"update audit.drain_lease set expires_at = now()")
    shard.drain(run_id="run-last", drain_batch_rows=200, drain_connections=2)

    assert kills, "no run reached the point"
    stored = shard.stored_ids()
    assert len(stored) == len(set(stored))
    assert set(stored) == accepted
    assert shard.waiting() == (0, 0)
    sums = shard.ledger()
    assert sums["n_new"] == len(accepted)
    assert sums["n_read"] == sums["n_new"] + sums["n_dup"]
    # Every number of the producer is accounted for, whichever connection stored it.
    assert shard.rows(
        "select range_agg(r)::text from (select r from audit.ingest_range"
        " union all select got from audit.producer_progress) as ranges (r)"
    ) == [(f"{{[1,{KILLS * 1_200 + 1})}}",)]


def test_an_entry_that_kills_each_run_stops_no_other_entry(shard: Shard) -> None:
    """Storing it takes so long that the test can kill the run meanwhile, whichever run it is."""
    _sleep_on_poison(shard)
    good = [event() for _ in range(16)]
    for one in good[:12]:
        shard.add_event(wire(one))
    poison = event(action=POISON)
    poison_entry = shard.add_event(wire(poison))
    for one in good[12:]:
        shard.add_event(wire(one))

    for number in range(TRIES_IN_COMPANY):
        _kill_while_poison_is_stored(shard, number)
    assert shard.stored_ids() == [], "so far one batch holds them all"
    for number in range(3):
        _kill_while_poison_is_stored(shard, TRIES_IN_COMPANY + number)

    assert shard.stored_ids() == sorted(one["id"] for one in good)
    pending: Any = shard.redis.xpending_range(shard.key, GROUP, "-", "+", 10)
    assert [one["message_id"].decode() for one in pending] == [poison_entry]

    later = event()
    shard.add_event(wire(later))
    _kill_while_poison_is_stored(shard, TRIES_IN_COMPANY + 3)
    assert later["id"] in shard.stored_ids(), "a new entry goes before the suspect"

    shard.sql.execute(b"drop trigger sleep_on_poison on audit.event")
    shard.sql.execute(b"update audit.drain_lease set expires_at = now()")
    shard.drain(run_id="run-last")
    assert shard.stored_ids() == sorted(one["id"] for one in [*good, later, poison])
    assert shard.waiting() == (0, 0)


def test_a_suspect_is_stored_soon_though_the_stream_is_never_quiet(shard: Shard) -> None:
    suspects = [event() for _ in range(20)]
    for one in suspects:
        shard.add_event(wire(one))
    shard.redis.xgroup_create(shard.key, GROUP, id="0")
    shard.redis.xreadgroup(GROUP, "drain-0", {shard.key: ">"})
    for _ in range(MOST_DELIVERIES):
        shard.redis.xreadgroup(GROUP, "drain-0", {shard.key: "0"})
    others: list[str] = []

    def look_while_events_come() -> bool:
        one = event()
        shard.add_event(wire(one))
        others.append(one["id"])
        return {one["id"] for one in suspects} <= set(shard.stored_ids())

    running = shard.drain_beside(drain_idle_s=1.0)
    wait_until(look_while_events_come, deadline_s=20)
    running.result(timeout=30)

    assert shard.stored_ids() == sorted([*others, *(one["id"] for one in suspects)])
    assert shard.waiting() == (0, 0)


def _sleep_on_poison(shard: Shard) -> None:
    shard.sql.execute(
        f"create function sleep_on_poison() returns trigger language plpgsql as $$ begin"
        f" if new.action = '{POISON}' then perform pg_sleep(30); end if; return new; end $$;"
        f"create trigger sleep_on_poison before insert on audit.event"
        f" for each row execute function sleep_on_poison()".encode()
    )


def _kill_while_poison_is_stored(shard: Shard, number: int) -> None:
    process = start_drain(
        shard,
        run_id=f"run-{number}",
        dead_run_id=f"run-{number - 1}" if number else None,
        drain_idle_s=30,
        drain_connections=2,
    )
    try:
        wait_until(lambda: bool(_sleepers(shard)), deadline_s=60)
    finally:
        process.kill()
        process.communicate(timeout=30)
    # The server would go on sleeping for a client that is gone, and hold the fence meanwhile.
    for pid in _sleepers(shard):
        shard.sql.execute("select pg_terminate_backend(%s, 10000)", (pid,))


def _sleepers(shard: Shard) -> list[int]:
    return [
        row[0]
        for row in shard.rows(
            "select pid from pg_stat_activity"
            " where datname = current_database() and wait_event = 'PgSleep'"
        )
    ]
