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

from audit_platform.errors import QueueFull
from audit_platform.events.redis_edge import (
    Edge,
    Reply,
    none_without_stream,
    stream_key,
    text_of,
    translated,
    watermark_key,
)
from audit_platform.events.stream_entry import (
    StreamEntry,
    as_received,
    entries_of_claim,
    entries_of_group,
)

GROUP: Final = "ingest"
ENTRY_VERSION: Final = 1
MAX_EVENTS_PER_ENTRY: Final = 1_000
MAX_ENTRY_BYTES: Final = 1 << 20
CLAIM_MIN_IDLE_MS: Final = 60_000
FIRST_ID: Final = "0-0"


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
        for command in ("XREADGROUP", "XAUTOCLAIM"):
            self._redis.set_response_callback(command, as_received)
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
        return entries_of_group(reply)

    def claim_stale(self, cursor: str, count: int) -> tuple[str, list[StreamEntry]]:
        """Take over entries another consumer read over 60 s ago; returns the next cursor.

        The cursor `0-0` means that all were seen. Entries deleted meanwhile come without an id
        from Redis 6.2 and are left to `read_pending`, which names them.
        """
        with translated():
            reply: Reply = self._redis.xautoclaim(
                self.stream, GROUP, self._name, CLAIM_MIN_IDLE_MS, start_id=cursor, count=count
            )
        return text_of(reply[0]), entries_of_claim(reply)

    def refresh(self, entry_ids: Sequence[str]) -> None:
        """Reset the idle time of entries that are still being worked on."""
        if not entry_ids:
            return
        with translated():
            self._redis.xclaim(
                self.stream, GROUP, self._name, 0, cast("Any", list(entry_ids)), justid=True
            )

    def deliveries(self, pending: Sequence[StreamEntry]) -> dict[str, int]:
        """Say how often each of these own pending entries was delivered.

        Args:
            pending: In order of their ids, without a gap, as `read_pending` gave them.
        """
        if not pending:
            return {}
        first, last = pending[0].entry_id, pending[-1].entry_id
        with translated():
            found: Reply = self._redis.xpending_range(
                self.stream, GROUP, first, last, len(pending), consumername=self._name
            )
        return {text_of(one["message_id"]): one["times_delivered"] for one in found}

    def set_deliveries(self, entry_ids: Sequence[str], deliveries: int) -> None:
        """Write down how often own pending entries were delivered."""
        with translated():
            self._redis.xclaim(
                self.stream,
                GROUP,
                self._name,
                0,
                cast("Any", list(entry_ids)),
                retrycount=deliveries,
                justid=True,
            )

    def ack_and_delete(self, entry_ids: Sequence[str]) -> None:
        """Acknowledge and delete entries in one atomic step; call it after the commit only.

        A Redis without free memory queues nothing inside MULTI, not even what frees memory (seen
        with 6.2.14: nothing drained any more). Then the two commands go one after the other; a
        crash between them leaves entries that the janitor clears up.
        """
        if not entry_ids:
            return
        try:
            self._ack_and_delete(entry_ids, is_atomic=True)
        except QueueFull:
            self._ack_and_delete(entry_ids, is_atomic=False)

    def _ack_and_delete(self, entry_ids: Sequence[str], *, is_atomic: bool) -> None:
        with translated(), self._redis.pipeline(transaction=is_atomic) as pipe:
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
