"""What producers learn through Redis: numbers accounted for, and how the shard is."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest

from audit_platform.errors import QueueUnavailable
from audit_platform.events.frame import FrameResult
from audit_platform.events.redis_edge import watermark_key
from audit_platform.events.return_path import FOLD_RANGES, ReturnPath
from audit_platform.local.postgres import PostgresServer
from tests.conftest import RedisSpace
from tests.factories import event, wire
from tests.integration.events.control import end, loss
from tests.integration.events.shard import Shard, wait_until
from tests.integration.events.store import Writer, frame_of_lines

pytestmark = pytest.mark.integration

PRODUCER, EPOCH = 17, 4_242
FIELD = f"{PRODUCER}:{EPOCH}"


def _lines(count: int) -> list[bytes]:
    return [wire(event()) for _ in range(count)]


def _told(shard: Shard, space: RedisSpace, field: str, *, of: int = 0) -> dict[str, Any]:
    raw: Any = shard.redis.hget(watermark_key(space.prefix, of), field)
    return json.loads(raw) if raw else {}


def test_stored_numbers_are_confirmed_after_their_commit(
    shard: Shard, redis_space: RedisSpace
) -> None:
    shard.add_batch(_lines(5), p=PRODUCER, e=EPOCH, s=1)
    shard.add_batch(_lines(2), p=PRODUCER, e=EPOCH, s=8)
    before_ms = time.time_ns() // 1_000_000

    shard.drain()

    told = _told(shard, redis_space, FIELD)
    assert told.pop("at_ms") >= before_ms
    assert told == {"watermark": 5, "max": 9, "gaps": [[6, 7]]}


def test_a_running_drain_publishes_before_it_ends(shard: Shard, redis_space: RedisSpace) -> None:
    running = shard.drain_beside(drain_idle_s=20.0)
    shard.add_batch(_lines(3), p=PRODUCER, e=EPOCH, s=1)

    wait_until(lambda: _told(shard, redis_space, FIELD).get("watermark") == 3)

    assert not running.done()
    shard.sql.execute(b"update audit.drain_lease set stop = true")
    running.result(30)


def test_late_and_bad_events_are_confirmed_too(shard: Shard, redis_space: RedisSpace) -> None:
    old = wire(event(timestamp=None) | {"timestamp": "2019-01-01T00:00:00.000000Z", "id": None})
    shard.add_batch([*_lines(1), b"{", old], p=PRODUCER, e=EPOCH, s=1)

    shard.drain()

    assert _told(shard, redis_space, FIELD)["watermark"] == 3


def test_more_gaps_than_fit_cut_the_value_before_the_next_one(
    shard: Shard, redis_space: RedisSpace
) -> None:
    for seq in range(1, 2 * 130, 2):
        shard.add_batch(_lines(1), p=PRODUCER, e=EPOCH, s=seq)

    shard.drain()

    told = _told(shard, redis_space, FIELD)
    assert told["gaps"] == [[seq, seq] for seq in range(2, 202, 2)]
    assert told["max"] == 201
    assert told["watermark"] == 1


def test_declared_numbers_are_accounted_for(shard: Shard, redis_space: RedisSpace) -> None:
    shard.add_batch(_lines(2), p=PRODUCER, e=EPOCH, s=1)
    shard.add_batch([loss(PRODUCER, EPOCH, [[3, 9]])], p=PRODUCER, e=77, s=1)

    shard.drain()

    assert _told(shard, redis_space, FIELD)["watermark"] == 9
    assert _told(shard, redis_space, f"{PRODUCER}:77")["watermark"] == 1


def test_the_end_of_an_epoch_makes_its_lost_tail_a_gap(
    shard: Shard, redis_space: RedisSpace
) -> None:
    shard.add_batch(_lines(2), p=PRODUCER, e=EPOCH, s=1)
    shard.add_batch([end(PRODUCER, [[EPOCH, 6]])], p=PRODUCER, e=77, s=1)

    shard.drain()

    told = _told(shard, redis_space, FIELD)
    assert (told["watermark"], told["max"], told["gaps"]) == (2, 6, [[3, 6]])


def test_a_report_on_an_epoch_of_another_shard_is_told_there_too(
    shard: Shard, redis_space: RedisSpace
) -> None:
    shard.add_batch([loss(PRODUCER, EPOCH, [[1, 4]])], p=PRODUCER, e=77, s=1)

    shard.drain(shards=3)

    assert [_told(shard, redis_space, FIELD, of=one)["watermark"] for one in range(3)] == [4] * 3
    assert _told(shard, redis_space, f"{PRODUCER}:77", of=2) == {}


def test_after_a_recovery_to_an_earlier_point_the_next_run_tells_what_is_gone(
    shard: Shard, redis_space: RedisSpace
) -> None:
    shard.add_batch(_lines(10), p=PRODUCER, e=EPOCH, s=1)
    shard.add_batch(_lines(10), p=PRODUCER, e=EPOCH + 1, s=1)
    shard.drain()
    assert _told(shard, redis_space, FIELD)["watermark"] == 10
    # Rows and ledger as they were two hours ago, when 4 of the 10 had come.
    shard.sql.execute(b"delete from audit.event where producer_epoch = 4242 and producer_seq > 4")
    shard.sql.execute(
        b"update audit.producer_epoch set known = '{[1,5)}', updated_at = now() - interval '2 h'"
        b" where epoch = 4242"
    )
    shard.sql.execute(
        b"update audit.producer_epoch set updated_at = now() - interval '2 h 5 min'"
        b" where epoch = 4243"
    )

    shard.drain(run_id="run-2")

    told = _told(shard, redis_space, FIELD)
    assert (told["watermark"], told["max"], told["gaps"]) == (4, 4, [])


def test_a_living_run_says_each_second_how_the_shard_is(
    shard: Shard, redis_space: RedisSpace
) -> None:
    running = shard.drain_beside(drain_idle_s=20.0)
    wait_until(lambda: bool(_told(shard, redis_space, "shard")))
    first = _told(shard, redis_space, "shard")

    wait_until(lambda: _told(shard, redis_space, "shard")["at_ms"] > first["at_ms"])

    assert (first["level"], first["lag_s"]) == (0, 0)
    shard.sql.execute(b"update audit.drain_lease set stop = true")
    running.result(30)


def test_the_status_goes_on_while_postgresql_is_away(
    shard: Shard, redis_space: RedisSpace, postgres_server: PostgresServer
) -> None:
    running = shard.drain_beside(drain_idle_s=60.0, drain_lifetime_s=90.0)
    wait_until(lambda: bool(_told(shard, redis_space, "shard")))
    try:
        postgres_server.stop()
        shard.add_batch(_lines(3), p=PRODUCER, e=EPOCH, s=1)
        wait_until(lambda: _told(shard, redis_space, "shard")["lag_s"] > 2)
    finally:
        postgres_server.start()

    wait_until(lambda: _told(shard, redis_space, FIELD).get("watermark") == 3, deadline_s=60)
    wait_until(lambda: _told(shard, redis_space, "shard")["lag_s"] == 0)
    with psycopg.connect(shard.settings.database_url_of("maint"), autocommit=True) as connection:
        connection.execute(b"set role audit_owner")
        connection.execute(b"update audit.drain_lease set stop = true")
    running.result(60)


@dataclass
class Told:
    """A return path on a clock of the test; what it tells is kept, or refused."""

    now_s: float = 0.0
    is_refusing: bool = False
    before: tuple[str, ...] = ()
    fields: dict[str, str] = field(default_factory=dict)

    def tell(self, fields: Mapping[str, str], shards: Sequence[int]) -> None:
        del shards
        if self.is_refusing:
            raise QueueUnavailable
        self.fields.update(fields)

    def path(self, writer: Writer) -> ReturnPath:
        return ReturnPath(
            connection=lambda: writer.connection,
            tell=self.tell,
            told=lambda: self.before,
            shard=0,
            shards=1,
            clock=lambda: self.now_s,
            clock_ms=lambda: 0,
        )


def _stored(writer: Writer, *, count: int = 1) -> FrameResult:
    frame = frame_of_lines(_lines(count), p=b"17", e=b"4242", s=b"1")
    writer.save(frame)
    return frame


def test_what_redis_did_not_take_is_told_later(writer: Writer) -> None:
    told = Told(is_refusing=True)
    path = told.path(writer)
    path.touch(_stored(writer))
    path.publish_if_due()
    assert told.fields == {}

    told.is_refusing, told.now_s = False, 1.0
    path.publish_if_due()

    assert json.loads(told.fields[FIELD])["watermark"] == 1


def test_an_epoch_is_told_once_a_second_at_most(writer: Writer) -> None:
    told = Told()
    path = told.path(writer)
    path.publish_if_due()
    path.touch(_stored(writer))

    told.now_s = 0.9
    path.publish_if_due()
    assert FIELD not in told.fields
    told.now_s = 1.0
    path.publish_if_due()
    assert FIELD in told.fields


def test_the_ledger_is_folded_each_minute(writer: Writer, shard: Shard) -> None:
    told = Told()
    path = told.path(writer)
    path.touch(_stored(writer))

    told.now_s = 59.0
    path.publish_if_due()
    assert shard.rows("select from audit.ingest_range")
    told.now_s = 60.0
    path.publish_if_due()
    assert not shard.rows("select from audit.ingest_range")


def test_many_ranges_are_folded_before_the_minute_is_over(writer: Writer, shard: Shard) -> None:
    """Shedding every other number makes as many ranges as numbers."""
    told = Told()
    path = told.path(writer)
    frame = _stored(writer)

    path.touch(replace(frame, ranges=frame.ranges * FOLD_RANGES))
    told.now_s = 1.0
    path.publish_if_due()

    assert not shard.rows("select from audit.ingest_range")


def test_what_was_told_before_is_told_anew_on_a_new_connection(writer: Writer) -> None:
    """A recovery to an earlier point in time may have taken an epoch away altogether."""
    told = Told(before=("shard", "17:4242", "odd", "1:x"))

    told.path(writer).publish_if_due()

    assert set(told.fields) == {FIELD}
    assert json.loads(told.fields[FIELD]) == {"watermark": 0, "max": 0, "gaps": [], "at_ms": 0}
