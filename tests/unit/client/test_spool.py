"""The spool keeps what it acknowledged and gives it back in order."""

import stat
import struct
import threading
import zlib
from pathlib import Path

import pytest

from audit_platform.client.spool import Spool
from audit_platform.client.spool_format import SpoolRecord, SpoolStream
from audit_platform.errors import SpoolFailed
from tests.unit.client.spool_files import (
    EPOCH,
    Clock,
    numbers,
    open_spool,
    records,
    segment_files,
)

DURABLE, SPILL = SpoolStream.DURABLE, SpoolStream.SPILL


def test_segment_on_disk_has_the_bytes_of_the_design(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, clock=Clock(now_ms=5))

    spool.append(EPOCH, [SpoolRecord(3, b"{}")], stream=DURABLE)

    (file,) = segment_files(tmp_path)
    body = struct.pack("<Q", 3) + b"{}"
    assert file.name == f"{EPOCH}-3.seg"
    assert file.read_bytes() == (
        b"AUDSPL01"
        + struct.pack("<QQQ", EPOCH, 3, 5)
        + struct.pack("<II", 2, zlib.crc32(body))
        + body
    )


def test_files_belong_to_their_owner_alone(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "a" / "slot")

    spool.append(EPOCH, records(1, 1), stream=DURABLE)

    assert stat.S_IMODE((tmp_path / "a" / "slot").stat().st_mode) == 0o700
    assert [stat.S_IMODE(p.stat().st_mode) for p in segment_files(tmp_path / "a" / "slot")] == [
        0o600
    ]


def test_records_are_there_after_reopening(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 300), stream=DURABLE)
    spool.append(EPOCH, records(400, 402), stream=DURABLE)
    size_bytes = spool.size_bytes
    spool.close()

    reopened = open_spool(tmp_path)

    assert reopened.ranges(EPOCH) == [(1, 300), (400, 402)]
    assert reopened.epochs() == [EPOCH]
    assert reopened.read(EPOCH, 299, 401) == [*records(299, 300), *records(400, 401)]
    assert (reopened.size_bytes, reopened.torn_records, reopened.bad_files) == (size_bytes, 0, 0)


def test_two_streams_of_an_epoch_are_read_as_one(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for first in range(1, 41, 4):
        spool.append(EPOCH, records(first, first + 1), stream=DURABLE)
    for first in range(3, 41, 4):
        spool.append(EPOCH, records(first, first + 1), stream=SPILL)

    assert len(segment_files(tmp_path)) == 2
    assert spool.ranges(EPOCH) == [(1, 40)]
    assert numbers(spool) == list(range(1, 41))


def test_epochs_are_kept_apart(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(1, records(1, 2), stream=DURABLE)
    spool.append(2, records(2, 3), stream=DURABLE)

    assert spool.epochs() == [1, 2]
    assert (numbers(spool, 1), numbers(spool, 2), numbers(spool, 3)) == ([1, 2], [2, 3], [])
    assert spool.ranges(3) == []


def test_calls_out_of_order_need_few_segments(tmp_path: Path) -> None:
    """Threads of a group commit overtake each other by a few numbers."""
    spool = open_spool(tmp_path)
    order = [seq for base in range(0, 400, 4) for seq in (base + 2, base + 1, base + 4, base + 3)]

    for seq in order:
        spool.append(EPOCH, records(seq, seq), stream=DURABLE)

    assert spool.ranges(EPOCH) == [(1, 400)]
    assert numbers(spool) == list(range(1, 401))
    assert len(segment_files(tmp_path)) == 2
    spool.close()
    assert numbers(open_spool(tmp_path)) == list(range(1, 401))


def test_descending_calls_are_kept_and_close_files_beyond_eight(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)

    for seq in range(20, 0, -1):
        spool.append(EPOCH, records(seq, seq), stream=DURABLE)

    assert numbers(spool) == list(range(1, 21))
    assert len(list(Path("/proc/self/fd").iterdir())) < 100


def test_same_number_twice_is_read_once(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 3), stream=DURABLE)
    spool.append(EPOCH, records(1, 4), stream=DURABLE)

    assert numbers(spool) == [1, 2, 3, 4]
    assert len(segment_files(tmp_path)) == 2


def test_segment_ends_at_its_size(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_bytes=1000)
    for seq in range(1, 101):
        spool.append(EPOCH, records(seq, seq, size=84), stream=DURABLE)

    sizes = [file.stat().st_size for file in segment_files(tmp_path)]
    assert max(sizes) <= 1000
    assert len(sizes) == 12
    assert numbers(spool) == list(range(1, 101))
    assert spool.size_bytes == sum(sizes)


def test_reading_stops_at_records_and_at_bytes(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 100, size=100), stream=DURABLE)

    by_records = spool.read(EPOCH, 10, 90, max_records=5)
    by_bytes = spool.read(EPOCH, 10, 90, max_bytes=450)
    at_least_one = spool.read(EPOCH, 10, 90, max_bytes=1)

    assert [one.seq for one in by_records] == [10, 11, 12, 13, 14]
    assert [one.seq for one in by_bytes] == [10, 11, 12, 13]
    assert [one.seq for one in at_least_one] == [10]


def test_reading_from_the_middle_reads_one_block(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 20_000, size=100), stream=DURABLE)
    (file,) = segment_files(tmp_path)
    # Unreadable before and behind: a scan from the start would notice.
    content = bytearray(file.read_bytes())
    content[32:1_000_000] = bytes(1_000_000 - 32)
    file.write_bytes(content)

    assert [one.seq for one in spool.read(EPOCH, 15_000, 15_002)] == [15_000, 15_001, 15_002]
    assert spool.torn_records == 0


def test_nothing_to_append_makes_no_file(tmp_path: Path) -> None:
    open_spool(tmp_path).append(EPOCH, [], stream=DURABLE)

    assert segment_files(tmp_path) == []


def test_closed_spool_refuses(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 1), stream=DURABLE)
    spool.close()

    with pytest.raises(SpoolFailed, match="closed") as caught:
        spool.append(EPOCH, records(2, 2), stream=DURABLE)

    assert not caught.value.retryable
    assert numbers(spool) == [1]


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(SpoolFailed, match="file"):
        open_spool(tmp_path / "file" / "spool")


def test_many_threads_append_and_read_at_once(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_bytes=4000)
    failures: list[BaseException] = []

    def write(thread: int) -> None:
        try:
            stream = DURABLE if thread % 2 else SPILL
            for seq in range(thread, 400, 4):
                spool.append(EPOCH, records(seq, seq), stream=stream)
                spool.read(EPOCH, 1, 400, max_records=10)
        except BaseException as exc:  # noqa: BLE001 - shown by the assertion below
            failures.append(exc)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    assert numbers(spool) == list(range(400))
    assert spool.torn_records == 0
    spool.close()
    assert numbers(Spool(tmp_path, max_bytes=1 << 30, retain_s=0, clock_ms=Clock())) == list(
        range(400)
    )
