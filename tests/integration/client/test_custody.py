"""An accepted event is somewhere until the database has it: memory, disk, stream, table.

Each test takes one of these places away and looks whether another one gives the event back.
"""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from audit_platform.client import AuditClient, DropReason, Durability
from audit_platform.client.coverage import coverage_field
from audit_platform.errors import AuditUnavailable, InvalidEvent
from audit_platform.events.redis_edge import watermark_key
from audit_platform.settings import Settings
from tests.integration.events.shard import Shard, wait_until

pytestmark = pytest.mark.integration

DURABLE, BEST_EFFORT = Durability.DURABLE, Durability.BEST_EFFORT
END = "audit.producer.end"
NOBODY = "redis://127.0.0.1:1/0"
# Drains so long beside a producer: the return path speaks each second.
DRAIN_S = 1.5

EMPTIED = ("event", "ingest_range", "ingest_batch", "producer_epoch", "producer_numbers")


def make_client(settings: Settings, **overrides: Any) -> AuditClient:
    url = overrides.pop("redis_url", settings.redis_url)
    return AuditClient.from_env(
        redis_url=url,
        key_prefix=settings.key_prefix,
        producer_name="custody test",
        resend_after_s=0.5,
        **overrides,
    )


def actions(shard: Shard) -> list[str]:
    """What the application logged and the table holds, with repeats if there were any."""
    found = shard.rows("select action from audit.event where source <> 'audit' order by action")
    return [row[0] for row in found]


def control(shard: Shard, action: str) -> list[dict[str, Any]]:
    """Metadata of the events that producers wrote about themselves."""
    found = shard.rows(f"select metadata from audit.event where action = '{action}' order by id")
    return [row[0] for row in found]


def run_producer(body: str, settings: Settings, spool_dir: Path) -> int:
    """Run a script that logs in a process of its own; returns how it ended."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        from audit_platform.client import AuditClient, Durability
        audit = AuditClient.from_env(
            redis_url=sys.argv[1], key_prefix=sys.argv[2], spool_dir=sys.argv[3],
            producer_name="custody test", resend_after_s=0.5)
        """
    ) + textwrap.dedent(body)
    url = settings.redis_url.get_secret_value()
    arguments = [sys.executable, "-c", script, url, settings.key_prefix, str(spool_dir)]
    return subprocess.run(arguments, check=False, timeout=60).returncode


def test_confirmed_events_leave_memory_and_disk(shard: Shard) -> None:
    with make_client(shard.settings) as client:
        for number in range(100):
            client.log(f"n{number:03}", durability=DURABLE if number % 10 == 0 else "standard")
        drained = shard.drain_beside(drain_idle_s=DRAIN_S)
        wait_until(lambda: client.stats().unconfirmed == 0 and client.stats().sent == 100)
        drained.result(30)

    assert actions(shard) == [f"n{number:03}" for number in range(100)]


def test_a_flushed_redis_gets_everything_again(shard: Shard) -> None:
    """F17: also with nobody draining, since one entry goes out alone and wakes a run."""
    with make_client(shard.settings) as client:
        for number in range(50):
            client.log(f"n{number:02}")
        assert client.flush()
        shard.redis.delete(shard.key, watermark_key(shard.settings.key_prefix, 0))
        wait_until(lambda: client.stats().resent > 0)

        drained = shard.drain_beside(drain_idle_s=DRAIN_S)
        wait_until(lambda: client.stats().unconfirmed == 0)
        drained.result(30)

    assert actions(shard) == [f"n{number:02}" for number in range(50)]


def test_events_logged_without_redis_wait_on_disk_for_the_next_process(
    shard: Shard, tmp_path: Path
) -> None:
    with make_client(
        shard.settings, redis_url=NOBODY, spool_dir=tmp_path, close_timeout_s=1
    ) as client:
        for number in range(30):
            client.log(f"n{number:02}", durability=DURABLE if number % 3 else "standard")
    assert client.stats().spooled == 30

    with make_client(shard.settings, spool_dir=tmp_path) as heir:
        heir.log("from the heir")
        drained = shard.drain_beside(drain_idle_s=DRAIN_S)
        wait_until(lambda: len(actions(shard)) == 31 and bool(control(shard, END)))
        drained.result(30)

    assert actions(shard) == ["from the heir", *(f"n{number:02}" for number in range(30))]
    (end,) = control(shard, END)
    assert [last for _, last in end["ended"]] == [30, 1]
    assert end["unclean"] is False


def test_durable_events_survive_a_kill_and_the_lost_rest_is_a_gap(
    shard: Shard, tmp_path: Path
) -> None:
    """F24: nobody sends the linger of a killed process; its end makes the loss a gap."""
    status = run_producer(
        """
        audit._core.sender.ensure_started = lambda: None  # nothing is ever sent
        for number in range(10):
            audit.log(f"n{number}", durability=Durability.DURABLE if number < 4 else "standard")
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        shard.settings,
        tmp_path,
    )
    assert status == -SIGKILL

    with make_client(shard.settings, spool_dir=tmp_path) as heir:
        heir.log("from the heir")
        drained = shard.drain_beside(drain_idle_s=DRAIN_S)
        wait_until(lambda: len(actions(shard)) == 5 and bool(control(shard, END)))
        drained.result(30)

    assert actions(shard) == ["from the heir", "n0", "n1", "n2", "n3"]
    (end,) = control(shard, END)
    (producer_id, epoch), last = (end["producer_id"], end["ended"][0][0]), end["ended"][0][1]
    assert last == 10
    key = watermark_key(shard.settings.key_prefix, 0)
    told: Any = shard.redis.hget(key, coverage_field(producer_id, epoch))
    assert json.loads(told)["gaps"] == [[5, 10]]


def test_a_database_that_went_back_gets_durable_events_again(shard: Shard) -> None:
    """F21: the ledger is restored with the rows, so that what is missing is a gap again."""
    with make_client(shard.settings) as client:
        for number in range(20):
            client.log(f"n{number:02}", durability=DURABLE)
        drained = shard.drain_beside(drain_idle_s=DRAIN_S)
        wait_until(lambda: client.stats().unconfirmed == 0 and client.stats().sent == 20)
        drained.result(30)
        assert len(actions(shard)) == 20

        # As an older backup would leave it, and no word about this producer in it.
        for table in EMPTIED:
            shard.sql.execute(f"delete from audit.{table}".encode())
        shard.drain()

        wait_until(lambda: client.stats().spooled == 20 or client.stats().resent > 0)
        drained = shard.drain_beside(drain_idle_s=DRAIN_S)
        wait_until(lambda: client.stats().unconfirmed == 0 and client.stats().spooled == 0)
        drained.result(30)

    assert actions(shard) == [f"n{number:02}" for number in range(20)]


def test_without_a_retained_tail_the_same_loses(shard: Shard) -> None:
    """The control of the test above: the protection off, the events are gone."""
    with make_client(shard.settings, spool_retain_s=0) as client:
        for number in range(20):
            client.log(f"n{number:02}", durability=DURABLE)
        drained = shard.drain_beside(drain_idle_s=DRAIN_S)
        wait_until(lambda: client.stats().unconfirmed == 0 and client.stats().spool_bytes == 0)
        drained.result(30)
        for table in EMPTIED:
            shard.sql.execute(f"delete from audit.{table}".encode())
        shard.drain(drain_idle_s=DRAIN_S)

    assert actions(shard) == []


def test_dropped_numbers_are_declared_and_no_gap(shard: Shard) -> None:
    with make_client(shard.settings, batch_preset="low", buffer_events=100) as client:
        for number in range(150):
            client.log(f"n{number:03}", durability=BEST_EFFORT)
        dropped = client.stats().dropped
        assert dropped == {DropReason.BUFFER_FULL: {BEST_EFFORT: 50}}
    shard.drain()

    (loss,) = control(shard, "audit.producer.loss")
    assert (loss["reason"], loss["ranges"]) == ("buffer_full", [[101, 150]])
    declared = shard.rows("select r from audit.ingest_range where kind = 'declared'")
    assert len(declared) + len(shard.rows("select 1 from audit.producer_progress")) >= 1
    assert len(actions(shard)) == 100


def test_level_three_keeps_events_on_disk_until_it_falls(shard: Shard) -> None:
    key = watermark_key(shard.settings.key_prefix, 0)

    def publish(level: int) -> None:
        status = {"level": level, "lag_s": 0.0, "at_ms": time.time_ns() // 1_000_000}
        shard.redis.hset(key, "shard", json.dumps(status))

    publish(3)
    with make_client(shard.settings) as client:
        client.log("first")
        wait_until(lambda: client.stats().level == 3)
        client.log("second")
        client.log("shed", durability=BEST_EFFORT)
        wait_until(lambda: client.stats().spooled == 1)
        assert client.stats().dropped == {DropReason.SHED: {BEST_EFFORT: 1}}

        publish(0)

        wait_until(lambda: client.stats().spooled == 0)
    shard.drain()
    assert actions(shard) == ["first", "second"]


def test_a_durable_call_raises_when_there_is_no_disk(settings: Settings, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    with make_client(settings, spool_dir=blocked / "spool", durable_timeout_s=0.2) as client:
        with pytest.raises(AuditUnavailable, match="AUDIT_SPOOL_DIR"):
            client.log("kept?", durability=DURABLE)
        client.log("standard")

        assert client.flush()
        assert client.stats().dropped == {DropReason.SPOOL: {DURABLE: 1}}


def test_a_durable_call_with_a_wrong_argument_raises(settings: Settings) -> None:
    with make_client(settings) as client:
        with pytest.raises(InvalidEvent, match="severity"):
            client.log("a", severity="high", durability=DURABLE)  # pyright: ignore[reportArgumentType]

        assert client.stats().rejected == {"severity": 1}


def test_a_full_buffer_sends_durable_events_by_way_of_the_disk(shard: Shard) -> None:
    with make_client(shard.settings, batch_preset="low", buffer_events=100) as client:
        for number in range(150):
            client.log(f"n{number:03}", durability=DURABLE)
        assert client.stats().dropped == {}
    shard.drain()

    assert len(actions(shard)) == len(set(actions(shard))) == 150


def test_where_no_disk_takes_them_events_of_all_shards_stay_in_memory(
    settings: Settings, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    with make_client(
        settings, redis_url=NOBODY, spool_dir=blocked / "spool", shards=4, close_timeout_s=0
    ) as client:
        for number in range(40):
            client.log("tick", tenant_id=f"tenant {number}")
        wait_until(lambda: client.stats().retries > 3)

        assert (client.stats().accepted, client.stats().buffered) == (40, 40)
    assert client.stats().dropped == {DropReason.CLOSE_TIMEOUT: {Durability.STANDARD: 40}}
