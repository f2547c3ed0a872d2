"""Flat records of the demo's older programs, and the JSON they send (pure).

Here: a record with its own id, and its two spellings: column names, and the camelCase names of
a program that was never changed. Not here: content (`traffic_catalogue.py`), sending.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from audit_platform.events.event import format_timestamp, timestamp_us
from audit_platform.events.identity import TAIL_BITS, from_external, mint
from audit_platform.local.traffic.catalogue import Request, Step

LEGACY_SOURCE: Final = "legacy-crm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One event of a program that does not use the SDK; `external_no` set: it sends no id."""

    id: str
    timestamp: datetime
    request: Request
    step: Step
    external_no: str | None = None


def records_of(rng: Random, request: Request, start: datetime) -> Iterator[Record]:
    """Give each step of a request its own time and id."""
    for step in request.steps:
        moment = start + timedelta(microseconds=step.offset_us)
        yield Record(
            id=mint(timestamp_us(moment), rng.getrandbits(TAIL_BITS)),
            timestamp=moment,
            request=request,
            step=step,
        )


def without_id(record: Record, external_no: str) -> Record:
    """Let a record carry the number of its own system instead of an id.

    Its `id` is then the one the platform must derive, which the history needs.
    """
    derived = from_external(
        timestamp_us(record.timestamp) // 1000,
        tenant_id=record.request.tenant_id,
        source=LEGACY_SOURCE,
        external_id=external_no,
    )
    return replace(record, id=derived, external_no=external_no)


def to_legacy(record: Record) -> dict[str, Any]:
    """Spell a record as the legacy application does: camelCase, `details`, its own numbers."""
    entity_type, entity_id = record.step.entity
    context = {"ip": record.request.ip, "app": "crm-classic", "app_version": "3.9"}
    fields: dict[str, Any] = {
        "id": record.id,
        "createdAt": format_timestamp(record.timestamp),
        "tenantId": record.request.tenant_id,
        "source": LEGACY_SOURCE,
        "actionType": record.step.action,
        "status": record.step.status,
        "entityType": entity_type,
        "entityId": entity_id,
        "entityLabel": record.step.entity_label,
        "actorType": record.request.actor_type,
        "userId": record.request.user_id,
        "userLabel": record.request.user_label,
        "details": dict(record.step.metadata),
        "context": context,
    }
    if record.external_no is not None:
        del fields["id"]
        context["external_id"] = record.external_no
    return fields


def to_columns(record: Record) -> dict[str, Any]:
    """Spell a record in column names, as a forwarder of files does."""
    entity_type, entity_id = record.step.entity
    fields = {
        "id": record.id,
        "timestamp": format_timestamp(record.timestamp),
        "tenant_id": record.request.tenant_id,
        "source": "forwarder",
        "action": record.step.action,
        "status": record.step.status,
        "entity_type": entity_type,
        "entity_id": entity_id,
        "user_id": record.request.user_id,
        "description": record.step.description,
        "changes": record.step.changes,
        "metadata": dict(record.step.metadata),
        "correlation_id": record.request.correlation_id,
    }
    return {name: value for name, value in fields.items() if value is not None}


def to_json(fields: Mapping[str, Any]) -> bytes:
    """Write compact UTF-8 JSON on one line."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
