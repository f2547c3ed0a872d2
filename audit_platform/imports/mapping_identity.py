"""The id of a foreign record's event (pure).

Here: which id a record brings along, and what it becomes. Not here: the layout of ids
(`events/identity.py`).
Guarantee: the same record always gives the same id, so that an import can be repeated.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from audit_platform.events.event import timestamp_us
from audit_platform.events.identity import from_external, uuid7_ms
from audit_platform.events.json_path import RawObject, decode_text, parse_path
from audit_platform.imports.mapping_rules import Mapping

EXTERNAL_ID: Final = "external_id"
_ABSENT: Final = (None, b"null", b'""')
_UUID_VERSION: Final = 7


def identify(
    record: RawObject,
    context: dict[str, bytes],
    mapping: Mapping,
    *,
    moment: datetime,
    tenant_id: str,
    source: str,
    fallback_id: str,
) -> str:
    """Take the record's own UUIDv7, or derive the id from its external id.

    Args:
        record: A native id is removed from it.
        context: Takes a native id that is no UUIDv7 of this very time, as the external id.
        mapping: Names the paths.
        moment: Time of the event.
        tenant_id: Part of the derivation.
        source: Part of the derivation.
        fallback_id: External id of a record that has none.
    """
    timestamp_ms = timestamp_us(moment) // 1_000
    for text in mapping.native_id:
        raw = record.get(parse_path(text))
        if raw is None or raw in _ABSENT:
            continue
        native = _own_id(decode_text(raw), timestamp_ms)
        if native is None and EXTERNAL_ID in context:
            continue
        record.remove(parse_path(text))
        if native is not None:
            return native
        context[EXTERNAL_ID] = raw
    external = None if mapping.identity else context.get(EXTERNAL_ID)
    external_id = fallback_id if external is None else decode_text(external) or external.decode()
    return from_external(timestamp_ms, tenant_id=tenant_id, source=source, external_id=external_id)


def joined_id(original: RawObject, paths: Sequence[str]) -> str | None:
    """Texts of several paths as one id; None if the record has none of them."""
    found = [original.get(parse_path(text)) for text in paths]
    texts = [decode_text(raw) or raw.decode() for raw in found if raw is not None]
    return "/".join(texts) or None


def _own_id(text: str | None, timestamp_ms: int) -> str | None:
    """The id in canonical form, if it is a UUIDv7 of this very time."""
    try:
        value = uuid.UUID(text or "")
    except ValueError:
        return None
    canonical = str(value)
    is_own = value.version == _UUID_VERSION and uuid7_ms(canonical) == timestamp_ms
    return canonical if is_own else None
