"""A Redis server of one test, to be starved, killed and damaged, and the shard on it.

Here: server, its append-only file, its replica. Not here: the session's server (`tests/conftest`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis as redis_library
from pydantic import SecretStr

from audit_platform.errors import StartRefused
from audit_platform.events.stream import GROUP
from audit_platform.local import redis
from audit_platform.local.ports import any_free_port
from audit_platform.local.redis import RedisConfig, RedisServer
from audit_platform.settings import Settings
from tests.chaos.harness.fault_proxy import FaultProxy
from tests.conftest import Database, RedisSpace
from tests.integration.events.shard import Shard, opened


class OwnRedis:
    """One server; it may die and come back on its port."""

    def __init__(self, directory: Path, *extra: str, like: "OwnRedis | None" = None) -> None:
        """Choose a port; nothing starts yet.

        Args:
            directory: Of its append-only file.
            *extra: Further lines of its configuration.
            like: Takes the passwords of this server, as a replica has to.
        """
        passwords = like.config.passwords if like else redis.new_passwords()
        self.config = RedisConfig(
            data_dir=directory, port=any_free_port(), passwords=passwords, extra=extra
        )
        self.server = RedisServer(self.config)

    @property
    def aof(self) -> Path:
        """The append-only file."""
        return self.config.data_dir / "appendonly.aof"

    @property
    def pid(self) -> int:
        """Process number of the living server."""
        assert self.server.process is not None
        return self.server.process.pid

    def ask(self, *command: str | int) -> Any:
        """Run one command as administrator, over a new connection."""
        client = redis_library.Redis.from_url(self.config.url("admin"), socket_timeout=10)
        with client:
            return client.execute_command(*command)

    def count_of_error(self, code: str) -> int:
        """How often the server answered with this error since it started: proof of a refusal."""
        statistics = self.ask("INFO", "errorstats")
        found = statistics.get(f"errorstat_{code}", {"count": 0})
        return int(found["count"])

    def stop_quietly(self) -> None:
        """End it in whatever state it is."""
        process = self.server.process
        if process is not None and process.poll() is None:
            process.kill()
        if process is not None:
            process.wait(timeout=20)
        self.server.process = None

    def refuses_to_start(self) -> bool:
        """Try to start; True when it refused."""
        with suppress(StartRefused):
            self.server.start()
            return False
        self.stop_quietly()
        return True


@contextmanager
def own_redis(directory: Path, *extra: str, like: OwnRedis | None = None) -> Iterator[OwnRedis]:
    """A started server for a block."""
    made = OwnRedis(directory, *extra, like=like)
    made.server.start()
    try:
        yield made
    finally:
        made.stop_quietly()


@contextmanager
def shard_on(
    server: OwnRedis, settings: Settings, database: Database, *, proxy: FaultProxy | None = None
) -> Iterator[Shard]:
    """Shard 0 with its stream on this server, where wished behind a proxy."""
    space = RedisSpace(config=server.config, prefix=f"audit:{uuid4().hex[:12]}")

    def url(user: redis.RedisUser) -> str:
        return space.url(user) if proxy is None else proxy.url(space.url(user))

    changed = settings.model_copy(
        update={
            "key_prefix": space.prefix,
            "redis_url": SecretStr(url("producer")),
            "redis_consumer_url": SecretStr(url("consumer")),
            "redis_sensor_url": SecretStr(url("sensor")),
            "redis_janitor_url": SecretStr(url("janitor")),
        }
    )
    with opened(changed, database, space) as shard:
        # As at deployment: a Redis that is full refuses to make a group (delivery design, 6).
        shard.redis.xgroup_create(shard.key, GROUP, id="0", mkstream=True)
        yield shard
