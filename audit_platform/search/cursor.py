"""Where the next page of a search starts, signed (pure).

Here: making a cursor and checking one. Not here: filters (`search/query.py`).
Guarantee: a cursor works with the filters it was made for only, for a day; a changed byte is
noticed. Source: security design, S26.
"""

import base64
import binascii
import hashlib
import hmac
import json
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from audit_platform.errors import InvalidQuery
from audit_platform.events.event import timestamp_us
from audit_platform.search.query import EARLIEST, TEXT_FILTERS, EventQuery, Position

CURSOR_LIFETIME: Final = timedelta(hours=24)
_CURSOR_VERSION: Final = 1
_MAC_BYTES: Final = 16


def sign_cursor(query: EventQuery, position: Position, *, key: bytes, now: datetime) -> str:
    """Make the cursor of the page after a position, for the filters of this query."""
    content = [
        _CURSOR_VERSION,
        int((now + CURSOR_LIFETIME).timestamp()),
        timestamp_us(position.timestamp),
        position.tenant_id,
        position.event_id,
        *(moment and timestamp_us(moment) for moment in (query.since, query.until)),
    ]
    payload = json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_mac(payload, query, key) + payload).decode().rstrip("=")


def resume(query: EventQuery, cursor: str, *, key: bytes, now: datetime) -> EventQuery:
    """Check a cursor against the filters it is used with, and go on where its page ended.

    Returns:
        The query with the position, and with the moments that its period meant on the first page.

    Raises:
        InvalidQuery: Forged, damaged, made for other filters, or older than a day.
    """
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidQuery("the cursor is damaged; copy it whole, or search without it") from None
    mac, payload = data[:_MAC_BYTES], data[_MAC_BYTES:]
    canonical = base64.urlsafe_b64encode(data).decode().rstrip("=")
    if canonical != cursor or not hmac.compare_digest(mac, _mac(payload, query, key)):
        raise InvalidQuery(
            "the cursor belongs to another search or was changed; repeat its filters exactly"
        )
    _, expires_s, microseconds, tenant_id, event_id, since_us, until_us = json.loads(payload)
    if now.timestamp() > expires_s:
        raise InvalidQuery("the cursor is older than a day; search again without it")
    position = Position(
        timestamp=_moment(microseconds), tenant_id=tenant_id, event_id=str(uuid.UUID(event_id))
    )
    since = None if since_us is None else _moment(since_us)
    until = None if until_us is None else _moment(until_us)
    return replace(query, after=position, since=since, until=until)


def _moment(microseconds: int) -> datetime:
    return EARLIEST + timedelta(microseconds=microseconds)


def fingerprint(query: EventQuery) -> bytes:
    """Digest of the filters; limit and position are no filters."""
    names = ("tenant_id", "status", "text", *TEXT_FILTERS)
    moments = [moment and timestamp_us(moment) for moment in (query.since, query.until)]
    filters = [
        query.period or moments,
        [getattr(query, name) for name in names],
        sorted(query.metadata.items()),
    ]
    return hashlib.sha256(json.dumps(filters).encode()).digest()


def _mac(payload: bytes, query: EventQuery, key: bytes) -> bytes:
    signed = b"audit-platform cursor\x00" + fingerprint(query) + payload
    return hmac.digest(key, signed, "sha256")[:_MAC_BYTES]
