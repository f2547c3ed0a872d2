"""What operators do, as events of the log itself (pure).

Here: one event per act, source `audit`. Not here: events of producers about themselves
(`client/control_events.py`), sending.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from audit_platform.events.event import ActorType, AuditEvent, timestamp_us, to_wire
from audit_platform.events.identity import mint

SOURCE: Final = "audit"
_LONGEST_ACTOR: Final = 100


def act_event(
    action: str,
    *,
    actor: str,
    tenant_id: str,
    description: str,
    metadata: Mapping[str, object],
    now: datetime,
    tail74: int,
) -> bytes:
    """Write an act in wire form.

    Args:
        action: For example `audit.dead_letter.redrive`.
        actor: Who acts; characters that no column takes are replaced.
        tenant_id: Tenant that the platform's own events belong to.
        description: One sentence, in our own words.
        metadata: Numbers and short texts, no payload.
        now: Aware.
        tail74: 74 random bits.
    """
    event = AuditEvent(
        id=mint(timestamp_us(now), tail74),
        timestamp=now,
        tenant_id=tenant_id,
        source=SOURCE,
        action=action,
        actor_type=ActorType.ADMIN,
        user_id=_plain(actor)[:_LONGEST_ACTOR],
        entity_type="dead_letter",
        description=description,
        metadata=json.dumps(metadata, separators=(",", ":")),
    )
    return to_wire(event)


def _plain(text: str) -> str:
    return text.replace("\0", "").encode(errors="replace").decode() or "unknown"
