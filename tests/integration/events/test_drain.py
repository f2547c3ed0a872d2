"""A whole drain run: formats, reading order, reasons to end, outages, reports."""

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from audit_platform.errors import InvalidSetting
from audit_platform.events.stream import GROUP
from audit_platform.events.tally import EndReason
from audit_platform.local.postgres import PostgresServer
from audit_platform.local.redis import RedisServer
from tests.factories import event, wire
from tests.integration.events.shard import Shard, wait_until

pytestmark = pytest.mark.integration


def _ids(events: list[dict[str, Any]]) -> list[str]:
    return sorted(one["id"] for one in events)


def _fill(shard: Shard, count: int, *, per_entry: int = 100) -> list[dict[str, Any]]:
    events = [event() for _ in range(count)]
    for start in range(0, count, per_entry):
        shard.add_batch([wire(one) for one in events[start : start + per_entry]])
    return events


def test_both_entry_formats_are_stored_and_leave_the_stream(shard: Shard) -> None:
    single, batch = event(), [event() for _ in range(3)]
    shard.add_event(wire(single))
    shard.add_batch([wire(one) for one in batch], p=5, e=6, s=1)

    summary = shard.drain()

    assert shard.stored_ids() == _ids([single, *batch])
    assert shard.waiting() == (0, 0)
    assert (summary.ended_because, summary.rows, summary.dead_letters) == (EndReason.IDLE, 4, 0)


def test_a_large_backlog_is_stored_in_batches_of_the_set_size(shard: Shard) -> None:
    events = _fill(shard, 5_000)

    summary = shard.drain(drain_batch_rows=1_000)

    assert shard.stored_ids() == _ids(events)
    assert 5 <= summary.batches <= 12
    largest = shard.rows("select max(n_read) from audit.ingest_batch")[0][0]
    assert largest <= 1_100


def test_large_events_are_flushed_by_their_bytes(shard: Shard) -> None:
    events = [event(metadata={"text": "x" * 50_000}) for _ in range(40)]
    for one in events:
        shard.add_event(wire(one))

    summary = shard.drain(drain_batch_bytes=300_000)

    assert shard.stored_ids() == _ids(events)
    assert summary.batches >= 4


def test_what_a_killed_run_had_read_is_read_first(shard: Shard) -> None:
    """The consumer name is fixed: the entries are pending for the next run's own name."""
    events = _fill(shard, 10, per_entry=1)
    shard.redis.xgroup_create(shard.key, GROUP, id="0")
    shard.redis.xreadgroup(GROUP, "drain-0", {shard.key: ">"}, count=6)

    shard.drain()

    assert shard.stored_ids() == _ids(events)
    assert shard.waiting() == (0, 0)


def test_stale_entries_of_another_consumer_are_taken_over(shard: Shard) -> None:
    events = _fill(shard, 4, per_entry=1)
    shard.redis.xgroup_create(shard.key, GROUP, id="0")
    read: Any = shard.redis.xreadgroup(GROUP, "somebody", {shard.key: ">"}, count=4)
    pages = read[shard.key.encode()] if isinstance(read, dict) else read[0][1]
    entries = pages[0] if pages and isinstance(pages[0], list) else pages
    shard.redis.xclaim(
        shard.key, GROUP, "somebody", 0, [entry[0] for entry in entries], idle=70_000
    )

    shard.drain()

    assert shard.stored_ids() == _ids(events)
    assert shard.waiting() == (0, 0)


def test_a_pending_entry_that_was_deleted_is_counted_and_acknowledged(shard: Shard) -> None:
    events = _fill(shard, 2, per_entry=1)
    lost = shard.add_event(wire(event()))
    shard.redis.xgroup_create(shard.key, GROUP, id="0")
    shard.redis.xreadgroup(GROUP, "drain-0", {shard.key: ">"}, count=9)
    shard.redis.xdel(shard.key, lost)

    summary = shard.drain()

    assert summary.redis_lost == 1
    assert shard.stored_ids() == _ids(events)
    assert shard.waiting() == (0, 0)


def test_a_second_run_finds_the_lease_held(shard: Shard) -> None:
    running = shard.drain_beside(run_id="run-1", drain_idle_s=2.0)
    wait_until(lambda: bool(shard.rows("select from audit.drain_lease where fence > 0")))

    summary = shard.drain(run_id="run-2")

    assert summary.ended_because is EndReason.LEASE_HELD
    assert running.result(30).ended_because is EndReason.IDLE


def test_a_run_ends_at_its_lifetime_although_there_is_more(shard: Shard) -> None:
    running = shard.drain_beside(drain_lifetime_s=1.0, drain_idle_s=60.0)

    summary = running.result(30)

    assert summary.ended_because is EndReason.LIFETIME
    assert shard.rows("select run_id from audit.drain_lease") == [(None,)]


def test_the_stop_flag_ends_a_run(shard: Shard) -> None:
    running = shard.drain_beside(drain_idle_s=60.0)
    wait_until(lambda: bool(shard.rows("select from audit.drain_lease where fence > 0")))

    shard.sql.execute(b"update audit.drain_lease set stop = true")

    assert running.result(30).ended_because is EndReason.STOP


def test_a_run_that_was_replaced_ends_without_writing(shard: Shard) -> None:
    running = shard.drain_beside(drain_idle_s=60.0)
    wait_until(lambda: bool(shard.rows("select from audit.drain_lease where fence > 0")))

    shard.sql.execute(b"update audit.drain_lease set fence = fence + 1, run_id = 'other'")
    shard.add_event(wire(event()))

    assert running.result(30).ended_because is EndReason.FENCE_LOST
    assert shard.stored_ids() == []
    assert shard.rows("select run_id from audit.drain_lease") == [("other",)]


@pytest.mark.parametrize("wreck", ["delete", "destroy_group"])
def test_a_lost_stream_or_group_is_made_again_at_its_beginning(shard: Shard, wreck: str) -> None:
    before = _fill(shard, 5)
    running = shard.drain_beside(drain_idle_s=1.5)
    wait_until(lambda: len(shard.stored_ids()) == len(before))

    if wreck == "delete":
        shard.redis.delete(shard.key)
    else:
        shard.redis.xgroup_destroy(shard.key, GROUP)
    after = _fill(shard, 7)
    running.result(30)

    assert shard.stored_ids() == _ids(before + after)
    assert shard.waiting() == (0, 0)


def test_postgresql_stopped_and_started_during_a_drain_loses_nothing(
    shard: Shard, postgres_server: PostgresServer
) -> None:
    before = _fill(shard, 300)
    running = shard.drain_beside(drain_idle_s=4.0, drain_batch_rows=100, observation_interval_s=0.5)
    wait_until(lambda: len(shard.stored_ids()) == len(before))

    postgres_server.stop()
    during = _fill(shard, 300)
    seen = len(shard.reports)
    wait_until(lambda: len(shard.reports) >= seen + 2 and shard.reports[-1].backlog == 3)
    postgres_server.start()
    summary = running.result(60)

    with psycopg.connect(shard.settings.database_url_of("writer"), autocommit=True) as fresh:
        stored = fresh.execute(b"select id::text from audit.event").fetchall()
    assert sorted(row[0] for row in stored) == _ids(before + during)
    assert shard.waiting() == (0, 0)
    assert (summary.ended_because, summary.rows) == (EndReason.IDLE, 600)


def test_redis_stopped_and_started_during_a_drain_loses_nothing(
    shard: Shard, redis_server: RedisServer
) -> None:
    before = _fill(shard, 300)
    running = shard.drain_beside(drain_idle_s=4.0)
    wait_until(lambda: len(shard.stored_ids()) == len(before))

    redis_server.stop()
    redis_server.start()
    after = _fill(shard, 300)
    summary = running.result(60)

    assert shard.stored_ids() == _ids(before + after)
    assert shard.waiting() == (0, 0)
    assert summary.ended_because is EndReason.IDLE


def test_reports_add_up_to_the_summary(shard: Shard) -> None:
    twin = wire(event())
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    shard.add_batch([wire(event()), twin, twin, b"{"], t=now_ms)

    summary = shard.drain(observation_interval_s=0.2, drain_idle_s=1.0)

    assert len(shard.reports) >= 3
    assert sum(report.rows for report in shard.reports) == summary.rows == 2
    assert sum(report.duplicates for report in shard.reports) == summary.duplicates == 1
    assert sum(report.dead_letters for report in shard.reports) == summary.dead_letters == 1
    busiest = max(shard.reports, key=lambda report: report.rows)
    assert busiest.dead_by_reason == {"invalid_json": 1}
    assert 0 < busiest.lag_p50_s <= busiest.lag_p99_s < 30
    assert busiest.rows_per_s > 0
    assert busiest.bytes_ > 0
    assert shard.reports[-1].backlog == 0


def test_without_a_dead_letter_key_the_setting_is_named(shard: Shard) -> None:
    with pytest.raises(InvalidSetting, match="AUDIT_DEAD_LETTER_KEY"):
        shard.drain(dead_letter_key=None)
