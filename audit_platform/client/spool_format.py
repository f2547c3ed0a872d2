"""Bytes of a spool segment: header and records, made and taken apart (pure).

Here: the format of the delivery design, section 3. Not here: files (`client/spool_segment.py`).
Guarantees: `scan` accepts any bytes without an error. A record counts only when its length is
possible, its checksum fits and its number is above the one before it.

All numbers are little-endian:

    header (32 bytes): magic "AUDSPL01" | epoch u64 | first_seq u64 | created_ms u64
    record: len u32 (of the payload) | crc32 u32 (of seq and payload) | seq u64 | payload
"""

from collections.abc import Sequence
from enum import StrEnum
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

MAGIC: Final = b"AUDSPL01"
HEADER_BYTES: Final = 32
RECORD_HEAD_BYTES: Final = 16
# An event has 64 KiB at most; a length beyond this one is no length.
MAX_PAYLOAD_BYTES: Final = 1 << 20
MAX_NUMBER: Final = (1 << 64) - 1

_HEADER: Final = Struct("<8sQQQ")
_RECORD_HEAD: Final = Struct("<IIQ")
_SEQ: Final = Struct("<Q")


class SpoolStream(StrEnum):
    """Why records are on disk; each stream of an epoch has its own segments."""

    DURABLE = "durable"
    SPILL = "spill"


class SpoolRecord(NamedTuple):
    """One numbered event."""

    seq: int
    payload: bytes


class SegmentHeader(NamedTuple):
    """What a segment says about itself."""

    epoch: int
    first_seq: int
    created_ms: int


class Packed(NamedTuple):
    """Records as bytes, and where each begins."""

    data: bytes
    offsets: list[int]


class Scan(NamedTuple):
    """What a piece of a segment holds.

    `found` are (seq, offset) pairs in ascending order, `end` is the first byte not looked at,
    `damaged` counts records that were skipped since good ones follow them. `is_torn`: nothing
    from `end` on can be trusted; otherwise a record begins there that is not wholly in the piece.
    """

    found: list[tuple[int, int]]
    end: int
    damaged: int
    is_torn: bool


def pack_header(header: SegmentHeader) -> bytes:
    """Make the first 32 bytes of a segment."""
    return _HEADER.pack(MAGIC, *header)


def unpack_header(data: bytes) -> SegmentHeader | None:
    """Read the first 32 bytes of a segment; None when they are none."""
    if len(data) < HEADER_BYTES:
        return None
    magic, epoch, first_seq, created_ms = _HEADER.unpack_from(data)
    return SegmentHeader(epoch, first_seq, created_ms) if magic == MAGIC else None


def pack_records(records: Sequence[SpoolRecord]) -> Packed:
    """Make the bytes of records.

    Raises:
        ValueError: Numbers do not ascend, or a payload is too large; the caller's mistake.
    """
    parts: list[bytes] = []
    offsets: list[int] = []
    offset, last_seq = 0, -1
    for seq, payload in records:
        if seq <= last_seq or len(payload) > MAX_PAYLOAD_BYTES:
            message = f"record {seq}: numbers must ascend, payloads have at most 1 MiB"
            raise ValueError(message)
        crc = crc32(payload, crc32(_SEQ.pack(seq)))
        parts += (_RECORD_HEAD.pack(len(payload), crc, seq), payload)
        offsets.append(offset)
        offset += RECORD_HEAD_BYTES + len(payload)
        last_seq = seq
    return Packed(b"".join(parts), offsets)


def unpack_record(data: bytes, offset: int) -> SpoolRecord:
    """Read a record that `scan` has found."""
    length, _, seq = _RECORD_HEAD.unpack_from(data, offset)
    begin = offset + RECORD_HEAD_BYTES
    return SpoolRecord(seq, data[begin : begin + length])


def scan(data: bytes, *, after_seq: int, is_last: bool, begin: int = 0) -> Scan:
    """Find the good records of a piece.

    A bad record is skipped when a good one follows right behind it: that is a damaged byte, not a
    torn tail, and what follows was acknowledged.

    Args:
        data: Piece of a segment; a record begins at `begin`.
        after_seq: Number of the record before; -1 for the first.
        is_last: Nothing follows this piece.
        begin: Where to begin.
    """
    view, end, pos, last_seq, damaged = memoryview(data), len(data), begin, after_seq, 0
    found: list[tuple[int, int]] = []
    unpack = _RECORD_HEAD.unpack_from
    while end - pos >= RECORD_HEAD_BYTES:
        length, crc, seq = unpack(data, pos)
        stop = pos + RECORD_HEAD_BYTES + length
        if length > MAX_PAYLOAD_BYTES:
            return Scan(found, pos, damaged, is_torn=True)
        if stop > end:
            break
        if seq > last_seq and crc32(view[pos + 8 : stop]) == crc:
            found.append((seq, pos))
            last_seq = seq
        elif _is_good(view, stop, last_seq):
            damaged += 1
        elif is_last or _is_whole(view, stop):
            return Scan(found, pos, damaged, is_torn=True)
        else:
            break
        pos = stop
    return Scan(found, pos, damaged, is_torn=is_last and pos < end)


def _is_whole(view: memoryview, pos: int) -> bool:
    """Tell whether the piece says all there is to say about a record."""
    if len(view) - pos < RECORD_HEAD_BYTES:
        return False
    length = _RECORD_HEAD.unpack_from(view, pos)[0]
    return length > MAX_PAYLOAD_BYTES or pos + RECORD_HEAD_BYTES + length <= len(view)


def _is_good(view: memoryview, pos: int, last_seq: int) -> bool:
    if len(view) - pos < RECORD_HEAD_BYTES:
        return False
    length, crc, seq = _RECORD_HEAD.unpack_from(view, pos)
    stop = pos + RECORD_HEAD_BYTES + length
    if length > MAX_PAYLOAD_BYTES or stop > len(view) or seq <= last_seq:
        return False
    return crc32(view[pos + 8 : stop]) == crc
