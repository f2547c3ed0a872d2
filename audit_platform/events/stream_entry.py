"""One entry of a stream, and how Redis answers with many of them.

Here: turning replies into entries. Not here: the commands (`events/stream.py`) and what the fields
of an entry mean (`events/lines.py`).
Guarantee: every entry of a reply comes out once, in its order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from audit_platform.events.redis_edge import Reply


class StreamEntry(NamedTuple):
    """One entry as read; empty `fields` mean it is pending but was deleted."""

    entry_id: str
    fields: Mapping[bytes, bytes]

    @property
    def added_ms(self) -> int:
        """Milliseconds since 1970 at which Redis took the entry, by the server's clock."""
        return int(self.entry_id.partition("-")[0])

    @property
    def size_bytes(self) -> int:
        """Bytes of all values."""
        return sum(map(len, self.fields.values()))


def as_received(reply: Reply, **_options: object) -> Reply:
    """Leave a reply as it came: the library's way to entries takes three times as long as ours."""
    return reply


def entries_of_group(reply: Reply) -> list[StreamEntry]:
    """Read the reply of XREADGROUP for one stream; a mapping in RESP3 and a list in RESP2."""
    if not reply:
        return []
    return _entries(next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1])


def entries_of_claim(reply: Reply) -> list[StreamEntry]:
    """Read the reply of XAUTOCLAIM; what was deleted meanwhile has no id there and is left out."""
    return _entries([pair for pair in reply[1] if pair is not None])


def _entries(pairs: Sequence[Any]) -> list[StreamEntry]:
    """Make entries of ids and flat lists of names and values; without a list it was deleted."""
    return [StreamEntry(entry_id.decode(), _fields(flat)) for entry_id, flat in pairs]


def _fields(flat: list[bytes] | None) -> dict[bytes, bytes]:
    if not flat:
        return {}
    if len(flat) == 2:  # noqa: PLR2004 - one field, as an entry of one event has
        return {flat[0]: flat[1]}
    return dict(zip(flat[::2], flat[1::2], strict=True))
