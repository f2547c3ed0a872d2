"""The batch entry that the SDK writes, field by field, seen by `redis-cli`."""

import re
import time
from collections.abc import Iterator
from uuid import UUID

import pytest

from audit_platform.client import AuditClient
from audit_platform.client.core import producer_id_of
from audit_platform.events.event import EVENT_FIELDS
from audit_platform.events.policy import shard_of
from tests.conftest import RedisSpace
from tests.contract.client.cli_stream import read_events, read_stream

pytestmark = pytest.mark.contract


@pytest.fixture
def client(redis_space: RedisSpace) -> Iterator[AuditClient]:
    with AuditClient.from_env(
        redis_url=redis_space.url("producer"),
        key_prefix=redis_space.prefix,
        producer_name="shop",
        shards=4,
        batch_preset="low",
    ) as made:
        yield made


def key_of(space: RedisSpace, tenant_id: str = "default") -> str:
    return f"{space.prefix}:{{{shard_of(tenant_id, 4)}}}:events"


def test_entry_has_exactly_the_documented_fields(
    client: AuditClient, redis_space: RedisSpace
) -> None:
    before_ms = time.time_ns() // 1_000_000
    for number in range(3):
        client.log("order.create", entity=("order", number))
    assert client.flush()

    (entry,) = read_stream(redis_space.cli, key_of(redis_space))

    assert entry.fields.keys() == {"v", "n", "t", "p", "e", "s"}
    assert (entry.fields["v"], entry.fields["n"], entry.fields["s"]) == ("1", "3", "1")
    assert entry.fields["p"] == str(producer_id_of("shop", 0))
    assert 0 < int(entry.fields["e"]) < 1 << 63
    assert before_ms <= int(entry.fields["t"]) <= time.time_ns() // 1_000_000
    assert len(entry.lines) == 3


def test_event_is_compact_json_with_column_names(
    client: AuditClient, redis_space: RedisSpace
) -> None:
    client.log(
        "order.créer",
        entity=("order", "A-1"),
        status="failure",
        metadata={"text": 'line\nfeed, "quote", \\ and \u2028', "big": 2**70, "price": 1.5},
    )
    assert client.flush()

    (entry,) = read_stream(redis_space.cli, key_of(redis_space))

    (event,) = entry.events
    assert event.keys() <= {field.name for field in EVENT_FIELDS}
    assert event["action"] == "order.créer"
    assert event["metadata"] == {
        "text": 'line\nfeed, "quote", \\ and \u2028',
        "big": 2**70,
        "price": 1.5,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["timestamp"])
    assert UUID(event["id"]).version == 7
    assert ": " not in entry.lines[0].replace("feed, ", "")


def test_numbers_go_on_from_entry_to_entry(client: AuditClient, redis_space: RedisSpace) -> None:
    for _ in range(3):
        client.log("tick")
        client.log("tick")
        assert client.flush()

    entries = read_stream(redis_space.cli, key_of(redis_space))

    assert [number for entry in entries for number in entry.numbers] == [1, 2, 3, 4, 5, 6]
    assert len({entry.fields["e"] for entry in entries}) == 1


def test_entry_holds_at_most_a_thousand_events_and_one_mebibyte(
    client: AuditClient, redis_space: RedisSpace
) -> None:
    for _ in range(2_100):
        client.log("small")
    for _ in range(40):
        client.log("large", metadata={"blob": "x" * 60_000})
    assert client.flush(20)

    entries = read_stream(redis_space.cli, key_of(redis_space))

    assert sum(int(entry.fields["n"]) for entry in entries) == 2_140
    assert max(int(entry.fields["n"]) for entry in entries) <= 1_000
    assert max(len("\n".join(entry.lines)) for entry in entries) <= 1 << 20


def test_tenant_stays_on_its_shard_with_an_epoch_of_its_own(
    client: AuditClient, redis_space: RedisSpace
) -> None:
    tenants = [f"tenant-{number}" for number in range(12)]
    for tenant in tenants * 2:
        client.log("tick", tenant_id=tenant)
    assert client.flush()

    streams = {shard: f"{redis_space.prefix}:{{{shard}}}:events" for shard in range(4)}
    epochs: set[str] = set()
    for shard, key in streams.items():
        entries = read_stream(redis_space.cli, key)
        epochs |= {entry.fields["e"] for entry in entries}
        found = {event["tenant_id"] for event in read_events(redis_space.cli, key)}
        assert found == {tenant for tenant in tenants if shard_of(tenant, 4) == shard}
        numbers = [number for entry in entries for number in entry.numbers]
        assert numbers == list(range(1, len(numbers) + 1))
    assert len(epochs) == 4


def test_redis_user_of_the_sdk_needs_xadd_only(
    client: AuditClient, redis_space: RedisSpace
) -> None:
    redis_space.cli("acl", "log", "reset")

    client.log("tick")

    assert client.flush()
    assert client.stats().retries == 0
    refused = redis_space.cli("acl", "log")
    assert "producer" not in refused
