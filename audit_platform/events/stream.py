"""Redis Streams edge: append, backlog, read, claim, acknowledge.

Here: every Redis command of the event path, and the translation of its errors. Not here: what an
entry means (`events/frame.py`), when to read or flush (`events/drain.py`, `client/sender.py`).
Guarantee: an entry leaves the stream only through `Consumer.ack_and_delete`, which callers use
after the commit; nothing here trims a stream or deletes a consumer.

Source of the rules (group at 0, fixed consumer name, read order, MULTI around XACK and XDEL):
delivery design, section 6, with measurements on Redis 6.2.14.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self, cast

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from audit_platform.errors import GroupMissing, QueueError, QueueFull, QueueUnavailable

GROUP: Final = "ingest"
ENTRY_VERSION: Final = 1
MAX_EVENTS_PER_ENTRY: Final = 1_000
MAX_ENTRY_BYTES: Final = 1 << 20
CLAIM_MIN_IDLE_MS: Final = 60_000
FIRST_ID: Final = "0-0"

Reply = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One entry as read; empty `fields` mean it is pending but was deleted."""

    entry_id: str
    fields: Mapping[bytes, bytes]

    @property
    def added_ms(self) -> int:
        """Milliseconds since 1970 at which Redis took the entry, by the server's clock."""
        return int(self.entry_id.partition("-")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Producer stamp of a batch entry; event number i, from 0, has `first_seq + i`."""

    producer_id: int
    epoch: int
    first_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEntry:
    """One entry to append: `count` events as NDJSON, at most 1,000 events and 1 MiB."""

    shard: int
    ndjson: bytes
    count: int
    received_ms: int
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardBacklog:
    """What waits in one shard."""

    shard: int
    last_id: str
    length: int
    oldest_ms: int | None = field(default=None)


def stream_key(key_prefix: str, shard: int) -> str:
    """Key of one shard's stream; the braces keep a shard's keys on one node of a Redis Cluster."""
    return f"{key_prefix}:{{{shard}}}:events"


class _Edge:
    """A connection pool whose errors are ours; shared by the edges below."""

    def __init__(self, url: str, *, key_prefix: str, timeout_ms: int) -> None:
        self._key_prefix = key_prefix
        # No retries inside the library: they would repeat XADD behind our back and hide an outage;
        # our own loops retry, count and report.
        self._redis: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout_ms / 1000,
            socket_connect_timeout=timeout_ms / 1000,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            # No CLIENT SETINFO and no CLIENT MAINT_NOTIFICATIONS: the access rules do not grant
            # them, and each connection would leave a refusal in the ACL log.
            driver_info=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )

    def ping(self) -> None:
        """Ask Redis for a sign of life.

        Raises:
            QueueUnavailable: No answer in time.
        """
        with _translated():
            self._redis.ping()

    def close(self) -> None:
        """Close all connections; calling it again does nothing."""
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Appender(_Edge):
    """The producer's edge: XADD."""

    def __init__(self, url: str, *, key_prefix: str, timeout_ms: int = 1_000) -> None:
        """Connect lazily.

        Args:
            url: Redis URL of a user that may XADD.
            key_prefix: First part of every key.
            timeout_ms: Longest wait for one reply.
        """
        super().__init__(url, key_prefix=key_prefix, timeout_ms=timeout_ms)

    def append_batch(self, entry: BatchEntry) -> str:
        """Append one batch entry; returns its id.

        Raises:
            QueueUnavailable: No reply; the entry may be in the stream or not. Send it again.
            QueueFull: Redis refuses writes.
        """
        with _translated():
            added = self._redis.xadd(
                stream_key(self._key_prefix, entry.shard), cast("Any", _batch_fields(entry))
            )
        return cast("bytes", added).decode()

    def append_many(self, entries: Sequence[BatchEntry]) -> list[str]:
        """Append several batch entries in one round trip; ids in the same order.

        Raises:
            QueueUnavailable: No reply; any of them may be in the stream. Send all again.
            QueueFull: Redis refuses writes; a first part may be in the stream. Send all again.
        """
        with _translated(), self._redis.pipeline(transaction=False) as pipe:
            for entry in entries:
                pipe.xadd(
                    stream_key(self._key_prefix, entry.shard), cast("Any", _batch_fields(entry))
                )
            return [cast("bytes", added).decode() for added in pipe.execute()]

    def append_event(self, shard: int, event_json: bytes) -> str:
        """Append one event as an entry of its own, as a foreign producer would; returns its id."""
        with _translated():
            added = self._redis.xadd(
                stream_key(self._key_prefix, shard), cast("Any", {"event": event_json})
            )
        return cast("bytes", added).decode()


class Consumer(_Edge):
    """The drain's edge of one shard."""

    def __init__(self, url: str, *, key_prefix: str, shard: int, block_ms: int = 1_000) -> None:
        """Connect lazily.

        Args:
            url: Redis URL of the consumer.
            key_prefix: First part of every key.
            shard: Number of the stream.
            block_ms: Longest block that `read_new` will be asked for.
        """
        # The socket must outwait the block, or every quiet read fails.
        super().__init__(url, key_prefix=key_prefix, timeout_ms=block_ms + 5_000)
        self.stream = stream_key(key_prefix, shard)
        # Fixed, so that the next run owns what a killed one had read.
        self._name = f"drain-{shard}"

    def ensure_group(self) -> None:
        """Create stream and group at 0 where missing; at `$`, waiting entries would be lost."""
        with _translated():
            try:
                self._redis.xgroup_create(self.stream, GROUP, id="0", mkstream=True)
            except redis.ResponseError as exc:
                if not str(exc).startswith("BUSYGROUP"):
                    raise

    def read_pending(self, after: str, count: int) -> list[StreamEntry]:
        """Read own entries that were delivered before and not acknowledged, after an id.

        Raises:
            GroupMissing: The group or the stream is gone.
        """
        return self._read_group(after, count, None)

    def read_new(self, count: int, block_ms: int) -> list[StreamEntry]:
        """Read entries that nobody has read; waits up to `block_ms` for the first (0: no wait).

        Raises:
            GroupMissing: The group or the stream is gone.
        """
        return self._read_group(">", count, block_ms or None)

    def _read_group(self, after: str, count: int, block_ms: int | None) -> list[StreamEntry]:
        with _translated():
            reply: Reply = self._redis.xreadgroup(
                GROUP, self._name, {self.stream: after}, count=count, block=block_ms
            )
        return _entries(_only_stream(reply))

    def claim_stale(self, cursor: str, count: int) -> tuple[str, list[StreamEntry]]:
        """Take over entries another consumer read over 60 s ago; returns the next cursor.

        The cursor `0-0` means that all were seen. Entries deleted meanwhile come without an id
        from Redis 6.2 and are left to `read_pending`, which names them.
        """
        with _translated():
            reply: Reply = self._redis.xautoclaim(
                self.stream, GROUP, self._name, CLAIM_MIN_IDLE_MS, start_id=cursor, count=count
            )
        claimed = [pair for pair in reply[1] if pair[0] is not None]
        return _text(reply[0]), _entries(claimed)

    def refresh(self, entry_ids: Sequence[str]) -> None:
        """Reset the idle time of entries that are still being worked on."""
        if not entry_ids:
            return
        with _translated():
            self._redis.xclaim(
                self.stream, GROUP, self._name, 0, cast("Any", list(entry_ids)), justid=True
            )

    def ack_and_delete(self, entry_ids: Sequence[str]) -> None:
        """Acknowledge and delete entries in one atomic step; call it after the commit only."""
        if not entry_ids:
            return
        with _translated(), self._redis.pipeline(transaction=True) as pipe:
            pipe.xack(self.stream, GROUP, *entry_ids)
            pipe.xdel(self.stream, *entry_ids)
            pipe.execute()

    def length(self) -> int:
        """Entries in the stream, pending ones included."""
        with _translated():
            return cast("int", self._redis.xlen(self.stream))

    def pending_count(self) -> int:
        """Entries that were delivered and not acknowledged."""
        with _translated():
            summary: Reply = self._redis.xpending(self.stream, GROUP)
        return int(summary["pending"])


class Backlog(_Edge):
    """The sensor's edge: looks at streams without taking from them."""

    def __init__(self, url: str, *, key_prefix: str, block_ms: int = 10_000) -> None:
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
        with _translated():
            try:
                info: Reply = self._redis.xinfo_stream(key)
            except redis.ResponseError as exc:
                if "no such key" not in str(exc):
                    raise
                return ShardBacklog(shard=shard, last_id=FIRST_ID, length=0)
        first = info["first-entry"]
        return ShardBacklog(
            shard=shard,
            last_id=_text(info["last-generated-id"]),
            length=int(info["length"]),
            oldest_ms=int(_text(first[0]).partition("-")[0]) if first else None,
        )

    def wait(self, last_ids: Mapping[int, str], block_ms: int) -> bool:
        """Wait until any of the shards gets an entry after the given id; False when none came.

        Never pass `$`: it does not see entries that wait already (measured).
        """
        keys = {stream_key(self._key_prefix, shard): last for shard, last in last_ids.items()}
        with _translated():
            return bool(self._redis.xread(cast("Any", keys), count=1, block=max(block_ms, 1)))

    def is_drained_up_to(self, shard: int, entry_id: str) -> bool:
        """Whether every entry up to an id has left the stream, that is: was committed."""
        key = stream_key(self._key_prefix, shard)
        with _translated():
            try:
                info: Reply = self._redis.xinfo_stream(key)
            except redis.ResponseError as exc:
                if "no such key" not in str(exc):
                    raise
                return True
        first = info["first-entry"]
        return not first or _id_order(_text(first[0])) > _id_order(entry_id)


class Inspector(_Edge):
    """The janitor's edge: reads the server's policy and access rules, changes nothing."""

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
        with _translated():
            reply: Reply = self._redis.config_get(name)
        return next((_text(value) for value in reply.values()), "")

    def version(self) -> tuple[int, ...]:
        """Version of the server, for example (6, 2, 14)."""
        with _translated():
            reply: Reply = self._redis.info("server")
        return tuple(
            int(part) for part in _text(reply["redis_version"]).split(".") if part.isdigit()
        )

    def commands_of(self, user: str) -> frozenset[str] | None:
        """Command rules of one user, as `-@all` or `+xadd`; None if there is none or it is off."""
        with _translated():
            rules: Reply = self._redis.acl_getuser(user)
        if not rules or not rules["enabled"]:
            return None
        return frozenset((*rules["categories"], *rules["commands"]))

    def has_group(self, shard: int) -> bool:
        """Whether the shard's stream has the consumer group."""
        key = stream_key(self._key_prefix, shard)
        with _translated():
            try:
                groups: Reply = self._redis.xinfo_groups(key)
            except redis.ResponseError as exc:
                if "no such key" not in str(exc):
                    raise
                return False
        return any(_text(group["name"]) == GROUP for group in groups)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn errors of the library into ours, once."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, OSError) as exc:
        raise QueueUnavailable from exc
    except redis.ResponseError as exc:
        text = str(exc)
        # The library cuts a code that it knows off the text and keeps it apart.
        code = exc.status_code or text.partition(" ")[0]
        if code == "NOGROUP" or "UNBLOCKED" in text:
            raise GroupMissing from exc
        if code in {"OOM", "MISCONF", "NOREPLICAS"}:
            raise QueueFull from exc
        if code in {"LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN"}:
            raise QueueUnavailable from exc
        message = f"Redis refused a command ({code}). Check the server and its ACL users."
        raise QueueError(message) from exc


def _batch_fields(entry: BatchEntry) -> dict[str, bytes | int]:
    fields: dict[str, bytes | int] = {
        "v": ENTRY_VERSION,
        "n": entry.count,
        "t": entry.received_ms,
        "events": entry.ndjson,
    }
    if entry.stamp is not None:
        fields |= {"p": entry.stamp.producer_id, "e": entry.stamp.epoch, "s": entry.stamp.first_seq}
    return fields


def _only_stream(reply: Reply) -> list[Any]:
    """Pairs of the one stream asked for; the reply is a mapping in RESP3 and a list in RESP2."""
    if not reply:
        return []
    if isinstance(reply, dict):
        pages = next(iter(cast("dict[bytes, list[Any]]", reply).values()))
        return pages[0] if pages and isinstance(pages[0], list) else pages
    return reply[0][1]


def _entries(pairs: Sequence[Any]) -> list[StreamEntry]:
    return [
        StreamEntry(entry_id=_text(entry_id), fields=fields or {}) for entry_id, fields in pairs
    ]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _id_order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)
