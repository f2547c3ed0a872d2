"""Redis Streams edge: append, backlog, read, claim, acknowledge.

Here: the Redis commands that move events and tell producers of them. Not here: looking without
taking (`events/backlog.py`), connections and errors (`events/redis_edge.py`), what an entry means
(`events/frame.py`), when to read or flush (`events/drain.py`, `client/sender.py`).
Guarantee: an entry leaves the stream only through `Consumer.ack_and_delete`, which callers use
after the commit; nothing here trims a stream or deletes a consumer.

Source of the rules (group at 0, fixed consumer name, read order, MULTI around XACK and XDEL):
delivery design, section 6, with measurements on Redis 6.2.14.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import redis

from audit_platform.events.redis_edge import (
    Edge,
    Reply,
    none_without_stream,
    stream_key,
    text_of,
    translated,
    watermark_key,
)

GROUP: Final = "ingest"
ENTRY_VERSION: Final = 1
MAX_EVENTS_PER_ENTRY: Final = 1_000
MAX_ENTRY_BYTES: Final = 1 << 20
CLAIM_MIN_IDLE_MS: Final = 60_000
FIRST_ID: Final = "0-0"


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


class Appender(Edge):
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
        with translated():
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
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for entry in entries:
                pipe.xadd(
                    stream_key(self._key_prefix, entry.shard), cast("Any", _batch_fields(entry))
                )
            return [cast("bytes", added).decode() for added in pipe.execute()]

    def read_watermarks(self, shard: int, fields: Sequence[str]) -> list[bytes | None]:
        """Read what a shard tells its producers; None for each field that is not there.

        Raises:
            QueueUnavailable: No reply in time.
        """
        with translated():
            found: Reply = self._redis.hmget(
                watermark_key(self._key_prefix, shard), cast("Any", list(fields))
            )
        return found

    def append_event(self, shard: int, event_json: bytes) -> str:
        """Append one event as an entry of its own, as a foreign producer would; returns its id."""
        return self.append_fields(shard, {b"event": event_json})

    def append_fields(self, shard: int, fields: Mapping[bytes, bytes]) -> str:
        """Append an entry of any fields, as it was once read; returns its id.

        Raises:
            QueueUnavailable: No reply; the entry may be in the stream or not.
            QueueFull: Redis refuses writes.
        """
        with translated():
            added = self._redis.xadd(stream_key(self._key_prefix, shard), cast("Any", dict(fields)))
        return cast("bytes", added).decode()


class Consumer(Edge):
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
        self._shard = shard
        # Fixed, so that the next run owns what a killed one had read.
        self._name = f"drain-{shard}"

    def ensure_group(self) -> None:
        """Create stream and group where missing."""
        create_group(self._redis, self.stream)

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
        with translated():
            reply: Reply = self._redis.xreadgroup(
                GROUP, self._name, {self.stream: after}, count=count, block=block_ms
            )
        return _entries(_only_stream(reply))

    def claim_stale(self, cursor: str, count: int) -> tuple[str, list[StreamEntry]]:
        """Take over entries another consumer read over 60 s ago; returns the next cursor.

        The cursor `0-0` means that all were seen. Entries deleted meanwhile come without an id
        from Redis 6.2 and are left to `read_pending`, which names them.
        """
        with translated():
            reply: Reply = self._redis.xautoclaim(
                self.stream, GROUP, self._name, CLAIM_MIN_IDLE_MS, start_id=cursor, count=count
            )
        claimed = [pair for pair in reply[1] if pair[0] is not None]
        return text_of(reply[0]), _entries(claimed)

    def refresh(self, entry_ids: Sequence[str]) -> None:
        """Reset the idle time of entries that are still being worked on."""
        if not entry_ids:
            return
        with translated():
            self._redis.xclaim(
                self.stream, GROUP, self._name, 0, cast("Any", list(entry_ids)), justid=True
            )

    def ack_and_delete(self, entry_ids: Sequence[str]) -> None:
        """Acknowledge and delete entries in one atomic step; call it after the commit only."""
        if not entry_ids:
            return
        with translated(), self._redis.pipeline(transaction=True) as pipe:
            pipe.xack(self.stream, GROUP, *entry_ids)
            pipe.xdel(self.stream, *entry_ids)
            pipe.execute()

    def oldest_ms(self) -> int | None:
        """Milliseconds since 1970 at which Redis took the oldest entry; None when there is none."""
        info = none_without_stream(lambda: self._redis.xinfo_stream(self.stream))
        first = info["first-entry"] if info else None
        return int(text_of(first[0]).partition("-")[0]) if first else None

    def tell(self, fields: Mapping[str, str], shards: Sequence[int] | None = None) -> None:
        """Write fields for producers into the hash of this shard, or of the given ones."""
        if not fields:
            return
        keys = [watermark_key(self._key_prefix, shard) for shard in shards or (self._shard,)]
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hset(key, mapping=cast("Any", fields))
            pipe.execute()

    def told_fields(self) -> list[str]:
        """Name the fields that producers of this shard may read."""
        with translated():
            found: Reply = self._redis.hkeys(watermark_key(self._key_prefix, self._shard))
        return [text_of(field) for field in found]

    def length(self) -> int:
        """Entries in the stream, pending ones included."""
        with translated():
            return cast("int", self._redis.xlen(self.stream))


def create_group(client: redis.Redis, stream: str) -> None:
    """Create stream and group at 0 where missing; at `$`, waiting entries would be lost.

    Raises:
        QueueFull: Redis is out of memory.
    """
    with translated():
        try:
            client.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except redis.ResponseError as exc:
            if not str(exc).startswith("BUSYGROUP"):
                raise


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
        StreamEntry(entry_id=text_of(entry_id), fields=fields or {}) for entry_id, fields in pairs
    ]
