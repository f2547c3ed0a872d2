"""Filter over keys of a file: what it certainly does not hold, so that it stays closed (pure).

Here: keys, building a filter in bounded memory, its JSON form, asking it. Not here: which keys of
an event go in (`archive/columns.py`), which files a search asks about (`search/cold.py`).
Guarantee: a key that was added is always found. A key that was not is found by chance in at most
1 % of the cases, once in 16 million where there are few; a filter that would have to be larger
than `MAX_BITS` holds anything, and says so.

Keys are kept as their CRC-32, so that a manifest, which outlives the rows, names nobody. Few keys
stay a set. More become a Bloom filter with 4 probes, built at its largest size: folding it in half
(position modulo half the size) gives exactly the filter that would have been built at that size,
so the number of keys need not be known before, nor repeated keys be remembered.

A stronger hash would cost more than all else that an export computes here: 0.7 us per key against
0.1 us (2026-11-23). Somebody who chooses ids whose CRC agree gains that a file is opened in vain.

Source: Bloom, Space/Time Trade-offs in Hash Coding, 1970; double hashing, Kirsch and
Mitzenmacher, Less Hashing, Same Performance, 2006.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from audit_platform.archive.json_fields import Fields
from audit_platform.errors import ArchiveDamaged

MAX_SET: Final = 256
"""Up to so many keys the filter is a set of digests: 1 KiB."""
MAX_BITS: Final = 1 << 25
"""4 MiB: enough for 3.1 million keys, more than a file of 128 MiB has rows."""
MAX_FALSE_POSITIVES: Final = 0.01
_MIN_BITS: Final = 1 << 10
_PROBES: Final = 4
_DIGEST_BYTES: Final = 4
# Odd, so that no two digests give one product; its upper half has nothing of their order left.
_SPREAD: Final = 0x9E3779B97F4A7C15
_HALF: Final = 0xFFFFFFFF
_BIT: Final = tuple(1 << number for number in range(8))
_SEPARATOR: Final = "\x00"


class FilterKind(StrEnum):
    """How a filter keeps its keys."""

    SET = "set"
    BLOOM = "bloom"
    ANYTHING = "anything"


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchFilter:
    """What a file may hold; ask with `might_contain`.

    Attributes:
        digests: Of a set, else empty.
        bits: Of a Bloom filter: a power of two of bits, lowest bit of the first byte first.
    """

    kind: FilterKind
    digests: frozenset[int] = frozenset()
    bits: bytes = b""

    def might_contain(self, *parts: str) -> bool:
        """Whether a key may have been added; False is certain.

        Args:
            parts: As in `match_key`.
        """
        if self.kind is FilterKind.ANYTHING:
            return True
        digest = _digest(match_key(*parts))
        if self.kind is FilterKind.SET:
            return digest in self.digests
        step, last = _step(digest), len(self.bits) * 8 - 1
        places = ((digest + probe * step) & last for probe in range(_PROBES))
        return all(self.bits[place >> 3] & _BIT[place & 7] for place in places)

    def to_json(self) -> dict[str, Any]:
        """The filter as an object of a manifest."""
        match self.kind:
            case FilterKind.SET:
                keys = [f"{digest:08x}" for digest in sorted(self.digests)]
                return {"kind": self.kind.value, "keys": keys}
            case FilterKind.BLOOM:
                return {
                    "kind": self.kind.value,
                    "bits": base64.b64encode(self.bits).decode("ascii"),
                }
            case FilterKind.ANYTHING:
                return {"kind": self.kind.value}

    @classmethod
    def from_json(cls, value: object) -> "MatchFilter":
        """Read what `to_json` gave.

        Raises:
            ArchiveDamaged: It is of another form.
        """
        fields = Fields(value, where="filter")
        kind = fields.text("kind")
        match kind:
            case FilterKind.SET:
                digests = frozenset(_parse_digest(key) for key in fields.items("keys"))
                made = cls(kind=FilterKind.SET, digests=digests)
            case FilterKind.BLOOM:
                made = cls(kind=FilterKind.BLOOM, bits=_parse_bits(fields.text("bits")))
            case FilterKind.ANYTHING:
                made = cls(kind=FilterKind.ANYTHING)
            case _:
                raise _damaged(f"its kind is {kind[:20]!a}")
        fields.refuse_others()
        return made


class MatchFilterBuilder:
    """Collects keys; takes at most 4 MiB, however many there are."""

    def __init__(self) -> None:
        """Start without keys."""
        self._digests: set[int] = set()
        self._bits: bytearray | None = None

    def add(self, keys: Iterable[bytes]) -> None:
        """Add keys made by `match_key`; a repeated key costs time and changes nothing."""
        digests = map(_digest, keys)
        if self._bits is None:
            for digest in digests:
                self._digests.add(digest)
                if len(self._digests) > MAX_SET:
                    self._bits = bytearray(MAX_BITS >> 3)
                    _mark(self._bits, self._digests)
                    self._digests = set()
                    break
        if self._bits is not None:
            _mark(self._bits, digests)

    def build(self) -> MatchFilter:
        """Make the filter, as small as `MAX_FALSE_POSITIVES` allows."""
        if self._bits is None:
            return MatchFilter(kind=FilterKind.SET, digests=frozenset(self._digests))
        bits = int.from_bytes(self._bits, "little")
        size = MAX_BITS
        if _false_positives(bits, size) > MAX_FALSE_POSITIVES:
            return MatchFilter(kind=FilterKind.ANYTHING)
        while size > _MIN_BITS:
            half = size >> 1
            folded = (bits >> half) | (bits & ((1 << half) - 1))
            if _false_positives(folded, half) > MAX_FALSE_POSITIVES:
                break
            bits, size = folded, half
        return MatchFilter(kind=FilterKind.BLOOM, bits=bits.to_bytes(size >> 3, "little"))


def match_key(*parts: str) -> bytes:
    """Join the parts of a key: `tenant`, `tenant, user`, `tenant, entity type, entity id`.

    No two keys share their bytes: no column holds a NUL, which stands between the parts.
    """
    return _SEPARATOR.join(parts).encode()


_digest = zlib.crc32


def _step(digest: int) -> int:
    """How far the probes of a key lie apart; odd, so that they differ at any power of two."""
    return (digest * _SPREAD >> 32 & _HALF) | 1


def _mark(bits: bytearray, digests: Iterable[int]) -> None:
    last, bit = MAX_BITS - 1, _BIT
    for digest in digests:
        step = _step(digest)
        # Four probes without a loop: half of the time of this function.
        place = digest & last
        bits[place >> 3] |= bit[place & 7]
        place = (place + step) & last
        bits[place >> 3] |= bit[place & 7]
        place = (place + step) & last
        bits[place >> 3] |= bit[place & 7]
        place = (place + step) & last
        bits[place >> 3] |= bit[place & 7]


def _false_positives(bits: int, size: int) -> float:
    """Chance that a key which was not added meets set bits only, as the filter really is filled."""
    return (bits.bit_count() / size) ** _PROBES


def _parse_digest(value: object) -> int:
    if isinstance(value, str) and len(value) == 2 * _DIGEST_BYTES:
        try:
            return int.from_bytes(bytes.fromhex(value), "big")
        except ValueError:
            pass
    raise _damaged("a key is not 8 hexadecimal digits")


def _parse_bits(text: str) -> bytes:
    try:
        bits = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _damaged("its bits are not base64") from None
    size = len(bits) * 8
    if not _MIN_BITS <= size <= MAX_BITS or size & (size - 1):
        raise _damaged(f"it has {size} bits")
    return bits


def _damaged(what: str) -> ArchiveDamaged:
    return ArchiveDamaged(
        f"filter: {what}; take the manifest from the second copy, or use the release that wrote it"
    )
