"""What the drain's Redis edge answers when the stream, the group or the server is gone."""

import pytest

from audit_platform.errors import GroupMissing, QueueUnavailable
from audit_platform.events.stream import Consumer
from audit_platform.local.ports import any_free_port
from tests.conftest import RedisSpace

pytestmark = pytest.mark.integration


def _consumer(url: str, space: RedisSpace) -> Consumer:
    return Consumer(url, key_prefix=space.prefix, shard=0, block_ms=10)


def test_a_stream_without_its_group_means_group_missing(redis_space: RedisSpace) -> None:
    with _consumer(redis_space.url("consumer"), redis_space) as consumer:
        with pytest.raises(GroupMissing):
            consumer.read_new(1, 0)
        with pytest.raises(GroupMissing):
            consumer.read_pending("0-0", 1)
        with pytest.raises(GroupMissing):
            consumer.claim_stale("0-0", 1)


def test_the_group_can_be_made_twice_and_begins_at_the_first_entry(
    redis_space: RedisSpace,
) -> None:
    redis_space.cli("xadd", f"{redis_space.prefix}:{{0}}:events", "*", "event", "{}")
    with _consumer(redis_space.url("janitor"), redis_space) as keeper:
        keeper.ensure_group()
        keeper.ensure_group()

    with _consumer(redis_space.url("consumer"), redis_space) as consumer:
        entries = consumer.read_new(10, 0)

    assert [dict(entry.fields) for entry in entries] == [{b"event": b"{}"}]


def test_a_server_that_does_not_answer_is_worth_a_retry(redis_space: RedisSpace) -> None:
    nowhere = f"redis://127.0.0.1:{any_free_port()}/0"

    with (
        _consumer(nowhere, redis_space) as consumer,
        pytest.raises(QueueUnavailable) as caught,
    ):
        consumer.length()

    assert caught.value.retryable
