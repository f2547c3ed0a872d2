"""Everything of a client that must not be shared with a parent process: buffer, sender, events.

Here: making these parts, and making events of the calls that wait. Not here: the public calls
(`client/client.py`), the parts themselves.
"""

import hashlib
import logging
import random
import secrets
import socket
import sys
from collections import Counter
from pathlib import PurePath
from threading import Lock
from typing import Final

from audit_platform.client.buffer import Buffer
from audit_platform.client.frozen import Frozen
from audit_platform.client.sender import Sender
from audit_platform.client.snapshot import Snapshots
from audit_platform.errors import InvalidEvent
from audit_platform.events.event import MAX_EVENT_BYTES
from audit_platform.events.identity import TAIL_BITS
from audit_platform.events.policy import batch_policy
from audit_platform.events.stream import Appender
from audit_platform.privacy.redact import Redactor
from audit_platform.settings import ClientSettings

logger = logging.getLogger(__name__)

_EPOCH_BITS: Final = 63
# Calls that wait to become events, at most. Beyond it the sender does not keep up, and the
# threads that log make their events themselves, which slows them down to its pace.
MAX_WAITING_CALLS: Final = 256


def producer_id_of(name: str, slot: int) -> int:
    """Number a producer: 31 bits of SHA-256 over its name and process slot."""
    digest = hashlib.sha256(f"{name}\x1f{slot}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class ClientCore:
    """Everything that must not be shared with a parent process."""

    def __init__(self, settings: ClientSettings) -> None:
        self.buffer = Buffer(
            shards=settings.shards,
            max_events=settings.buffer_events,
            max_bytes=settings.buffer_bytes,
            new_epoch=_new_epoch,
        )
        self.sender = Sender(
            buffer=self.buffer,
            policy=batch_policy(
                settings.batch_preset,
                size=settings.batch_size,
                interval_ms=settings.batch_interval_ms,
            ),
            producer_id=producer_id_of(settings.producer_name or _default_name(), 0),
            connect=lambda: _connect(settings),
            make_events=self.make_events,
        )
        # An own generator: an application that seeds the global one must not repeat our ids.
        tails = random.Random(secrets.randbits(256))  # noqa: S311 - unique, not secret
        self.snapshots = Snapshots(
            tenant_id=settings.tenant_id,
            source=settings.source,
            context=_process_context(settings),
            redactor=Redactor(secret_keys=settings.redact_keys),
            tail74=lambda: tails.getrandbits(TAIL_BITS),
            max_event_bytes=MAX_EVENT_BYTES,
        )
        self.rejected: Counter[str] = Counter()
        self.reject_lock = Lock()

    def make_events(self) -> None:
        """Make events of the calls that wait, in the order they came; safe from any thread."""
        taken = self.buffer.take_frozen(MAX_WAITING_CALLS)
        if taken:
            self.buffer.settle(
                [(lane, record, self._payload_of(record.payload)) for lane, record in taken]
            )

    def _payload_of(self, call: object) -> bytes | None:
        if type(call) is not Frozen:
            return None  # shed meanwhile
        try:
            action, arguments = call.thaw()
            return self.snapshots.snapshot(
                action, arguments, call.scope, now_us=call.now_us
            ).payload
        except Exception as exc:  # noqa: BLE001 - as in the call itself; counted and logged
            self.reject(exc)
            return None

    def reject(self, exc: Exception) -> None:
        """Count a call that could not become an event; log the first of its kind."""
        kind = exc.field.partition(".")[0] if isinstance(exc, InvalidEvent) else "internal"
        with self.reject_lock:
            self.rejected[kind] += 1
            is_first = self.rejected[kind] == 1
        if is_first and isinstance(exc, InvalidEvent):
            logger.warning("audit event rejected: %s (further ones are only counted)", exc.message)
        elif is_first:
            logger.warning("audit event rejected by an unexpected error", exc_info=exc)


def _new_epoch() -> int:
    return secrets.randbits(_EPOCH_BITS) or 1


def _connect(settings: ClientSettings) -> Appender:
    return Appender(
        settings.redis_url.get_secret_value(),
        key_prefix=settings.key_prefix,
        timeout_ms=settings.redis_timeout_ms,
    )


def _default_name() -> str:
    program = PurePath(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return f"{program}@{socket.gethostname()}"


def _process_context(settings: ClientSettings) -> dict[str, object]:
    known = {
        "host": socket.gethostname(),
        "app": settings.app,
        "app_version": settings.app_version,
        "environment": settings.environment,
    }
    return {name: value for name, value in known.items() if value is not None}
