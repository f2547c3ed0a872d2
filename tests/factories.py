"""Valid events by default; a test overrides the one field that it is about."""

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from audit_platform.events.event import format_timestamp, timestamp_us
from audit_platform.events.identity import TAIL_BITS, mint


def event(*, timestamp: datetime | None = None, **override: Any) -> dict[str, Any]:
    """Make one valid event as a wire dictionary with a fresh id; None removes a field."""
    moment = timestamp or datetime.now(UTC)
    made: dict[str, Any] = {
        "id": mint(timestamp_us(moment), secrets.randbits(TAIL_BITS)),
        "timestamp": format_timestamp(moment),
        "tenant_id": "acme",
        "source": "admin",
        "action": "user.suspend",
        "actor_type": "user",
        "entity_type": "user",
        "entity_id": "42",
        "user_id": "7",
        "changes": {"active": {"old": True, "new": False}},
        "metadata": {"plan": "pro", "seats": 12},
        "context": {"ip": "192.0.2.7", "request_id": "r-1"},
    }
    made.update(override)
    return {name: value for name, value in made.items() if value is not None}


def wire(made: Mapping[str, Any]) -> bytes:
    """Write an event as one line of compact JSON."""
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()
