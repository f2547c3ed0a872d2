"""Torn tails, foreign files, damaged bytes and wrong indexes cost what they hit, no more."""

import os
import random
import shutil
import struct
from pathlib import Path

import pytest

from audit_platform.client.spool_format import SpoolRecord, SpoolStream
from tests.effort import examples
from tests.unit.client.spool_files import (
    EPOCH,
    Clock,
    everything,
    numbers,
    open_spool,
    records,
    segment_files,
)

DURABLE, SPILL = SpoolStream.DURABLE, SpoolStream.SPILL


def test_cut_at_every_byte_of_the_last_record_keeps_the_others(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "whole")
    spool.append(EPOCH, records(1, 5, size=30), stream=DURABLE)
    spool.close()
    (file,) = segment_files(tmp_path / "whole")
    content = file.read_bytes()

    for length in range(len(content) - 46, len(content)):
        place = tmp_path / str(length)
        place.mkdir()
        (place / file.name).write_bytes(content[:length])
        reopened = open_spool(place)
        assert numbers(reopened) == [1, 2, 3, 4]
        assert reopened.torn_records == (length != len(content) - 46)
        assert (place / file.name).stat().st_size == len(content) - 46 == reopened.size_bytes
        reopened.close()
        assert open_spool(place).torn_records == 0


def test_cut_at_every_byte_of_the_header_sets_the_file_aside(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "whole")
    spool.append(EPOCH, records(1, 1), stream=DURABLE)
    spool.close()
    (file,) = segment_files(tmp_path / "whole")

    for length in range(32):
        place = tmp_path / str(length)
        place.mkdir()
        (place / file.name).write_bytes(file.read_bytes()[:length])
        reopened = open_spool(place)
        assert (reopened.bad_files, reopened.epochs()) == (1, [])
        assert [path.name for path in place.iterdir()] == [f"{file.name}.bad"]


def test_header_without_records_is_removed(tmp_path: Path) -> None:
    """A process that dies between the header and the first record leaves one."""
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 1), stream=DURABLE)
    spool.close()
    (file,) = segment_files(tmp_path)
    file.write_bytes(file.read_bytes()[:40])

    reopened = open_spool(tmp_path)

    assert (reopened.epochs(), reopened.torn_records, reopened.size_bytes) == ([], 1, 0)
    assert segment_files(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("7-1.seg", b"something else, long enough for a header"),
        ("7-1.seg", b"AUDSPL01" + struct.pack("<QQQ", 8, 1, 0)),
        ("7-1.seg", b"AUDSPL01" + struct.pack("<QQQ", 7, 2, 0)),
        ("x.seg", b"AUDSPL01" + struct.pack("<QQQ", 7, 1, 0)),
        ("7-1.spill.x.seg", b""),
    ],
    ids=["magic", "epoch", "first", "name", "empty"],
)
def test_foreign_file_is_set_aside_and_counted(
    tmp_path: Path, name: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / name).with_suffix(".idx").write_bytes(b"the index of another one")
    (tmp_path / f"{name}.bad").write_bytes(b"an earlier one")

    spool = open_spool(tmp_path)
    assert not list(tmp_path.glob("*.idx"))
    spool.append(7, records(1, 1), stream=DURABLE)

    assert spool.bad_files == 1
    assert (tmp_path / f"{name}.1.bad").read_bytes() == content
    assert (tmp_path / f"{name}.bad").read_bytes() == b"an earlier one"
    assert numbers(spool, 7) == [1]
    assert "set aside" in caplog.text


@pytest.mark.parametrize("kind", ["directory", "pipe", "link"])
def test_what_is_no_file_is_no_error(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "7-1.seg"
    if kind == "directory":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(tmp_path / "nowhere")

    spool = open_spool(tmp_path)

    assert (spool.bad_files, spool.epochs()) == (1, [])


def test_damaged_byte_costs_one_record_and_is_counted(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 5), stream=DURABLE)
    spool.close()
    _flip(segment_files(tmp_path)[0], 32 + 2 * 36 + 20)

    reopened = open_spool(tmp_path)

    assert numbers(reopened) == [1, 2, 4, 5]
    assert reopened.ranges(EPOCH) == [(1, 2), (4, 5)]
    assert reopened.torn_records == 1
    reopened.close()
    again = open_spool(tmp_path)
    assert again.ranges(EPOCH) == [(1, 2), (4, 5)]
    assert numbers(again) == [1, 2, 4, 5]


def test_damage_met_while_reading_is_counted_and_no_longer_promised(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 1000), stream=DURABLE)
    _flip(segment_files(tmp_path)[0], 32 + 499 * 36 + 20)

    assert numbers(spool) == [seq for seq in range(1, 1001) if seq != 500]
    assert spool.ranges(EPOCH) == [(1, 499), (501, 1000)]
    assert spool.torn_records == 1
    spool.append(EPOCH, records(1001, 1001), stream=DURABLE)
    assert numbers(spool)[-1] == 1001


def test_segment_deleted_by_somebody_is_counted_and_no_longer_promised(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_bytes=200)
    for seq in range(1, 13):
        spool.append(EPOCH, records(seq, seq), stream=DURABLE)
    segment_files(tmp_path)[0].unlink()

    found = numbers(spool)

    assert len(found) == 8
    assert spool.torn_records == 1
    assert spool.size_bytes == sum(file.stat().st_size for file in segment_files(tmp_path))


def _flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 0x55
    file.write_bytes(content)


def test_closed_segment_is_opened_without_reading_it(tmp_path: Path) -> None:
    """Scanning a spool of 4 GiB at every start took 11 s."""
    spool = open_spool(tmp_path)
    spool.append(EPOCH, [*records(1, 600), *records(700, 700)], stream=DURABLE)
    spool.close()
    (file,) = segment_files(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[:32] + bytes(len(content) - 32))

    unread = open_spool(tmp_path)
    assert (unread.ranges(EPOCH), unread.torn_records) == ([(1, 600), (700, 700)], 0)
    unread.close()
    file.write_bytes(content)
    assert numbers(open_spool(tmp_path)) == [*range(1, 601), 700]


def test_segment_with_a_wrong_index_is_scanned(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 600), stream=DURABLE)
    spool.close()
    (index_file,) = tmp_path.glob("*.idx")
    content = index_file.read_bytes()

    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        for wrong in (content[:position], bytes(changed)):
            index_file.write_bytes(wrong)
            assert open_spool(tmp_path).ranges(EPOCH) == [(1, 600)]
            assert index_file.read_bytes() == content


def test_index_of_another_segment_is_not_believed(tmp_path: Path) -> None:
    """A file that was set aside leaves its index behind; the next segment may get its name."""
    clock, indexes = Clock(), list[bytes]()
    for seqs in ([1, 2], [1, 3]):
        for file in segment_files(tmp_path):
            file.unlink()
        spool = open_spool(tmp_path, clock=clock)
        spool.append(EPOCH, [SpoolRecord(seq, b"x") for seq in seqs], stream=DURABLE)
        spool.close()
        indexes.append(next(tmp_path.glob("*.idx")).read_bytes())
        clock.now_ms += 1
    next(tmp_path.glob("*.idx")).write_bytes(indexes[0])

    assert numbers(open_spool(tmp_path)) == [1, 3]


def test_deleted_segment_takes_its_index_along(tmp_path: Path) -> None:
    open_spool(tmp_path).append(EPOCH, records(1, 3), stream=SPILL)
    spool = open_spool(tmp_path)
    assert list(tmp_path.glob("*.idx"))

    spool.prune(everything)

    assert list(tmp_path.iterdir()) == []


def test_mutated_segment_files_never_stop_the_spool(tmp_path: Path) -> None:
    chance = random.Random(random.getrandbits(32))
    spool = open_spool(tmp_path / "whole")
    spool.append(EPOCH, records(1, 5), stream=DURABLE)
    spool.close()
    (file,) = segment_files(tmp_path / "whole")
    original = file.read_bytes()
    genuine = set(records(1, 5))

    for number in range(examples(700)):
        directory = tmp_path / str(number)
        directory.mkdir()
        data = bytearray(original)
        for _ in range(chance.randrange(1, 4)):
            position = chance.randrange(len(data))
            data[position : position + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        (directory / file.name).write_bytes(data)
        opened = open_spool(directory)
        assert {one for epoch in opened.epochs() for one in opened.read(epoch, 0, 99)} <= genuine
        assert opened.bad_files or opened.torn_records or data == original or opened.epochs()
        opened.close()
        shutil.rmtree(directory)
