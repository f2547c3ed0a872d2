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
import time
from collections import Counter
from pathlib import PurePath
from threading import Lock
from typing import Final, cast

from audit_platform.client.buffer import Buffer
from audit_platform.client.control_events import ControlEvents
from audit_platform.client.custodian import Custodian
from audit_platform.client.declarations import Declarations
from audit_platform.client.disk import Disk
from audit_platform.client.frozen import FrozenCall, thaw
from audit_platform.client.policies import PolicyBook
from audit_platform.client.sender import Sender
from audit_platform.client.snapshot import Snapshots
from audit_platform.client.transport import Transport
from audit_platform.errors import AuditUnavailable, InvalidEvent
from audit_platform.events.event import MAX_EVENT_BYTES
from audit_platform.events.identity import TAIL_BITS
from audit_platform.events.policy import Durability, batch_policy
from audit_platform.events.stream import Appender
from audit_platform.privacy.redact import Redactor
from audit_platform.settings import ClientSettings

logger = logging.getLogger(__name__)

_EPOCH_BITS: Final = 63
# After too many calls waited, those that log make their events themselves for so long: copying a
# call first is a tenth of the work, for nothing.
OWN_WORK_S: Final = 0.25


def producer_id_of(name: str, slot: int) -> int:
    """Number a producer: 31 bits of SHA-256 over its name and process slot."""
    digest = hashlib.sha256(f"{name}\x1f{slot}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class ClientCore:
    """Everything that must not be shared with a parent process."""

    def __init__(self, settings: ClientSettings, policies: PolicyBook | None) -> None:
        self.policies = policies
        name = settings.producer_name or _default_name()
        self.buffer = Buffer(
            shards=settings.shards,
            max_events=settings.buffer_events,
            max_bytes=settings.buffer_bytes,
            new_epoch=_new_epoch,
        )
        self.disk = Disk(
            settings.spool_dir or settings.data_dir / "spool",
            name,
            max_bytes=settings.spool_max_bytes,
            retain_s=settings.spool_retain_s,
            epochs=self.buffer.epochs,
            numbers=lambda: self.buffer.numbers,
            note_with=self.buffer.note_with,
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
        control = ControlEvents(
            name=name,
            tenant_id=settings.tenant_id,
            tail74=lambda: tails.getrandbits(TAIL_BITS),
            now_us=lambda: time.time_ns() // 1000,
        )
        declarations = Declarations(
            buffer=self.buffer,
            control=control,
            counts=None if policies is None else policies.counts,
            producer_id=lambda: producer_id_of(name, self.disk.slot_number),
        )
        self.custodian = Custodian(
            buffer=self.buffer,
            disk=self.disk,
            control=control,
            declarations=declarations,
            tenant_id=settings.tenant_id,
            shards=settings.shards,
            window_bytes=settings.resend_window_bytes,
            resend_after_s=settings.resend_after_s,
            producer_id_of=lambda slot: producer_id_of(name, slot),
            new_epoch=_new_epoch,
        )
        self.transport = Transport(lambda timeout_ms: _connect(settings, timeout_ms))
        self.sender = Sender(
            buffer=self.buffer,
            policy=batch_policy(
                settings.batch_preset,
                size=settings.batch_size,
                interval_ms=settings.batch_interval_ms,
            ),
            custodian=self.custodian,
            transport=self.transport,
            make_events=self.make_events,
        )
        self._durable_timeout_s = settings.durable_timeout_s
        self.is_started = False
        """Whether the sending thread runs; a plain attribute for the fast path of `log()`."""
        self.own_work_until_s = 0.0
        """Until then, monotonic, the threads that log make their events themselves; 0: no flood."""
        self.rejected: Counter[str] = Counter()
        self.reject_lock = Lock()

    def start(self) -> None:
        """Open the disk and start the sending thread, with the first event."""
        self.disk.open()
        self.sender.ensure_started()
        self.is_started = self.sender.is_started

    def begin_flood(self) -> None:
        """Let the threads that log make their events themselves for a while."""
        self.own_work_until_s = time.monotonic() + OWN_WORK_S

    def is_flooded(self) -> bool:
        """Whether the threads that log still make their events themselves."""
        if time.monotonic() < self.own_work_until_s:
            return True
        self.own_work_until_s = 0.0
        return False

    def put_durable(self, shard: int, payload: bytes) -> None:
        """Take one event; returns when it is on disk.

        Raises:
            AuditUnavailable: The disk cannot take it, or the client is closed.
        """
        record = self.buffer.put(shard, payload, Durability.DURABLE)
        if record is None:
            raise AuditUnavailable(
                "durable event not accepted: the client is closed. Make another."
            )
        try:
            self.disk.commit(self.buffer.epochs[shard], record, timeout_s=self._durable_timeout_s)
        except AuditUnavailable:
            self.buffer.lose(shard, record)
            raise
        self.buffer.is_on_disk(shard, record)

    def finish(self, timeout_s: float) -> int:
        """End the sending after `begin_close`; returns the number of events given up."""
        has_ended = self.sender.finish(timeout_s)
        self.make_events()
        if not has_ended:
            self.buffer.reclaim()
        self.custodian.spill()
        left = self.buffer.abandon()
        if has_ended:
            self.custodian.leave()
        return left

    def make_events(self) -> None:
        """Make events of the calls that wait, in the order they came; safe from any thread."""
        taken = self.buffer.take_frozen()
        if taken:
            self.buffer.settle(
                [(lane, record, self._payload_of(record.payload)) for lane, record in taken]
            )

    def _payload_of(self, call: object) -> bytes | None:
        if type(call) is not tuple:
            return None  # shed meanwhile
        _, scope, now_us, decision = frozen = cast("FrozenCall", call)
        try:
            action, arguments = thaw(frozen)
            return self.snapshots.snapshot(
                action, arguments, scope, now_us=now_us, decision=decision
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


def _connect(settings: ClientSettings, timeout_ms: int | None) -> Appender:
    longest_ms = settings.redis_timeout_ms
    return Appender(
        settings.redis_url.get_secret_value(),
        key_prefix=settings.key_prefix,
        timeout_ms=min(timeout_ms or longest_ms, longest_ms),
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
