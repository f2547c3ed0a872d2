"""Acts into the log: the stream takes the event, or the act does not go on.

Here: the way of an act's event into the stream. Not here: its form (`events/act_event.py`) and the
acts.
Guarantee: when `record` returns, Redis has the event; the ingest job stores it like any other.

The caller records inside the transaction of the act, last before the commit: without the event
nothing was done. Only a commit that fails after it leaves the event of an act that did not happen;
the other order could leave an act that nobody knows of.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from audit_platform.events.act_event import Act, act_event
from audit_platform.events.identity import TAIL_BITS
from audit_platform.events.policy import shard_of
from audit_platform.events.stream import Appender
from audit_platform.settings import Settings


class ActLog:
    """Appends acts as events of the platform's own tenant."""

    def __init__(self, appender: Appender, *, tenant_id: str, shards: int) -> None:
        """Take the stream.

        Args:
            appender: To the stream.
            tenant_id: Of the platform's own events.
            shards: Number of streams.
        """
        self._appender, self._tenant_id, self._shards = appender, tenant_id, shards

    def record(self, act: Act, *, now: datetime, tail74: int | None = None) -> None:
        """Put the event of an act into the stream.

        Args:
            act: What is done.
            now: Aware; of a repeatable act, always the same moment.
            tail74: `repeatable_tail(…)`; None for random bits: each call is an act of its own.

        Raises:
            QueueError: Redis did not take it; the act must not go on.
        """
        tail = secrets.randbits(TAIL_BITS) if tail74 is None else tail74
        event = act_event(act, tenant_id=self._tenant_id, now=now, tail74=tail)
        self._appender.append_event(shard_of(self._tenant_id, self._shards), event)


@contextmanager
def opened_act_log(settings: Settings) -> Iterator[ActLog]:
    """Connect to the stream, and see at once whether it answers.

    Raises:
        QueueUnavailable: Redis does not answer.
    """
    with Appender(
        settings.redis_url.get_secret_value(),
        key_prefix=settings.key_prefix,
        timeout_ms=settings.redis_timeout_ms,
    ) as appender:
        appender.ping()
        yield ActLog(appender, tenant_id=settings.tenant_id, shards=settings.shards)
