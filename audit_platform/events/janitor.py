"""Redis leftovers of one shard, cleared away: what a crash left behind and nobody else looks at.

Here: a missing group, entries that were acknowledged but not deleted, fields of producers that have
been silent for days, pending entries whose events Redis has lost. Not here: Dagster's own storage
(`jobs/dagster_storage.py`), when this runs (`schedules.py`).
Guarantee: an entry that is pending or was never delivered is not removed. What is removed was
acknowledged, and that happens only after the commit of its events.

Source: delivery design, section 6 (group at 0, no MAXLEN) and section 9, row 10 (XTRIM MINID).
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from audit_platform.events.redis_edge import (
    Edge,
    Reply,
    id_order,
    none_without_stream,
    stream_key,
    text_of,
    translated,
    watermark_key,
)
from audit_platform.events.stream import GROUP, create_group

SILENT_MS: Final = 7 * 86_400_000
"""A producer silent for so long has closed; if not, its next batch publishes its field again."""
_PRODUCER_FIELD: Final = re.compile(r"\d+:\d+")
_FIELDS_AT_ONCE: Final = 500
_MOST_LOST: Final = 10_000
_LAST_SEQUENCE: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCare:
    """What was found and done in one shard.

    Attributes:
        was_group_made: Whether the consumer group was missing.
        trimmed: Entries removed that were acknowledged but not deleted.
        pending: Entries that a drain has read and not acknowledged.
        redis_lost: Those of them whose events are gone from Redis, 10,000 at most; the next drain
            run counts and acknowledges them, and their producers send the events again.
        fields_removed: Fields of silent producers.
    """

    shard: int
    was_group_made: bool
    trimmed: int
    pending: int
    redis_lost: int
    fields_removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """The consumer group and its stream at one moment; ids as Redis gives them."""

    first_entry: str | None
    last_delivered: str
    first_pending: str | None
    pending: int


class Janitor(Edge):
    """The janitor's hands on the streams."""

    def __init__(self, url: str, *, key_prefix: str, timeout_ms: int = 10_000) -> None:
        """Connect lazily.

        Args:
            url: Redis URL of the janitor.
            key_prefix: First part of every key.
            timeout_ms: Longest wait for one reply.
        """
        super().__init__(url, key_prefix=key_prefix, timeout_ms=timeout_ms)

    def care_for(self, shard: int, *, now_ms: int) -> ShardCare:
        """Clear up one shard; a repeat finds nothing to do.

        Args:
            shard: Number of the stream.
            now_ms: Milliseconds since 1970.

        Raises:
            QueueUnavailable: No answer; what was not done is done the next time.
            QueueFull: Redis is out of memory and makes no group.
        """
        group = self._look(shard)
        if group is None:
            create_group(self._redis, stream_key(self._key_prefix, shard))
        return ShardCare(
            shard=shard,
            was_group_made=group is None,
            trimmed=self._trim(shard, group) if group else 0,
            pending=group.pending if group else 0,
            redis_lost=self._count_lost(shard, group) if group else 0,
            fields_removed=self._remove_silent(shard, now_ms),
        )

    def _look(self, shard: int) -> _Group | None:
        """Read stream and group in one command: between two, the group could be made anew."""
        key = stream_key(self._key_prefix, shard)
        info: Reply = none_without_stream(
            lambda: self._redis.execute_command("XINFO STREAM", key, "FULL", "COUNT", 1, full=True)
        )
        for group in info["groups"] if info else ():
            if text_of(group["name"]) == GROUP:
                first = next(iter(info["entries"] or ()), None)
                return _Group(
                    first_entry=None if first is None else text_of(first),
                    last_delivered=text_of(group["last-delivered-id"]),
                    first_pending=text_of(group["pending"][0][0]) if group["pending"] else None,
                    pending=int(group["pel-count"]),
                )
        return None

    def _trim(self, shard: int, group: _Group) -> int:
        bound = first_needed(group.first_pending, group.last_delivered)
        if group.first_entry is None or id_order(group.first_entry) >= id_order(bound):
            return 0
        key = stream_key(self._key_prefix, shard)
        with translated():
            return cast("int", self._redis.xtrim(key, minid=bound, approximate=False))

    def _count_lost(self, shard: int, group: _Group) -> int:
        """Count pending entries before the first that is there: the stream lost its beginning."""
        if not group.pending:
            return 0
        if group.first_entry is None:
            return group.pending
        key = stream_key(self._key_prefix, shard)
        with translated():
            found: Reply = self._redis.xpending_range(
                key, GROUP, min="-", max=f"({group.first_entry}", count=_MOST_LOST
            )
        return len(found)

    def _remove_silent(self, shard: int, now_ms: int) -> int:
        key, removed = watermark_key(self._key_prefix, shard), 0
        fields = list(self._silent_fields(key, now_ms))
        for start in range(0, len(fields), _FIELDS_AT_ONCE):
            with translated():
                part = fields[start : start + _FIELDS_AT_ONCE]
                removed += cast("int", self._redis.hdel(key, *part))
        return removed

    def _silent_fields(self, key: str, now_ms: int) -> Iterator[str]:
        cursor = -1
        while cursor != 0:
            with translated():
                reply: Reply = self._redis.hscan(key, max(cursor, 0), count=_FIELDS_AT_ONCE)
            cursor, page = int(reply[0]), cast("dict[bytes, bytes]", reply[1])
            for name, value in page.items():
                field = text_of(name)
                if _PRODUCER_FIELD.fullmatch(field) and is_silent(value, now_ms):
                    yield field


def first_needed(first_pending: str | None, last_delivered: str) -> str:
    """Id of the first entry that may still be needed; every one below it was acknowledged (pure).

    Args:
        first_pending: Lowest id in the pending list, None when it is empty.
        last_delivered: Highest id that the group was given.
    """
    milliseconds, sequence = id_order(last_delivered)
    after = (milliseconds, sequence + 1) if sequence < _LAST_SEQUENCE else (milliseconds + 1, 0)
    first = after if first_pending is None else min(id_order(first_pending), after)
    return f"{first[0]}-{first[1]}"


def is_silent(value: bytes, now_ms: int) -> bool:
    """Say whether a field is so old that no producer reads it; an unreadable one is (pure)."""
    try:
        at_ms: Any = json.loads(value)["at_ms"]
        return now_ms - int(at_ms) > SILENT_MS
    except (ValueError, TypeError, KeyError):
        return True
