"""A shard whose stream is drained, so that producers learn what is stored."""

from collections.abc import Iterator

import pytest

from audit_platform.settings import Settings
from tests.conftest import Database, RedisSpace
from tests.integration.events.shard import Shard, opened


@pytest.fixture
def shard(settings: Settings, database: Database, redis_space: RedisSpace) -> Iterator[Shard]:
    """Shard 0 of the test, empty."""
    with opened(settings, database, redis_space) as made:
        yield made
