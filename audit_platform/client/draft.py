"""An event being put together, and the arguments that are neither text nor JSON.

Here: the table from argument to setter. Not here: checks of values (`client/fields.py`), text,
JSON and the order of steps (`client/snapshot.py`).
"""

from collections.abc import Callable, Mapping
from typing import Final, cast

from audit_platform.client import fields
from audit_platform.events.event import EventStatus, check_text
from audit_platform.events.policy import Durability
from audit_platform.events.policy_rules import Decision


class Draft:
    """An event being put together."""

    __slots__ = (
        *("context", "durability", "event_id", "external_id", "is_plain", "record"),
        "timestamp_us",
    )

    def __init__(self, record: dict[str, object]) -> None:
        self.record = record
        self.durability = Durability.STANDARD
        self.event_id: str | None = None
        self.external_id: str | None = None
        self.timestamp_us: int | None = None
        self.context: object = None
        self.is_plain = True
        """Whether its JSON fields hold exact built-in types alone."""

    def set_defaults(self, decision: Decision) -> None:
        """Set what the call's own arguments may still replace, and the rate, which none can."""
        if decision.durability is not None:
            self.durability = decision.durability
        if decision.severity is not None:
            self.record["severity"] = decision.severity
        if decision.sampled_rate > 1:
            self.record["sampled_rate"] = decision.sampled_rate


Setter = Callable[[Draft, object], None]


def _set_external_id(draft: Draft, value: object) -> None:
    check_text("external_id", value, 200)
    # Empty means not given, as in every other optional text.
    draft.external_id = cast("str", value) or None


def _put(name: str, convert: Callable[[object], object]) -> Setter:
    def set_value(draft: Draft, value: object) -> None:
        draft.record[name] = convert(value)

    return set_value


def _set_status(draft: Draft, value: object) -> None:
    status = fields.status_text(value)
    if status != EventStatus.SUCCESS:
        draft.record["status"] = status


def _set_attribute(name: str, convert: Callable[[object], object]) -> Setter:
    def set_value(draft: Draft, value: object) -> None:
        setattr(draft, name, convert(value))

    return set_value


SETTERS: Final[Mapping[str, Setter]] = {
    "status": _set_status,
    "actor_type": _put("actor_type", fields.actor_type_text),
    "severity": _put("severity", fields.severity_level),
    "durability": _set_attribute("durability", fields.durability_class),
    "timestamp": _set_attribute("timestamp_us", fields.moment_us),
    "id": _set_attribute("event_id", fields.event_id),
    "external_id": _set_external_id,
}
