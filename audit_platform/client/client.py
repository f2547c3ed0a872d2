"""AuditClient: `log()` for applications.

Here: the public calls and what they do when something is wrong. Not here: the bytes of an event
(`client/snapshot.py`), room and numbers (`client/buffer.py`), sending (`client/sender.py`),
process hooks (`client/process_hooks.py`).
Guarantees: no call for a `best_effort` or `standard` event raises because of its arguments, of
Redis or of a full buffer, and none waits for network or disk. A call for a `durable` event returns
when the event is on disk, and raises otherwise. Safe to use from threads, tasks, signal handlers'
successors and forked children.
"""

# Loaded here, not by the first connection: a fork while the sender thread imports it would leave
# the child with an import lock that nobody gives back (seen in a test, Python 3.11).
import encodings.idna  # noqa: F401  # pyright: ignore[reportUnusedImport]
import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Self, Unpack, cast

from audit_platform.client import process_hooks
from audit_platform.client.core import ClientCore
from audit_platform.client.fields import EventArguments, EventRecord
from audit_platform.client.frozen import freeze
from audit_platform.client.policies import open_book
from audit_platform.client.scope import Scope, current_scope, entered
from audit_platform.client.stats import ClientStats
from audit_platform.errors import AuditUnavailable, InvalidEvent
from audit_platform.events.policy import Durability, shard_of
from audit_platform.events.policy_rules import Decision
from audit_platform.settings import ClientSettings, load_client_settings

logger = logging.getLogger(__name__)


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
            InvalidPolicy: The policies file is missing or wrong.
        """
        self._settings = settings or load_client_settings()
        self._shards = self._settings.shards
        self._core = ClientCore(self._settings, open_book(self._settings.policies_file))
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
        """Log one event; returns at once, or, for a `durable` one, when it is on disk.

        A bad argument is counted in `stats().rejected` and logged once per kind.

        Args:
            action: What was done, in dotted or snake form: `user.suspend`.
            **arguments: See `EventArguments`.

        Raises:
            AuditUnavailable: The event is `durable` and the disk cannot take it.
            InvalidEvent: The event is `durable` and an argument is wrong.
        """
        self._log(self._core, action, cast("dict[str, object]", arguments))

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
        except (AuditUnavailable, InvalidEvent):
            raise
        except Exception as exc:  # noqa: BLE001 - a public call never raises; counted and logged
            core.reject(exc)

    def _log(self, core: ClientCore, action: object, arguments: dict[str, object]) -> None:
        durability = arguments.pop("durability", None)
        is_durable = durability is not None and durability == Durability.DURABLE
        try:
            if not core.is_started:
                core.start()
            scope = current_scope()
            decision = None
            if core.policies is not None:
                decision = core.snapshots.decide(core.policies, action, arguments, scope)
                if decision.omission is not None:
                    return
                if durability is None:
                    durability = decision.durability
                    is_durable = durability is Durability.DURABLE
            if durability is None:
                durability = Durability.STANDARD
            if is_durable or not self._keep_call(
                core, action, arguments, scope, decision, durability
            ):
                self._log_now(core, action, arguments, scope, decision, durability)
        except Exception as exc:
            if not isinstance(exc, AuditUnavailable):
                core.reject(exc)
            if is_durable:
                raise

    def _log_now(  # noqa: PLR0917 - keyword arguments cost time in every call
        self,
        core: ClientCore,
        action: object,
        arguments: dict[str, object],
        scope: Scope | None,
        decision: Decision | None,
        durability: object,
    ) -> None:
        """Make the event in the call; returns when it is in memory, or, if `durable`, on disk."""
        is_known = type(durability) is Durability
        if not is_known:
            # As text, or wrong: judged like every other argument.
            arguments["durability"] = durability
        tenant_id, found, payload = core.snapshots.snapshot(
            action, arguments, scope, decision=decision
        )
        durability = durability if is_known else found
        shard = shard_of(tenant_id, self._shards) if self._shards > 1 else 0
        if durability is Durability.DURABLE:
            core.put_durable(shard, payload)
        else:
            core.buffer.put(shard, payload, cast("Durability", durability))

    def _keep_call(  # noqa: PLR0917 - as above
        self,
        core: ClientCore,
        action: object,
        arguments: dict[str, object],
        scope: Scope | None,
        decision: Decision | None,
        durability: object,
    ) -> bool:
        """Copy the call for the sender; False when it has to become an event here."""
        if type(durability) is not Durability or (core.own_work_until_s and core.is_flooded()):
            return False
        shard = 0 if self._shards == 1 else self._shard_of_call(core, arguments, scope)
        call = None if shard is None else freeze(action, arguments, scope, decision)
        if shard is None or call is None:
            return False
        if not core.buffer.put_call(shard, call, durability):
            core.begin_flood()
            return False
        return True

    def _shard_of_call(
        self, core: ClientCore, arguments: Mapping[str, object], scope: Scope | None
    ) -> int | None:
        """Stream of a call that nobody has checked; None if its tenant is no plain text."""
        tenant_id = core.snapshots.tenant_of(arguments, scope)
        return shard_of(tenant_id, self._shards) if type(tenant_id) is str else None

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
            core.reject(exc)
            return parent or core.snapshots.root

    def flush(self, timeout_s: float = 5) -> bool:
        """Send without lingering and wait until all events logged so far are sent or dropped.

        Returns:
            False when the time ran out; the events stay buffered.
        """
        return self._core.buffer.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Send what is buffered and stop; later events are counted as dropped.

        What could not be sent waits on disk for the next process of this producer; only
        `best_effort` events, and all where there is no disk, are counted as dropped.

        Args:
            timeout_s: Longest wait; None takes `close_timeout_s` of the settings. Calling it again
                does nothing.
        """
        core = self._core
        limit_s = self._settings.close_timeout_s if timeout_s is None else timeout_s
        core.buffer.begin_close(limit_s)
        left = core.finish(limit_s)
        if left:
            logger.warning(
                "%d audit events were not sent within %g s: %s",
                left,
                limit_s,
                core.transport.last_error,
            )
        if spooled := core.buffer.counts().spooled:
            logger.warning(
                "%d audit events wait on disk: the next process of this producer sends them",
                spooled,
            )
        process_hooks.unregister(self)

    def stats(self) -> ClientStats:
        """Look at the counters; calls that still wait are judged first, which takes some ms."""
        core = self._core
        core.make_events()
        counts = core.buffer.counts()
        with core.reject_lock:
            rejected = dict(core.rejected)
        return ClientStats(
            accepted=counts.accepted,
            sent=counts.sent,
            buffered=counts.buffered,
            buffered_bytes=counts.buffered_bytes,
            spooled=counts.spooled,
            spool_bytes=core.disk.size_bytes,
            inherited=core.custodian.inherited,
            unconfirmed=core.custodian.unconfirmed,
            resent=core.custodian.resent,
            not_logged={} if core.policies is None else core.policies.counts.totals(),
            dropped=counts.dropped,
            rejected=rejected,
            retries=core.transport.retries,
            breaker=core.transport.breaker.state,
            level=core.custodian.confirmations.level,
            last_error=core.transport.last_error or core.disk.last_error,
        )

    def restart_after_fork(self) -> None:
        """Start afresh in a forked child; the parent sends what the parent buffered."""
        parent = self._core
        parent.disk.abandon_after_fork()
        policies = None if parent.policies is None else parent.policies.for_child()
        self._core = ClientCore(self._settings, policies)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
