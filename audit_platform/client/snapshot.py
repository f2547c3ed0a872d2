"""Arguments of one call → bytes of one event: checked, redacted, fixed (pure but for the clock).

Here: the order of the steps. Not here: single arguments (`client/fields.py`), JSON and its limits
(`client/payload.py`), secrets (`privacy/redact.py`), numbering and room (`client/buffer.py`).
Guarantee: what is returned holds no reference to the caller's objects, so that changing them later
changes nothing; `events/event.to_wire` gives equal JSON for the same event.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

from audit_platform.client import fields
from audit_platform.client.draft import SETTERS, Draft
from audit_platform.client.moments import Moments
from audit_platform.client.payload import field_json, to_payload
from audit_platform.client.policies import PolicyBook
from audit_platform.client.scope import INHERITED_FIELDS, Scope
from audit_platform.errors import InvalidEvent
from audit_platform.events import identity
from audit_platform.events.event import JSON_FIELDS, TEXT_LIMITS, ActorType, check_text
from audit_platform.events.policy import Durability
from audit_platform.events.policy_rules import Decision
from audit_platform.privacy.patterns import SHORTEST_SECRET, redact_text
from audit_platform.privacy.redact import Redactor
from audit_platform.privacy.redact_fields import FieldRedaction

_NO_REDACTION: Final = frozenset({"tenant_id"})
"""A tenant decides who may read: replacing a part of it would move the event."""

_PLAIN_JSON: Final = frozenset(JSON_FIELDS) - {"context"}
"""JSON fields that nothing is merged with."""

_NEVER_EMPTY: Final = frozenset({"action", "source", "tenant_id"})
"""An empty text in any other field counts as not given: forms and headers are often empty."""


class Snapshot(NamedTuple):
    """One event ready for the buffer; a tuple, since one is made per call."""

    tenant_id: str
    durability: Durability
    payload: bytes


# As `Snapshot(...)`, without the call in Python that a named tuple makes of it.
_snapshot: Final[Callable[[type[Snapshot], tuple[str, Durability, bytes]], Snapshot]] = cast(
    "Any", tuple.__new__
)


class Snapshots:
    """Turns arguments into events with the defaults of one client; safe to share."""

    def __init__(
        self,
        *,
        tenant_id: str,
        source: str,
        context: Mapping[str, object],
        redactor: Redactor,
        tail74: Callable[[], int],
        max_event_bytes: int,
    ) -> None:
        """Take what every event of a client has in common.

        Args:
            tenant_id, source: Of events that name none.
            context: Where the client runs; under every event's own context.
            redactor: Takes secrets out.
            tail74: Gives 74 random bits.
            max_event_bytes: Largest event in wire form.
        """
        self._redactor, self._tail74, self._max_event_bytes = redactor, tail74, max_event_bytes
        self._moments = Moments()
        self._base: dict[str, object] = {
            "id": "",
            "timestamp": "",
            "tenant_id": tenant_id,
            "source": source,
            "action": "",
            "actor_type": ActorType.USER.value,
        }
        self.root = Scope(
            fields={}, context=context, context_json=field_json("context", dict(context))
        )

    def tenant_of(self, arguments: Mapping[str, object], scope: Scope | None) -> object:
        """Tenant that a call will get, before anything is checked."""
        tenant_id = arguments.get("tenant_id")
        return tenant_id or (scope.fields if scope else self._base).get(
            "tenant_id", self._base["tenant_id"]
        )

    def decide(
        self, book: PolicyBook, action: object, arguments: Mapping[str, object], scope: Scope | None
    ) -> Decision:
        """What the policies say of a call, before anything of it is checked or numbered."""
        inherited = scope.fields if scope else self._base
        get = arguments.get
        return book.decide(
            get("source") or inherited.get("source") or self._base["source"],
            action,
            get("correlation_id") or inherited.get("correlation_id"),
        )

    def snapshot(
        self,
        action: object,
        arguments: Mapping[str, object],
        scope: Scope | None,
        *,
        now_us: int | None = None,
        decision: Decision | None = None,
    ) -> Snapshot:
        """Fix one event.

        Args:
            action, arguments: Of `log()`.
            scope: Of the call; None outside of any.
            now_us: When the call came; None: now.
            decision: Of the policies; None: there are none.

        Raises:
            InvalidEvent: Names the argument, the problem and the remedy.
        """
        scope = scope or self.root
        draft = Draft({**self._base, **scope.fields})
        record = draft.record
        if decision is not None:
            draft.set_defaults(decision)
        self._set_text(draft, "action", action)
        for name, value in arguments.items():
            # The frequent cases in line: a short text, as `_is_short` says, and a plain mapping.
            kind = type(value)
            is_plain = False
            if kind is str:
                is_plain = 0 < len(cast("str", value)) < SHORTEST_SECRET and name in TEXT_LIMITS
            elif kind is dict and name in _PLAIN_JSON:
                look = self._redactor.look(value, field=name)
                is_plain = look.is_clean
                draft.is_plain = draft.is_plain and look.is_plain
            if is_plain:
                record[name] = value
            elif value is not None:
                self._set(draft, name, value)
        self._identify(draft, now_us)
        redaction = None if decision is None else decision.redaction
        context_json = _context_json(draft, scope, redaction)
        if redaction is not None:
            redaction.apply(record)
            draft.is_plain = False
        payload = to_payload(
            record, context_json, max_bytes=self._max_event_bytes, is_plain=draft.is_plain
        )
        return _snapshot(Snapshot, (cast("str", record["tenant_id"]), draft.durability, payload))

    def scope(self, parent: Scope | None, names: Mapping[str, object]) -> Scope:
        """Check and redact what a `with context(...)` block adds, once for all its events.

        Raises:
            InvalidEvent: Names the argument, the problem and the remedy.
        """
        parent = parent or self.root
        draft = Draft(dict(parent.fields))
        context = dict(parent.context)
        for name, value in names.items():
            if name not in INHERITED_FIELDS:
                context[name] = value
            elif value is not None:
                self._set(draft, name, value)
        context_json = field_json("context", self._clean("context", context))
        redacted = cast("dict[str, object]", json.loads(context_json))
        return Scope(fields=draft.record, context=redacted, context_json=context_json)

    def _set(self, draft: Draft, name: str, value: object) -> None:
        if name == "entity":
            self._set_entity(draft, value)
        elif name in TEXT_LIMITS:
            self._set_text(draft, name, value)
        elif name in JSON_FIELDS:
            self._set_json(draft, name, value)
        elif name in SETTERS:
            SETTERS[name](draft, value)
        else:
            raise InvalidEvent(
                field="unexpected",
                problem=f"is the unknown argument {name[:40]!r}",
                remedy="put further values into metadata or context",
            )

    def _set_entity(self, draft: Draft, value: object) -> None:
        entity_type, entity_id = fields.entity_parts(value)
        if _is_short(entity_type) and _is_short(entity_id):
            draft.record["entity_type"], draft.record["entity_id"] = entity_type, entity_id
        else:
            self._set_text(draft, "entity_type", entity_type)
            self._set_text(draft, "entity_id", entity_id)

    def _set_text(self, draft: Draft, name: str, value: object) -> None:
        if name in fields.ID_FIELDS:
            value = fields.id_text(value)
        if type(value) is not str or len(value) > TEXT_LIMITS[name] or not value:
            value = _checked_text(name, value)
            if not value:
                return
        if (
            len(value) >= SHORTEST_SECRET
            and name not in _NO_REDACTION
            and not self._redactor.is_clean_text(value)
        ):
            # The replacement may be longer than the secret, and the column is not.
            value = redact_text(value)[: TEXT_LIMITS[name]]
        draft.record[name] = value

    def _set_json(self, draft: Draft, name: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise fields.wrong_type(name, 'pass a mapping, for example {"plan": "pro"}', value)
        cleaned = self._clean(name, cast("object", value))
        if name == "context":
            draft.context = cleaned
        else:
            draft.is_plain = False
            draft.record[name] = cleaned

    def _clean(self, name: str, value: object) -> object:
        """Take secrets out; a value that may hold one is copied first, then judged in peace."""
        if self._redactor.is_clean(value, field=name):
            return value
        return self._redactor.redact(json.loads(field_json(name, value)), field=name)

    def _identify(self, draft: Draft, now_us: int | None) -> None:
        """Give the event its time and the id that belongs to this time."""
        timestamp_us, record = draft.timestamp_us, draft.record
        if timestamp_us is None:
            timestamp_us = time.time_ns() // 1000 if now_us is None else now_us
            if draft.event_id is not None:
                timestamp_us = identity.uuid7_ms(draft.event_id) * 1000
        try:
            id_begin, text_begin = self._moments.parts(timestamp_us)
            if draft.event_id is not None:
                _check_id_time(draft.event_id, timestamp_us)
                record["id"] = draft.event_id
            elif draft.external_id is not None:
                record["id"] = identity.from_external(
                    timestamp_us // 1000,
                    tenant_id=cast("str", record["tenant_id"]),
                    source=cast("str", record["source"]),
                    external_id=draft.external_id,
                )
            else:
                record["id"] = identity.with_tail(id_begin, self._tail74())
            record["timestamp"] = f"{text_begin}{timestamp_us % 1_000:03d}Z"
        except (ValueError, OverflowError, OSError) as exc:
            raise InvalidEvent(
                field="timestamp", problem="is out of range", remedy="pass the time of the event"
            ) from exc
        if draft.external_id is not None:
            own = cast("Mapping[str, object]", draft.context or {})
            draft.context = self._clean("context", {**own, "external_id": draft.external_id})


def _is_short(value: object) -> bool:
    """Whether a text is shorter than any limit and than any secret."""
    return type(value) is str and 0 < len(value) < SHORTEST_SECRET


def _context_json(draft: Draft, scope: Scope, redaction: FieldRedaction | None) -> str:
    """Context of the event over that of its scope."""
    is_redacted = redaction is not None and redaction.touches("context")
    if draft.context is None and not is_redacted:
        return scope.context_json
    own = cast("Mapping[str, object]", draft.context or {})
    context: object = {**scope.context, **own}
    if redaction is not None and is_redacted:
        context = redaction.without("context", context)
    return field_json("context", context)


def _checked_text(name: str, value: object) -> str:
    check_text(name, value, TEXT_LIMITS[name])
    if not value and name in _NEVER_EMPTY:
        raise InvalidEvent(field=name, problem="is empty", remedy="pass a non-empty text")
    return str(value)


def _check_id_time(event_id: str, timestamp_us: int) -> None:
    if identity.uuid7_ms(event_id) != timestamp_us // 1000:
        raise InvalidEvent(
            field="id",
            problem="holds another time than timestamp",
            remedy="make both from the same millisecond, or leave the id out",
        )
