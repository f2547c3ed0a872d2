"""What a search asks for (pure).

Here: filters with their checks, and the parameters they become. Not here: where a page starts
(`search/cursor.py`), running a search (`search/hot.py`), options (`cli/events.py`).
Guarantee: every filter reaches PostgreSQL as a parameter; numbers keep their text.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from audit_platform.errors import InvalidQuery
from audit_platform.events.event import EventStatus
from audit_platform.events.json_path import parse_path

MAX_LIMIT: Final = 10_000
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RELATIVE: Final = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
TEXT_FILTERS: Final = ("user_id", "entity_type", "entity_id", "source", "action", "correlation_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Key of the last event of a page; the next page holds what is strictly older."""

    timestamp: datetime
    tenant_id: str
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Filters of one search; all of them must match, absent ones are None.

    Attributes:
        since: Aware, inclusive.
        until: Aware, exclusive.
        tenant_id: None asks for every tenant, which operators may.
        action: Exact, or a prefix when it ends in `*`.
        text: Found in action, description or entity label, upper and lower case alike.
        metadata: Path to value; the value is compared as JSON and as text.
        limit: Events of one page.
        after: Where the page starts; None is the newest event.
        period: How `since` and `until` were written, when they may be relative: a cursor is bound
            to the words, and carries the moments they meant on the first page.
    """

    since: datetime | None = None
    until: datetime | None = None
    tenant_id: str | None = None
    user_id: str | None = None
    entity_type: str | None = None
    entity_id: str | None = None
    action: str | None = None
    status: str | None = None
    source: str | None = None
    correlation_id: str | None = None
    text: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    limit: int = 50
    after: Position | None = None
    period: tuple[str | None, str | None] | None = None

    def __post_init__(self) -> None:
        """Refuse what no event can match.

        Raises:
            InvalidQuery: Names the filter and the remedy.
        """
        for name in ("since", "until"):
            moment: datetime | None = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise InvalidQuery(f"{name} has no time zone; append Z or an offset such as +02:00")
        if self.since and self.until and self.since >= self.until:
            raise InvalidQuery("since is not before until; swap or widen them")
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidQuery(f"limit is {self.limit}; use 1 to {MAX_LIMIT:,}, and pages for more")
        if self.status is not None and self.status not in frozenset(EventStatus):
            raise InvalidQuery(f"status {self.status!r} is not one of: {', '.join(EventStatus)}")
        for name in ("tenant_id", "text", *TEXT_FILTERS):
            _check_text(name, getattr(self, name))
        for path, value in self.metadata.items():
            metadata_filter(path, value)


def parse_moment(text: str, *, now: datetime, option: str) -> datetime:
    """Read ISO 8601 with a zone, a date (UTC), `now`, or a distance into the past: 90s, 2h, 7d.

    Raises:
        InvalidQuery: None of these; names the option.
    """
    relative = _RELATIVE.fullmatch(text.strip())
    try:
        if text.strip() == "now":
            return now
        if relative:
            return now - timedelta(**{_UNITS[relative[2]]: int(relative[1])})
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise InvalidQuery(
            f"{option} {text[:40]!r} is no time; use 2026-01-31T12:00:00Z, 2026-01-31, 2h or 7d"
        ) from None
    if moment.tzinfo is None:
        if len(text.strip()) > len("2026-01-31"):
            raise InvalidQuery(f"{option} has no time zone; append Z or an offset such as +02:00")
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def parse_entity(text: str) -> tuple[str, str | None]:
    """Split `type:id`; `type` alone means all of a type. Ids may hold colons.

    Raises:
        InvalidQuery: The type or the id is empty.
    """
    entity_type, colon, entity_id = text.partition(":")
    # AWS types hold double colons: AWS::S3::Bucket:name.
    while entity_id.startswith(":"):
        more, colon, rest = entity_id[1:].partition(":")
        entity_type, entity_id = f"{entity_type}::{more}", rest
    if not entity_type or (colon and not entity_id):
        raise InvalidQuery("entity needs the form type:id, for example order:1042")
    return entity_type, entity_id or None


def parse_metadata(conditions: list[str]) -> dict[str, str]:
    """Read conditions of the form `path=value`.

    Raises:
        InvalidQuery: No equals sign, the path is wrong, or it stands twice.
    """
    found: dict[str, str] = {}
    for condition in conditions:
        path, equals, value = condition.partition("=")
        if not equals or not path:
            raise InvalidQuery(f"metadata condition {condition[:60]!r} needs the form path=value")
        if path in found:
            raise InvalidQuery(f"metadata path {path!r} stands twice; all conditions must match")
        metadata_filter(path, value)
        found[path] = value
    return found


def metadata_filter(path: str, value: str) -> dict[str, Any]:
    """One metadata condition as a strict SQL/JSON path with its values as variables.

    The value matches a JSON string of this text, and the JSON number, boolean or null it spells:
    `3600` finds `3600`, `3.6e3` and `"3600"`, `"3600"` in quotes finds the string only.

    Raises:
        InvalidQuery: The path is not in the notation of `events/json_path.py`.
    """
    try:
        steps = parse_path(path)
    except ValueError as exc:
        raise InvalidQuery(f"metadata {exc}") from None
    _check_text("metadata", value)
    accessors = "".join(
        f"[{step}]" if isinstance(step, int) else f".{json.dumps(step)}" for step in steps
    )
    if "\\u0000" in accessors or re.search(r"\\ud[89a-f]", accessors):
        raise InvalidQuery(
            "metadata path holds a character that PostgreSQL cannot store; remove it"
        )
    text, spelled = _spellings(value)
    return {
        "path": f"strict ${accessors} ? (@ == $text || @ == $spelled)",
        "text": text,
        "spelled": spelled,
    }


def parameters(query: EventQuery) -> dict[str, Any]:
    """Parameters of the statements in `search.sql` that do not depend on the window."""
    given: dict[str, Any] = {name: getattr(query, name) for name in TEXT_FILTERS}
    given |= {"status": query.status, "tenant_id": query.tenant_id, "limit": query.limit + 1}
    given["action_prefix"] = None
    if query.action is not None and query.action.endswith("*"):
        given |= {"action": None, "action_prefix": query.action[:-1]}
    given |= text_parameters(query.text)
    given["metadata_filters"] = _metadata_parameter(query.metadata)
    after = query.after
    given["after_timestamp"] = after.timestamp if after else None
    given["after_tenant"] = after.tenant_id if after else None
    given["after_id"] = after.event_id if after else None
    return given


def _check_text(name: str, value: str | None) -> None:
    if value is None:
        return
    if not value or value == "*":
        raise InvalidQuery(f"{name} is empty; leave the option out to match everything")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidQuery(f"{name} holds a character that no event can hold; remove it")


def _spellings(value: str) -> tuple[str, Any]:
    """The value as a string, and as the JSON scalar it spells (kept as text if it spells none)."""
    try:
        spelled: Any = json.loads(value, parse_float=JsonNumber, parse_int=JsonNumber)
    except (ValueError, RecursionError):
        return value, value
    if isinstance(spelled, str) and not isinstance(spelled, JsonNumber):
        return spelled, spelled
    return value, spelled if spelled is None or isinstance(spelled, bool | JsonNumber) else value


class JsonNumber(str):
    """Text of a JSON number; never a float, so that long numbers compare exactly."""

    __slots__ = ()


def _metadata_parameter(metadata: Mapping[str, str]) -> str | None:
    if not metadata:
        return None
    parts: list[str] = []
    for path, value in metadata.items():
        condition = metadata_filter(path, value)
        spelled = condition["spelled"]
        number = str(spelled) if isinstance(spelled, JsonNumber) else json.dumps(spelled)
        values = f'{{"text":{json.dumps(condition["text"])},"spelled":{number}}}'
        parts.append(f'{{"path":{json.dumps(condition["path"])},"values":{values}}}')
    return f"[{','.join(parts)}]"


def text_parameters(text: str | None) -> dict[str, str | None]:
    """Case folding of what `lower()` of a C locale leaves alone: letters beyond ASCII."""
    folded = "".join(_fold(character) for character in text or "")
    beyond = sorted({c for c in folded if not c.isascii() and len(c.upper()) == 1})
    beyond = [c for c in beyond if c.upper() != c]
    return {
        "text": folded if text else None,
        "fold_from": "".join(c.upper() for c in beyond),
        "fold_to": "".join(beyond),
    }


def _fold(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 else character
