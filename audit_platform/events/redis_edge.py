"""What every edge to Redis shares: connections without hidden retries, keys, error classes.

Not here: commands (`events/stream.py` appends, reads and acknowledges; `events/backlog.py` looks).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from audit_platform.errors import GroupMissing, QueueError, QueueFull, QueueUnavailable

# What the library puts before the server's words when a command failed in a pipeline: without
# them MISCONF from XADD or HSET looked like a command that nobody knows (seen with a full disk).
_OF_PIPELINE: Final = re.compile(r"^Command # \d+ \(.*?\) of pipeline caused error: ", re.DOTALL)

Reply = Any
"""What redis-py returns; its own types join the synchronous and the asynchronous client."""


def stream_key(key_prefix: str, shard: int) -> str:
    """Key of one shard's stream; the braces keep a shard's keys on one node of a Redis Cluster."""
    return f"{key_prefix}:{{{shard}}}:events"


def watermark_key(key_prefix: str, shard: int) -> str:
    """Key of the hash by which a shard tells its producers what is stored."""
    return f"{key_prefix}:{{{shard}}}:wm"


class Edge:
    """A connection pool whose errors are ours; shared by the edges below."""

    def __init__(self, url: str, *, key_prefix: str, timeout_ms: int) -> None:
        """Connect lazily.

        Args:
            url: Redis URL with the user of the edge.
            key_prefix: First part of every key.
            timeout_ms: Longest wait for one reply.
        """
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
        with translated():
            self._redis.ping()

    def close(self) -> None:
        """Close all connections; calling it again does nothing."""
        self._redis.close()

    def __enter__(self) -> Self:
        """Use the edge for one block."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close all connections."""
        self.close()


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of the library into ours, once."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, OSError) as exc:
        raise QueueUnavailable from exc
    except redis.ResponseError as exc:
        text = _OF_PIPELINE.sub("", str(exc))
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


def text_of(value: bytes | str) -> str:
    """Text of a reply, whether or not the connection decodes."""
    return value.decode() if isinstance(value, bytes) else value


def id_order(entry_id: str) -> tuple[int, int]:
    """Order of entry ids, which is not that of their texts."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def none_without_stream(look: Callable[[], Reply]) -> Reply | None:
    """Run a command that looks at a stream; None when the stream does not exist."""
    with translated():
        try:
            return look()
        except redis.ResponseError as exc:
            if "no such key" not in str(exc):
                raise
            return None
