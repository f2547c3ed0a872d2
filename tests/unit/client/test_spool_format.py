"""Bytes of a segment, written down byte by byte; whatever is read, nothing is raised."""

import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.client.spool_format import (
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    SegmentHeader,
    SpoolRecord,
    pack_header,
    pack_records,
    scan,
    unpack_header,
    unpack_record,
)
from tests.effort import examples

BATCH = st.lists(st.binary(max_size=60), min_size=1, max_size=8).map(
    lambda payloads: [SpoolRecord(3 * n + 1, payload) for n, payload in enumerate(payloads)]
)


def test_header_has_the_32_bytes_of_the_design() -> None:
    header = pack_header(SegmentHeader(epoch=0x0102030405060708, first_seq=9, created_ms=10))

    assert header == (
        b"AUDSPL01"
        b"\x08\x07\x06\x05\x04\x03\x02\x01"
        b"\x09\x00\x00\x00\x00\x00\x00\x00"
        b"\x0a\x00\x00\x00\x00\x00\x00\x00"
    )
    assert unpack_header(header) == (0x0102030405060708, 9, 10)


def test_record_has_the_bytes_of_the_design() -> None:
    packed = pack_records([SpoolRecord(258, b"{}")])

    seq = b"\x02\x01\x00\x00\x00\x00\x00\x00"
    crc = struct.pack("<I", zlib.crc32(seq + b"{}"))
    assert packed.data == b"\x02\x00\x00\x00" + crc + seq + b"{}"
    assert packed.offsets == [0]


@pytest.mark.parametrize(
    "wrong",
    [
        [SpoolRecord(2, b""), SpoolRecord(2, b"")],
        [SpoolRecord(2, b""), SpoolRecord(1, b"")],
        [SpoolRecord(1, b"x" * (MAX_PAYLOAD_BYTES + 1))],
    ],
    ids=["repeated", "descending", "too-large"],
)
def test_records_that_no_scan_would_accept_are_refused(wrong: list[SpoolRecord]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        pack_records(wrong)


@pytest.mark.parametrize("header", [b"", b"AUDSPL01", b"AUDSPL02" + bytes(24), bytes(31)])
def test_wrong_or_short_header_is_none(header: bytes) -> None:
    assert unpack_header(header) is None


@given(BATCH)
def test_scan_finds_what_was_packed(batch: list[SpoolRecord]) -> None:
    data = pack_records(batch).data

    found = scan(data, after_seq=-1, is_last=True)

    assert [unpack_record(data, offset) for _, offset in found.found] == batch
    assert (found.end, found.damaged, found.is_torn) == (len(data), 0, False)


@given(BATCH, st.data())
def test_scan_of_a_cut_batch_keeps_the_whole_records(
    batch: list[SpoolRecord], data: st.DataObject
) -> None:
    packed = pack_records(batch)
    length = data.draw(st.integers(0, len(packed.data)))

    found = scan(packed.data[:length], after_seq=-1, is_last=True)

    ends = [*packed.offsets[1:], len(packed.data)]
    whole = [record for record, end in zip(batch, ends, strict=True) if end <= length]
    assert [seq for seq, _ in found.found] == [record.seq for record in whole]
    assert found.is_torn == (length not in {0, *ends})


@given(BATCH, st.data())
def test_scan_in_pieces_finds_the_same_as_scan_at_once(
    batch: list[SpoolRecord], data: st.DataObject
) -> None:
    whole = bytearray(pack_records(batch).data)
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(0, 255))
    piece_bytes = data.draw(st.integers(1, len(whole)))

    at_once = scan(bytes(whole), after_seq=-1, is_last=True)

    seqs: list[int] = []
    rest, position, damaged, is_torn = b"", 0, 0, False
    while not is_torn and position <= len(whole):
        piece = bytes(whole[position : position + piece_bytes])
        position += piece_bytes
        rest += piece
        found = scan(rest, after_seq=seqs[-1] if seqs else -1, is_last=not piece)
        seqs += [seq for seq, _ in found.found]
        rest, damaged, is_torn = rest[found.end :], damaged + found.damaged, found.is_torn
    is_torn |= scan(rest, after_seq=seqs[-1] if seqs else -1, is_last=True).is_torn
    assert (seqs, damaged, is_torn) == (
        [seq for seq, _ in at_once.found],
        at_once.damaged,
        at_once.is_torn,
    )


def test_one_damaged_record_costs_only_itself() -> None:
    """A cut at the first bad checksum would throw away what was acknowledged behind it."""
    data = bytearray(pack_records([SpoolRecord(n, b"payload") for n in (1, 2, 3)]).data)
    data[23 + 16 + 3] ^= 1

    found = scan(bytes(data), after_seq=-1, is_last=True)

    assert [seq for seq, _ in found.found] == [1, 3]
    assert (found.damaged, found.is_torn) == (1, False)


def test_length_beyond_a_megabyte_is_a_torn_record() -> None:
    data = pack_records([SpoolRecord(1, b"a")]).data + struct.pack("<IIQ", (1 << 20) + 1, 0, 2)

    found = scan(data + bytes(2 << 20), after_seq=-1, is_last=False)

    assert ([seq for seq, _ in found.found], found.is_torn) == ([1], True)


def test_zeros_are_no_records() -> None:
    """After a power loss a file can be longer than what was written: the rest reads as zeros."""
    found = scan(bytes(4096), after_seq=-1, is_last=True)

    assert (found.found, found.end, found.is_torn) == ([], 0, True)


def test_mutated_bytes_are_never_an_error_and_never_a_false_record() -> None:
    # pytest-randomly prints the number that everything here follows from.
    chance = random.Random(random.getrandbits(32))
    batch = [SpoolRecord(n, chance.randbytes(chance.randrange(40))) for n in range(1, 9)]
    original = pack_header(SegmentHeader(1, 1, 1)) + pack_records(batch).data
    genuine = set(batch)

    for _ in range(examples(50_000)):
        data = _mutated(original, chance)
        unpack_header(data)
        body = data[HEADER_BYTES:]
        found = scan(body, after_seq=0, is_last=True)
        assert found.end <= len(body)
        assert {unpack_record(body, offset) for _, offset in found.found} <= genuine


def _mutated(original: bytes, chance: random.Random) -> bytes:
    data = bytearray(original)
    for _ in range(chance.randrange(1, 4)):
        position = chance.randrange(len(data)) if data else 0
        match chance.randrange(5):
            case 0 if data:
                data[position] ^= 1 << chance.randrange(8)
            case 1:
                del data[position:]
            case 2:
                data[position:position] = chance.randbytes(chance.randrange(1, 20))
            case 3:
                del data[position : position + chance.randrange(1, 20)]
            case _:
                end = position + chance.randrange(1, 20)
                data[position:end] = bytes(len(data[position:end]))
    return bytes(data)
