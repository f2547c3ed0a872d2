"""Event identity: UUIDv7 minted from the event's own timestamp (pure).

Here: building and reading ids. Not here: randomness, which callers pass in, and validation of
foreign ids, which `events/frame.py` does for whole batches.
Guarantee: the 48-bit time of an id equals the event's `timestamp` in milliseconds, so that all
copies of an id fall into one partition.

Source: RFC 9562, section 5.7 (layout); delivery design, section "Identity".
"""

import hashlib

TAIL_BITS = 74
_TAIL_B_BITS = 62
_TAIL_B_MASK = (1 << _TAIL_B_BITS) - 1
_VARIANT = 0b10 << _TAIL_B_BITS
MAX_TIMESTAMP_MS = (1 << 48) - 1


def uuid7(timestamp_ms: int, tail74: int) -> str:
    """Build the text of a UUIDv7.

    Args:
        timestamp_ms: Milliseconds since 1970, 0 to 2^48 - 1.
        tail74: 74 bits, random or from a digest; the first 12 fill `rand_a`, 62 fill `rand_b`.

    Returns:
        Lower-case hexadecimal with dashes.

    Raises:
        ValueError: The time lies before 1970 or beyond 48 bits.
    """
    return with_tail(time_part(timestamp_ms), tail74)


def time_part(timestamp_ms: int) -> str:
    """Text of a UUIDv7 up to its version: what all ids of one millisecond share.

    Raises:
        ValueError: The time lies before 1970 or beyond 48 bits.
    """
    if not 0 <= timestamp_ms <= MAX_TIMESTAMP_MS:
        message = f"timestamp {timestamp_ms} ms does not fit the 48 bits of a UUIDv7"
        raise ValueError(message)
    return f"{timestamp_ms >> 16:08x}-{timestamp_ms & 0xFFFF:04x}-7"


def with_tail(time_text: str, tail74: int) -> str:
    """Complete the text that `time_part` gave."""
    bits = (tail74 >> _TAIL_B_BITS) << 64 | _VARIANT | (tail74 & _TAIL_B_MASK)
    text = f"{bits:019x}"
    return f"{time_text}{text[:3]}-{text[3:7]}-{text[7:]}"


def mint(timestamp_us: int, tail74: int) -> str:
    """Build the id of an event from its own timestamp in microseconds and 74 random bits."""
    return uuid7(timestamp_us // 1000, tail74)


def from_external(timestamp_ms: int, *, tenant_id: str, source: str, external_id: str) -> str:
    """Map an id of another system to a UUIDv7; the same input always gives the same id.

    The tail is the first 74 bits of SHA-256 over tenant, source and external id, separated by
    the unit separator 0x1F so that no two triples share their bytes.

    Raises:
        ValueError: The time lies before 1970 or beyond 48 bits.
    """
    material = f"{tenant_id}\x1f{source}\x1f{external_id}".encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(material).digest()
    return uuid7(timestamp_ms, int.from_bytes(digest[:10], "big") >> 6)


def uuid7_ms(event_id: str) -> int:
    """Read the milliseconds since 1970 from the text of a UUIDv7."""
    return int(event_id.replace("-", "")[:12], 16)
