"""AuditClient: `log()` for applications.

Here: the public calls and what they do when something is wrong. Not here: the bytes of an event
(`client/snapshot.py`), room and numbers (`client/buffer.py`), sending (`client/sender.py`),
process hooks (`client/process_hooks.py`).
Guarantees: no public call raises because of its arguments, of Redis or of a full buffer; `log()`
waits for no network and no disk. Safe to use from threads, tasks, signal handlers' successors and
forked children.
"""

# Loaded here, not by the first connection: a fork while the sender thread imports it would leave
# the child with an import lock that nobody gives back (seen in a test, Python 3.11).
import encodings.idna  # noqa: F401  # pyright: ignore[reportUnusedImport]
import hashlib
import logging
import random
import secrets
import socket
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from threading import Lock
from typing import Any, Final, Self, Unpack, cast

from audit_platform.client import process_hooks
from audit_platform.client.buffer import Buffer
from audit_platform.client.fields import EventArguments, EventRecord
from audit_platform.client.scope import Scope, current_scope, entered
from audit_platform.client.sender import Sender
from audit_platform.client.snapshot import Snapshots
from audit_platform.client.stats import ClientStats
from audit_platform.errors import InvalidEvent
from audit_platform.events.event import MAX_EVENT_BYTES
from audit_platform.events.identity import TAIL_BITS
from audit_platform.events.policy import batch_policy, shard_of
from audit_platform.events.stream import Appender
from audit_platform.privacy.redact import Redactor
from audit_platform.settings import ClientSettings, load_client_settings

logger = logging.getLogger(__name__)

_EPOCH_BITS: Final = 63


def producer_id_of(name: str, slot: int) -> int:
    """Number a producer: 31 bits of SHA-256 over its name and process slot."""
    digest = hashlib.sha256(f"{name}\x1f{slot}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class _Core:
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


class AuditClient:
    """Logs events; make one per process and keep it.

    ```python
    audit = AuditClient.from_env()
    audit.log("user.suspend", entity=("user", "42"), user_id="7")
    ```
    """

    def __init__(
        self, settings: ClientSettings | None = None, *, handle_sigterm: bool = True
    ) -> None:
        """Make a client; it connects and starts its thread with the first event.

        Args:
            settings: Figures and addresses; None reads them from the environment.
            handle_sigterm: Drain on SIGTERM; only a client made in the main thread can.

        Raises:
            InvalidSetting: The environment holds a wrong value.
        """
        self._settings = settings or load_client_settings()
        self._shards = self._settings.shards
        self._core = _Core(self._settings)
        process_hooks.register(self, handle_sigterm=handle_sigterm)

    @classmethod
    def from_env(cls, *, handle_sigterm: bool = True, **overrides: Any) -> Self:
        """Make a client from AUDIT_ variables, `.env` and the running platform's settings.

        Args:
            handle_sigterm: Drain on SIGTERM.
            **overrides: Settings that win over the environment.

        Raises:
            InvalidSetting: Names the variable, the problem and the accepted range.
        """
        return cls(load_client_settings(**overrides), handle_sigterm=handle_sigterm)

    def log(self, action: str, **arguments: Unpack[EventArguments]) -> None:
        """Log one event; returns at once.

        A bad argument is counted in `stats().rejected` and logged once per kind.

        Args:
            action: What was done, in dotted or snake form: `user.suspend`.
            **arguments: See `EventArguments`.
        """
        self._log(self._core, action, cast("Mapping[str, object]", arguments))

    def log_many(self, events: Iterable[EventRecord]) -> None:
        """Log the events of a set-based change; each is accepted or rejected by itself.

        Args:
            events: Mappings with `action` and the arguments of `log()`.
        """
        core = self._core
        try:
            for event in events:
                arguments = dict(cast("Mapping[str, object]", event))
                self._log(core, arguments.pop("action", ""), arguments)
        except Exception as exc:  # noqa: BLE001 - a public call never raises; counted and logged
            self._reject(core, exc)

    def _log(self, core: _Core, action: object, arguments: Mapping[str, object]) -> None:
        try:
            tenant_id, durability, payload = core.snapshots.snapshot(
                action, arguments, current_scope()
            )
            shard = shard_of(tenant_id, self._shards) if self._shards > 1 else 0
            core.buffer.put(shard, payload, durability)
            if not core.sender.is_started:
                core.sender.ensure_started()
        except Exception as exc:  # noqa: BLE001 - a public call never raises; counted and logged
            self._reject(core, exc)

    @contextmanager
    def context(self, **values: object) -> Generator[None]:
        """Give every event logged inside the block these values; blocks nest, inner ones win.

        Follows contextvars: tasks and coroutines started inside inherit it.

        Args:
            **values: `user_id`, `tenant_id` and the other fields of `INHERITED_FIELDS`; any other
                name becomes a part of the event's context, such as `request_id`.
        """
        with entered(self._scope(values)):
            yield

    def _scope(self, values: Mapping[str, object]) -> Scope:
        core, parent = self._core, current_scope()
        try:
            return core.snapshots.scope(parent, values)
        except Exception as exc:  # noqa: BLE001 - a public call never raises; counted and logged
            self._reject(core, exc)
            return parent or core.snapshots.root

    def flush(self, timeout_s: float = 5) -> bool:
        """Send without lingering and wait until all events logged so far are sent or dropped.

        Returns:
            False when the time ran out; the events stay buffered.
        """
        return self._core.buffer.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Send what is buffered and stop; later events are counted as dropped.

        Args:
            timeout_s: Longest wait; None takes `close_timeout_s` of the settings. What could not
                be sent is counted as dropped. Calling it again does nothing.
        """
        core = self._core
        limit_s = self._settings.close_timeout_s if timeout_s is None else timeout_s
        core.buffer.begin_close(limit_s)
        core.sender.finish(limit_s)
        left = core.buffer.abandon()
        if left:
            logger.warning(
                "%d audit events were not sent within %g s: %s",
                left,
                limit_s,
                core.sender.last_error,
            )
        process_hooks.unregister(self)

    def stats(self) -> ClientStats:
        """Look at the counters; cheap enough for a health check."""
        core = self._core
        counts = core.buffer.counts()
        with core.reject_lock:
            rejected = dict(core.rejected)
        return ClientStats(
            accepted=counts.accepted,
            sent=counts.sent,
            buffered=counts.buffered,
            buffered_bytes=counts.buffered_bytes,
            dropped=counts.dropped,
            rejected=rejected,
            retries=core.sender.retries,
            breaker=core.sender.breaker_state,
            last_error=core.sender.last_error,
        )

    def restart_after_fork(self) -> None:
        """Start afresh in a forked child; the parent sends what the parent buffered."""
        self._core = _Core(self._settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _reject(self, core: _Core, exc: Exception) -> None:
        """Count a call that could not become an event; log the first of its kind."""
        kind = exc.field.partition(".")[0] if isinstance(exc, InvalidEvent) else "internal"
        with core.reject_lock:
            core.rejected[kind] += 1
            is_first = core.rejected[kind] == 1
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
