"""Redis Streams edge of those who only look: the sensor, self-checks, people.

Here: what waits in a shard, how the server is configured and how full it is. Not here: appending,
reading and acknowledging (`events/stream.py`).
Guarantee: nothing here changes a stream.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from audit_platform.events.redis_edge import (
    Edge,
    Reply,
    id_order,
    none_without_stream,
    stream_key,
    text_of,
    translated,
)
from audit_platform.events.stream import GROUP

FIRST_ID: Final = "0-0"
LONGEST_READ_MS: Final = 10_000
"""Longest block of one read: a connection whose other end fell silent is noticed 5 s later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardBacklog:
    """What waits in one shard."""

    shard: int
    last_id: str
    length: int
    oldest_ms: int | None = field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Memory of the server.

    Attributes:
        used_bytes: What counts against the limit: without the buffers of the append-only file,
            which grow while it is rewritten.
        limit_bytes: 0 when there is no limit.
    """

    used_bytes: int
    limit_bytes: int

    @property
    def share(self) -> float:
        """Used part of the limit; 0 without a limit."""
        return self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


class Backlog(Edge):
    """The sensor's edge: looks at streams without taking from them."""

    def __init__(self, url: str, *, key_prefix: str, block_ms: int = LONGEST_READ_MS) -> None:
        """Connect lazily.

        Args:
            url: Redis URL of the sensor.
            key_prefix: First part of every key.
            block_ms: Longest block that `wait` will be asked for.
        """
        super().__init__(url, key_prefix=key_prefix, timeout_ms=block_ms + 5_000)

    def state(self, shard: int) -> ShardBacklog:
        """Look at one shard: last id ever given, then length, so that nothing slips in between."""
        key = stream_key(self._key_prefix, shard)
        info = none_without_stream(lambda: self._redis.xinfo_stream(key))
        if info is None:
            return ShardBacklog(shard=shard, last_id=FIRST_ID, length=0)
        first = info["first-entry"]
        return ShardBacklog(
            shard=shard,
            last_id=text_of(info["last-generated-id"]),
            length=int(info["length"]),
            oldest_ms=int(text_of(first[0]).partition("-")[0]) if first else None,
        )

    def wait(self, last_ids: Mapping[int, str], block_ms: int) -> bool:
        """Wait until any of the shards gets an entry after the given id; False when none came.

        Never pass `$`: it does not see entries that wait already (measured).
        """
        keys = {stream_key(self._key_prefix, shard): last for shard, last in last_ids.items()}
        with translated():
            return bool(self._redis.xread(cast("Any", keys), count=1, block=max(block_ms, 1)))

    def is_drained_up_to(self, shard: int, entry_id: str) -> bool:
        """Whether every entry up to an id has left the stream, that is: was committed."""
        key = stream_key(self._key_prefix, shard)
        info = none_without_stream(lambda: self._redis.xinfo_stream(key))
        first = info["first-entry"] if info else None
        return not first or id_order(text_of(first[0])) > id_order(entry_id)


class Inspector(Edge):
    """The janitor's eyes: the server's policy, memory and access rules; changes nothing."""

    def __init__(self, url: str, *, key_prefix: str, timeout_ms: int = 2_000) -> None:
        """Connect lazily.

        Args:
            url: Redis URL of the janitor.
            key_prefix: First part of every key.
            timeout_ms: Longest wait for one reply.
        """
        super().__init__(url, key_prefix=key_prefix, timeout_ms=timeout_ms)

    def configuration(self, name: str) -> str:
        """Value of one configuration parameter, empty if the server has none of that name."""
        with translated():
            reply: Reply = self._redis.config_get(name)
        return next((text_of(value) for value in reply.values()), "")

    def version(self) -> tuple[int, ...]:
        """Version of the server, for example (6, 2, 14)."""
        with translated():
            reply: Reply = self._redis.info("server")
        return tuple(
            int(part) for part in text_of(reply["redis_version"]).split(".") if part.isdigit()
        )

    def memory(self) -> MemoryUse:
        """Memory in use and its limit."""
        with translated():
            reply: Reply = self._redis.info("memory")
        return MemoryUse(
            used_bytes=int(reply["used_memory"]) - int(reply.get("mem_not_counted_for_evict", 0)),
            limit_bytes=int(reply.get("maxmemory", 0)),
        )

    def commands_of(self, user: str) -> frozenset[str] | None:
        """Command rules of one user, as `-@all` or `+xadd`; None if there is none or it is off."""
        with translated():
            rules: Reply = self._redis.acl_getuser(user)
        if not rules or not rules["enabled"]:
            return None
        return frozenset((*rules["categories"], *rules["commands"]))

    def has_group(self, shard: int) -> bool:
        """Whether the shard's stream has the consumer group."""
        key = stream_key(self._key_prefix, shard)
        groups = none_without_stream(lambda: self._redis.xinfo_groups(key)) or ()
        return any(text_of(group["name"]) == GROUP for group in groups)
