"""Arguments of `log()`: names, types, and how each becomes a value of the wire form (pure).

Here: one function per kind of argument. Not here: JSON, redaction and the order of steps
(`client/snapshot.py`); limits of text, which `events/event.py` owns.
"""

import os
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Final, TypedDict, cast
from uuid import UUID

from audit_platform.errors import InvalidEvent
from audit_platform.events import event
from audit_platform.events.event import ActorType, EventStatus
from audit_platform.events.policy import Durability


class EventArguments(TypedDict, total=False):
    """Everything an event may say beside its action."""

    entity: tuple[str, str | int | UUID] | None
    """Type and id of what was acted on."""
    entity_label: str | None
    user_id: str | int | UUID | None
    user_label: str | None
    impersonator_id: str | int | UUID | None
    actor_type: ActorType | str | None
    status: EventStatus | str | None
    description: str | None
    changes: Mapping[str, object] | None
    """`{field: {"old": …, "new": …}}`"""
    metadata: Mapping[str, object] | None
    context: Mapping[str, object] | None
    """Merged over what the client and `context()` know."""
    tenant_id: str | None
    source: str | None
    timestamp: datetime | str | None
    """Aware, or ISO 8601 with an offset; default: now, or the time in `id`."""
    id: str | UUID | None
    """UUIDv7 of the same millisecond as `timestamp`, for calls that may be repeated."""
    external_id: str | None
    """Id in another system; with the same timestamp it always gives the same event id."""
    severity: int | None
    """0 (debug) to 5 (critical)."""
    correlation_id: str | int | UUID | None
    trace_id: str | None
    durability: Durability | str | None


class EventRecord(EventArguments):
    """One event of `log_many()`: the arguments of `log()` with the action among them."""

    action: str


ID_FIELDS: Final = frozenset({"user_id", "impersonator_id", "correlation_id"})
_STATUSES: Final = frozenset(EventStatus)
_ACTOR_TYPES: Final = frozenset(ActorType)
_DURABILITIES: Final[Mapping[object, Durability]] = {item.value: item for item in Durability}
_ENTITY_PARTS: Final = 2


def wrong_type(field: str, remedy: str, value: object) -> InvalidEvent:
    """Describe a value of a type that its field does not take."""
    return InvalidEvent(field=field, problem=f"is {type(value).__name__}", remedy=remedy)


def id_text(value: object) -> object:
    """Write numbers and UUIDs as text, since ids are text; anything else is checked as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return str(value) if isinstance(value, UUID) else value


def entity_parts(value: object) -> tuple[object, object]:
    """Split an entity into type and id.

    Raises:
        InvalidEvent: Not a pair.
    """
    given: object = value
    pair = cast("tuple[object, ...]", value) if isinstance(value, tuple | list) else ()
    if len(pair) != _ENTITY_PARTS:
        raise wrong_type("entity", 'pass a pair, for example entity=("user", "42")', given)
    return pair[0], id_text(pair[1])


def status_text(value: object) -> str:
    """Check an outcome.

    Raises:
        InvalidEvent: Not one of `EventStatus`.
    """
    return _member("status", value, _STATUSES)


def actor_type_text(value: object) -> str:
    """Check a kind of actor.

    Raises:
        InvalidEvent: Not one of `ActorType`.
    """
    return _member("actor_type", value, _ACTOR_TYPES)


def _member(
    field: str, value: object, allowed: frozenset[EventStatus] | frozenset[ActorType]
) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise InvalidEvent(
            field=field,
            problem="is not a known value",
            remedy=f"pass one of {', '.join(sorted(allowed))}",
        )
    return str(value)


def severity_level(value: object) -> int:
    """Check a severity.

    Raises:
        InvalidEvent: Not a whole number from 0 to 5.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value in event.SEVERITY_RANGE:
        return int(value)
    raise InvalidEvent(
        field="severity", problem="is not a known level", remedy="pass 0 (debug) to 5 (critical)"
    )


def durability_class(value: object) -> Durability:
    """Check a durability class.

    Raises:
        InvalidEvent: Not one of `Durability`.
    """
    found = _DURABILITIES.get(value) if isinstance(value, str) else None
    if found is None:
        remedy = f"pass one of {', '.join(Durability)}"
        raise InvalidEvent(field="durability", problem="is not a known class", remedy=remedy)
    return found


def moment_us(value: object) -> int:
    """Read a timestamp as microseconds since 1970.

    Raises:
        InvalidEvent: No aware time.
    """
    remedy = "pass an aware datetime, for example datetime.now(UTC)"
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidEvent(
                field="timestamp", problem="is no ISO 8601 time", remedy=remedy
            ) from None
    if not isinstance(value, datetime):
        raise wrong_type("timestamp", remedy, value)
    if value.tzinfo is None:
        raise InvalidEvent(field="timestamp", problem="has no time zone", remedy=remedy)
    microseconds = event.timestamp_us(value.astimezone(UTC))
    if microseconds < 0:
        raise InvalidEvent(field="timestamp", problem="lies before 1970", remedy=remedy)
    return microseconds


def event_id(value: object) -> str:
    """Read an event id in canonical form.

    Raises:
        InvalidEvent: No UUIDv7.
    """
    try:
        found = UUID(str(value))
    except ValueError:
        found = None
    if found is None or found.version != 7:  # noqa: PLR2004 - UUIDv7
        raise InvalidEvent(
            field="id",
            problem="is no UUIDv7",
            remedy="leave it out, or use external_id for foreign ids",
        )
    return str(found)


def plain(value: object) -> object:
    """Turn what JSON does not know, but applications log, into what it knows.

    Raises:
        TypeError: The encoder asked for something else; the message names the type.
    """
    convert = _PLAIN.get(type(value))
    if convert is not None:
        return convert(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    if isinstance(value, AbstractSet):
        return list(cast("AbstractSet[object]", value))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    message = f"holds {type(value).__name__}, which JSON does not know"
    raise TypeError(message)


_PLAIN: Final[Mapping[type, Callable[[object], object]]] = {
    datetime: lambda value: cast("datetime", value).isoformat(),
    date: lambda value: cast("date", value).isoformat(),
    time: lambda value: cast("time", value).isoformat(),
    UUID: str,
    # As text, since a JSON number would pass through binary floating point.
    Decimal: str,
}
