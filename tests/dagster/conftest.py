"""A temporary Dagster instance, and the code location wired to the services of the test."""

import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.events.stream import Appender, BatchEntry
from audit_platform.settings import Settings
from tests.conftest import Database, RedisSpace
from tests.dagster.location import location_of
from tests.factories import event, wire


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance with its own storage; an ephemeral one is refused by sensors."""
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def settings_for_runs(settings: Settings, dagster_database: Database) -> Settings:
    """Settings under which a drain ends soon after its last event and a tick waits shortly."""
    del dagster_database  # the janitor looks into it
    quick = {"drain_idle_s": 1.0, "sensor_block_ms": 100}
    return settings.model_copy(update=quick)


@pytest.fixture
def location(settings_for_runs: Settings) -> dg.Definitions:
    """A fresh code location that reads the settings of this test."""
    return location_of(settings_for_runs)


@pytest.fixture
def append(redis_space: RedisSpace) -> Iterator[Callable[[int], None]]:
    """Append one event to a shard, as the client does."""
    appender = Appender(
        redis_space.url("producer"), key_prefix=redis_space.prefix, timeout_ms=1_000
    )

    def to(shard: int) -> None:
        now_ms = int(time.time() * 1_000)
        entry = BatchEntry(shard=shard, ndjson=wire(event()), count=1, received_ms=now_ms)
        appender.append_batch(entry)

    yield to
    appender.close()


@pytest.fixture
def writer(settings: Settings) -> Iterator[Connection]:
    """A connection as those who take leases have."""
    with connected(settings.database_url_of("writer"), application="test") as conn:
        yield conn
