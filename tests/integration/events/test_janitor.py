"""The janitor on a real Redis: it clears leftovers and never takes what may still be needed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from audit_platform.errors import QueueFull
from audit_platform.events.janitor import SILENT_MS, Janitor, first_needed
from audit_platform.events.redis_edge import id_order, stream_key, watermark_key
from audit_platform.events.stream import GROUP
from audit_platform.settings import Settings
from tests.conftest import RedisSpace
from tests.factories import event, wire
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.integration

NOW_MS = 1_800_000_000_000
CONSUMER = "drain-0"


@pytest.fixture
def janitor(settings: Settings) -> Iterator[Janitor]:
    url = settings.redis_url_of("janitor")
    with Janitor(url, key_prefix=settings.key_prefix) as made:
        yield made


def add(shard: Shard, count: int) -> list[str]:
    return [shard.add_event(wire(event())) for _ in range(count)]


def deliver(shard: Shard, count: int) -> None:
    reply: Any = shard.redis.xreadgroup(GROUP, CONSUMER, {shard.key: ">"}, count=count)
    assert reply


def left(shard: Shard) -> list[str]:
    found: Any = shard.redis.xrange(shard.key)
    return [entry_id.decode() for entry_id, _ in found]


def make_group(shard: Shard) -> None:
    shard.redis.xgroup_create(shard.key, GROUP, id="0", mkstream=True)


def test_missing_group_is_made_at_zero_so_that_waiting_entries_are_delivered(
    shard: Shard, janitor: Janitor
) -> None:
    ids = add(shard, 3)

    care = janitor.care_for(0, now_ms=NOW_MS)

    assert care.was_group_made
    assert left(shard) == ids
    assert shard.drain().rows == 3


def test_repeat_finds_nothing_to_do(janitor: Janitor) -> None:
    janitor.care_for(0, now_ms=NOW_MS)

    care = janitor.care_for(0, now_ms=NOW_MS)

    assert not care.was_group_made
    assert (care.trimmed, care.pending, care.redis_lost, care.fields_removed) == (0, 0, 0, 0)


def test_acknowledged_entries_that_were_not_deleted_are_removed(
    shard: Shard, janitor: Janitor
) -> None:
    """Row 10 of the crash points, C_ACKED_NOT_DELETED: XACK without XDEL, as without MULTI.

    They are in no pending list, so no run looked at them, and the sensor started one after another.
    """
    make_group(shard)
    ids = add(shard, 5)
    deliver(shard, 5)
    shard.redis.xack(shard.key, GROUP, *ids)

    care = janitor.care_for(0, now_ms=NOW_MS)

    assert care.trimmed == 5
    assert shard.waiting() == (0, 0)


def test_entries_behind_a_pending_one_are_kept(shard: Shard, janitor: Janitor) -> None:
    make_group(shard)
    ids = add(shard, 5)
    deliver(shard, 5)
    shard.redis.xack(shard.key, GROUP, ids[0], ids[1], ids[3])

    care = janitor.care_for(0, now_ms=NOW_MS)

    assert care.trimmed == 2
    assert left(shard) == ids[2:]


def test_undelivered_entries_are_never_removed(shard: Shard, janitor: Janitor) -> None:
    make_group(shard)
    ids = add(shard, 6)
    deliver(shard, 2)
    shard.redis.xack(shard.key, GROUP, *ids[:2])

    care = janitor.care_for(0, now_ms=NOW_MS)

    assert care.trimmed == 2
    assert left(shard) == ids[2:]


def test_new_group_at_zero_makes_everything_needed_again(shard: Shard, janitor: Janitor) -> None:
    make_group(shard)
    ids = add(shard, 4)
    deliver(shard, 4)
    shard.redis.xack(shard.key, GROUP, *ids)
    shard.redis.xgroup_destroy(shard.key, GROUP)

    made, after = (janitor.care_for(0, now_ms=NOW_MS) for _ in range(2))

    assert made.was_group_made
    assert after.trimmed == 0
    assert left(shard) == ids


@examples(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_whatever_was_read_and_acknowledged_only_that_is_removed(
    shard: Shard, janitor: Janitor, data: st.DataObject
) -> None:
    shard.redis.delete(shard.key)
    make_group(shard)
    ids = add(shard, data.draw(st.integers(0, 12), label="added"))
    delivered = ids[: data.draw(st.integers(0, len(ids)), label="delivered")]
    acked = data.draw(st.lists(st.sampled_from(delivered), unique=True)) if delivered else []
    deleted = data.draw(st.lists(st.sampled_from(acked), unique=True)) if acked else []
    if delivered:
        deliver(shard, len(delivered))
    if acked:
        shard.redis.xack(shard.key, GROUP, *acked)
    if deleted:
        shard.redis.xdel(shard.key, *deleted)

    care = janitor.care_for(0, now_ms=NOW_MS)

    needed = [one for one in ids if one not in acked]
    kept = left(shard)
    assert set(needed) <= set(kept)
    assert care.trimmed == len(ids) - len(deleted) - len(kept)
    # All that is left besides lies behind an entry that is still needed.
    assert not needed or all(one in needed or id_order(one) > id_order(needed[0]) for one in kept)
    assert needed or not kept


def test_pending_entries_whose_events_are_gone_are_counted(shard: Shard, janitor: Janitor) -> None:
    make_group(shard)
    ids = add(shard, 4)
    deliver(shard, 3)
    shard.redis.xdel(shard.key, *ids[:2])

    care = janitor.care_for(0, now_ms=NOW_MS)

    assert (care.pending, care.redis_lost) == (3, 2)
    shard.redis.xdel(shard.key, *ids)
    assert janitor.care_for(0, now_ms=NOW_MS).redis_lost == 3
    assert shard.drain().redis_lost == 3


def test_fields_of_silent_producers_are_removed_and_no_others(
    shard: Shard, janitor: Janitor, settings: Settings
) -> None:
    key = watermark_key(settings.key_prefix, 0)
    old_ms = NOW_MS - SILENT_MS - 1
    fields = {f"{number}:1": json.dumps({"at_ms": old_ms}) for number in range(1_200)}
    kept = {
        "5000:1": json.dumps({"at_ms": NOW_MS - SILENT_MS}),
        "shard": '{"at_ms":0}',
        "database": "7/1",
    }
    shard.redis.hset(key, mapping={**fields, **kept, "7:7": "not JSON"})

    care = janitor.care_for(0, now_ms=NOW_MS)

    assert care.fields_removed == 1_201
    found: Any = shard.redis.hkeys(key)
    assert {name.decode() for name in found} == set(kept)


def test_group_is_not_made_while_redis_is_out_of_memory(
    settings: Settings, redis_space: RedisSpace, janitor: Janitor
) -> None:
    usual = redis_space.cli("config", "get", "maxmemory").split()[-1]
    redis_space.cli("config", "set", "maxmemory", "1")
    try:
        with pytest.raises(QueueFull):
            janitor.care_for(0, now_ms=NOW_MS)
    finally:
        redis_space.cli("config", "set", "maxmemory", usual)
    assert janitor.care_for(0, now_ms=NOW_MS).was_group_made
    assert redis_space.cli("exists", stream_key(settings.key_prefix, 0)).strip() == "1"


@pytest.mark.parametrize(
    ("first_pending", "last_delivered", "expected"),
    [
        (None, "0-0", "0-1"),
        (None, "5-7", "5-8"),
        ("5-3", "5-7", "5-3"),
        ("5-7", "5-7", "5-7"),
        ("9-10", "10-2", "9-10"),
        (None, "5-18446744073709551615", "6-0"),
    ],
)
def test_bound_is_the_first_pending_or_what_follows_the_last_delivered(
    first_pending: str | None, last_delivered: str, expected: str
) -> None:
    assert first_needed(first_pending, last_delivered) == expected
