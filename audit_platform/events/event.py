"""AuditEvent: the fields of one event, their limits, and its wire form (pure).

Here: the contract of an event as producers see it. Not here: batches of events
(`events/frame.py`), foreign names (`events/normalise.py`, `imports/mapping.py`), storage.
Guarantee: what `to_wire` writes, the ingest job accepts; limits are those of the columns.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from audit_platform.errors import InvalidEvent

FieldKind = Literal["uuid", "timestamp", "text", "json", "enum", "int", "float"]

DEFAULT_TENANT: Final = "default"
SCHEMA_VERSION: Final = 1
MAX_EVENT_BYTES: Final = 65_536
SEVERITY_RANGE: Final = range(6)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class EventStatus(StrEnum):
    """Outcome of the action."""

    SUCCESS = "success"
    FAILURE = "failure"
    DENIED = "denied"
    SKIPPED = "skipped"
    PENDING = "pending"


class ActorType(StrEnum):
    """Kind of actor behind `user_id`."""

    USER = "user"
    ADMIN = "admin"
    SERVICE = "service"
    API_KEY = "api_key"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"
    BULK_ACTION = "bulk_action"


class FieldSpec(NamedTuple):
    """One field that a producer may set: column name, kind, longest text in characters."""

    name: str
    kind: FieldKind
    max_length: int | None = None
    required: bool = False


EVENT_FIELDS: Final = (
    FieldSpec("id", "uuid"),
    FieldSpec("timestamp", "timestamp"),
    FieldSpec("tenant_id", "text", 100),
    FieldSpec("source", "text", 64, required=True),
    FieldSpec("action", "text", 100, required=True),
    FieldSpec("status", "enum"),
    FieldSpec("entity_type", "text", 50),
    FieldSpec("entity_id", "text", 100),
    FieldSpec("entity_label", "text", 200),
    FieldSpec("actor_type", "enum"),
    FieldSpec("user_id", "text", 100),
    FieldSpec("user_label", "text", 200),
    FieldSpec("impersonator_id", "text", 100),
    FieldSpec("description", "text", 2_000),
    FieldSpec("changes", "json"),
    FieldSpec("metadata", "json"),
    FieldSpec("context", "json"),
    FieldSpec("correlation_id", "text", 100),
    FieldSpec("trace_id", "text", 32),
    FieldSpec("bulk_action_id", "uuid"),
    FieldSpec("bulk_item_no", "int"),
    FieldSpec("severity", "int"),
    FieldSpec("sampled_rate", "float"),
    FieldSpec("schema_version", "int"),
)
"""What a producer may send, in wire and canonical order; everything else is set on the way."""

JSON_FIELDS: Final = ("changes", "metadata", "context")
TEXT_LIMITS: Final[Mapping[str, int]] = {
    field.name: field.max_length for field in EVENT_FIELDS if field.max_length is not None
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """At this time, this actor did this action to this entity, for this tenant, with this outcome.

    JSON fields hold their compact JSON text, so that the bytes are fixed when the event is made.
    """

    id: str
    timestamp: datetime
    action: str
    tenant_id: str = DEFAULT_TENANT
    source: str = "user"
    status: EventStatus = EventStatus.SUCCESS
    entity_type: str | None = None
    entity_id: str | None = None
    entity_label: str | None = None
    actor_type: ActorType = ActorType.USER
    user_id: str | None = None
    user_label: str | None = None
    impersonator_id: str | None = None
    description: str | None = None
    changes: str | None = None
    metadata: str = "{}"
    context: str = "{}"
    correlation_id: str | None = None
    trace_id: str | None = None
    bulk_action_id: str | None = None
    bulk_item_no: int | None = None
    severity: int | None = None
    sampled_rate: float = 1.0
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Refuse what no column can hold.

        Raises:
            InvalidEvent: Names the field and the remedy.
        """
        if self.timestamp.tzinfo is None:
            raise InvalidEvent(
                field="timestamp",
                problem="has no time zone",
                remedy="pass an aware datetime, for example datetime.now(UTC)",
            )
        for name, limit in TEXT_LIMITS.items():
            check_text(name, getattr(self, name), limit)
        if not self.action or not self.source or not self.tenant_id:
            name = "action" if not self.action else "source" if not self.source else "tenant_id"
            raise InvalidEvent(field=name, problem="is empty", remedy="pass a non-empty text")
        if self.severity is not None and self.severity not in SEVERITY_RANGE:
            raise InvalidEvent(
                field="severity",
                problem=f"is {self.severity}",
                remedy="pass 0 (debug) to 5 (critical)",
            )


def check_text(name: str, value: object, limit: int) -> None:
    """Refuse a value that is no text, too long, or holds what PostgreSQL cannot store.

    Raises:
        InvalidEvent: Names the field and the remedy.
    """
    if value is None:
        return
    if not isinstance(value, str):
        raise InvalidEvent(
            field=name, problem=f"is {type(value).__name__}, not text", remedy="pass str(value)"
        )
    if len(value) > limit:
        raise InvalidEvent(
            field=name,
            problem=f"has {len(value)} characters",
            remedy=f"shorten it to {limit}, or put it into metadata",
        )
    if "\x00" in value:
        raise InvalidEvent(
            field=name,
            problem="holds a NUL character",
            remedy="remove it; PostgreSQL stores no NUL",
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidEvent(
                field=name, problem="holds a lone surrogate", remedy="decode the text correctly"
            ) from None


def timestamp_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exact."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def format_timestamp(moment: datetime) -> str:
    """Write an aware datetime in the canonical wire form, UTC with six digits and `Z`."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond:06d}Z"


_DEFAULTS: Final = {
    "status": EventStatus.SUCCESS,
    "metadata": "{}",
    "context": "{}",
    "sampled_rate": 1.0,
    "schema_version": SCHEMA_VERSION,
}
_encode_text = json.JSONEncoder(ensure_ascii=False).encode
_FIELD_NAMES: Final = tuple(spec.name for spec in EVENT_FIELDS)
assert set(_FIELD_NAMES) == {field.name for field in fields(AuditEvent)}  # noqa: S101 - one contract, stated twice


def to_wire(event: AuditEvent) -> bytes:
    """Write one event as compact UTF-8 JSON on one line.

    Returns:
        Keys are column names in `EVENT_FIELDS` order; nulls and defaults are left out; the text
        of JSON fields is taken over byte by byte.
    """
    parts: list[str] = []
    for name in _FIELD_NAMES:
        value = getattr(event, name)
        if value is None or _DEFAULTS.get(name) == value:
            continue
        if name in JSON_FIELDS:
            parts.append(f'"{name}":{value}')
        elif isinstance(value, datetime):
            parts.append(f'"{name}":"{format_timestamp(value)}"')
        elif isinstance(value, str):
            parts.append(f'"{name}":{_encode_text(value)}')
        else:
            parts.append(f'"{name}":{value!r}')
    return ("{" + ",".join(parts) + "}").encode()
