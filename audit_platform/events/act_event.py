"""What operators and maintenance do, as events of the log itself (pure).

Here: one event per act, source `audit`. Not here: events of producers about themselves
(`client/control_events.py`), sending (`events/act_log.py`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from audit_platform.events.event import ActorType, AuditEvent, timestamp_us, to_wire
from audit_platform.events.identity import TAIL_BITS, mint

SOURCE: Final = "audit"
_LONGEST_ACTOR: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act.

    Attributes:
        action: For example `audit.dead_letter.redrive`.
        actor: Who acts; characters that no column takes are replaced.
        actor_type: `admin` for an operator, `system` for a scheduled job.
        entity_type: Kind of thing acted on: dead_letter, partition, legal_hold, …
        entity_id: Which one; None for several.
        description: One sentence, in our own words.
        metadata: Numbers and short texts, no payload.
    """

    action: str
    actor: str
    actor_type: ActorType
    entity_type: str
    entity_id: str | None
    description: str
    metadata: Mapping[str, object]


def act_event(act: Act, *, tenant_id: str, now: datetime, tail74: int) -> bytes:
    """Write an act in wire form.

    Args:
        act: What was done.
        tenant_id: Tenant that the platform's own events belong to.
        now: Aware.
        tail74: 74 random bits; those of `repeatable_tail` where a repeat must give the same event.
    """
    event = AuditEvent(
        id=mint(timestamp_us(now), tail74),
        timestamp=now,
        tenant_id=tenant_id,
        source=SOURCE,
        action=act.action,
        actor_type=act.actor_type,
        user_id=_plain(act.actor)[:_LONGEST_ACTOR],
        entity_type=act.entity_type,
        entity_id=act.entity_id,
        description=act.description,
        metadata=json.dumps(act.metadata, separators=(",", ":")),
    )
    return to_wire(event)


def repeatable_tail(*parts: str) -> int:
    """Derive the 74 bits of an id from what the act is about: an act repeated is one event."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest, "big") >> (len(digest) * 8 - TAIL_BITS)


def _plain(text: str) -> str:
    return text.replace("\0", "").encode(errors="replace").decode() or "unknown"
