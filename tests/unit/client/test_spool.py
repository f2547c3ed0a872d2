"""The spool keeps what it acknowledged, within its limits, and lets go of what is confirmed."""

import os
import stat
import struct
import threading
import zlib
from pathlib import Path

import pytest

from audit_platform.client.spool import Spool
from audit_platform.client.spool_format import SpoolRecord, SpoolStream
from audit_platform.errors import SpoolFailed, SpoolFull
from tests.unit.client.spool_files import (
    DAY_MS,
    EPOCH,
    Clock,
    numbers,
    open_spool,
    records,
    segment_files,
)

DURABLE, SPILL = SpoolStream.DURABLE, SpoolStream.SPILL


def everything(_epoch: int, _first: int, _last: int) -> bool:
    return True


def nothing(_epoch: int, _first: int, _last: int) -> bool:
    return False


# --- what is on the disk ---------------------------------------------------------------------


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


# --- torn tails and foreign files ------------------------------------------------------------


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
    (tmp_path / f"{name}.bad").write_bytes(b"an earlier one")

    spool = open_spool(tmp_path)
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


# --- limits ----------------------------------------------------------------------------------


def test_full_spool_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=1000, segment_bytes=500)
    spool.append(EPOCH, records(1, 20), stream=DURABLE)

    with pytest.raises(SpoolFull, match="AUDIT_SPOOL_MAX_BYTES") as caught:
        spool.append(EPOCH, records(21, 40), stream=DURABLE)

    assert caught.value.retryable
    assert numbers(spool) == list(range(1, 21))
    assert spool.size_bytes == sum(file.stat().st_size for file in segment_files(tmp_path)) <= 1000


def test_spilled_events_get_half_and_leave_the_rest_to_durable_ones(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=2000)
    spool.append(EPOCH, records(1, 20), stream=SPILL)

    with pytest.raises(SpoolFull):
        spool.append(EPOCH, records(21, 30), stream=SPILL)
    spool.append(EPOCH, records(21, 50), stream=DURABLE)

    assert spool.ranges(EPOCH) == [(1, 50)]


def test_half_for_spilled_events_holds_after_reopening(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=2000)
    spool.append(EPOCH, records(1, 20), stream=SPILL)
    spool.close()

    with pytest.raises(SpoolFull):
        open_spool(tmp_path, max_bytes=2000).append(8, records(1, 20), stream=SPILL)


def test_room_is_found_again_after_pruning(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=2000, segment_bytes=400)
    for first in range(1, 41, 10):
        spool.append(EPOCH, records(first, first + 9), stream=DURABLE)
    with pytest.raises(SpoolFull):
        spool.append(EPOCH, records(41, 60), stream=DURABLE)

    freed = spool.prune(everything)
    spool.append(EPOCH, records(41, 60), stream=DURABLE)

    assert freed > 0
    assert set(numbers(spool)) > set(range(41, 61))


# --- deletion --------------------------------------------------------------------------------


def test_confirmed_durable_segments_stay_for_the_time_set(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, clock=clock)
    spool.append(EPOCH, records(1, 10), stream=DURABLE)

    clock.now_ms += DAY_MS
    assert spool.prune(everything) == 0
    clock.now_ms += 1
    freed = spool.prune(everything)

    assert freed == 32 + 10 * 36
    assert (spool.epochs(), spool.size_bytes, segment_files(tmp_path)) == ([], 0, [])


def test_time_counts_from_the_last_append(tmp_path: Path) -> None:
    """From the creation, the last records of a long-lived segment would go at once."""
    clock = Clock()
    spool = open_spool(tmp_path, clock=clock)
    spool.append(EPOCH, records(1, 10), stream=DURABLE)
    clock.now_ms += DAY_MS
    spool.append(EPOCH, records(11, 20), stream=DURABLE)
    clock.now_ms += DAY_MS

    assert spool.prune(everything) == 0
    spool.close()
    assert open_spool(tmp_path, clock=clock).prune(everything) == 0
    clock.now_ms += 1
    assert open_spool(tmp_path, clock=clock).prune(everything) > 0


def test_confirmed_spilled_segments_go_at_once(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 10), stream=SPILL)
    spool.append(EPOCH, records(11, 20), stream=DURABLE)

    spool.prune(everything)
    spool.append(EPOCH, records(21, 22), stream=SPILL)

    assert spool.ranges(EPOCH) == [(11, 22)]


def test_unconfirmed_segments_stay_however_old_and_short_of_room(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, clock=clock, max_bytes=1000, segment_bytes=500)
    spool.append(EPOCH, records(1, 13), stream=DURABLE)
    with pytest.raises(SpoolFull):
        spool.append(EPOCH, records(14, 40), stream=DURABLE)
    clock.now_ms += 10 * DAY_MS

    assert spool.prune(nothing) == 0
    assert numbers(spool) == list(range(1, 14))


def test_one_unconfirmed_number_keeps_its_segment_and_no_other(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, clock=clock, segment_bytes=32 + 10 * 36)
    for first in range(1, 41, 10):
        spool.append(EPOCH, records(first, first + 9), stream=DURABLE)
    clock.now_ms += 2 * DAY_MS

    spool.prune(lambda _epoch, first, last: not first <= 25 <= last)

    assert spool.ranges(EPOCH) == [(21, 30)]


def test_numbers_between_those_of_a_segment_do_not_keep_it(tmp_path: Path) -> None:
    """The other stream holds them: they say nothing about this segment."""
    clock = Clock()
    spool = open_spool(tmp_path, clock=clock)
    spool.append(EPOCH, [*records(1, 1), *records(5, 5)], stream=DURABLE)
    clock.now_ms += 2 * DAY_MS

    spool.prune(lambda _epoch, first, last: (first, last) in {(1, 1), (5, 5)})

    assert spool.epochs() == []


def test_short_of_room_the_oldest_confirmed_go_first(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, clock=clock, max_bytes=10 * 392, segment_bytes=392)
    for first in range(1, 91, 10):
        spool.append(EPOCH, records(first, first + 9), stream=DURABLE)
        clock.now_ms += 1

    spool.prune(lambda _epoch, _first, last: last <= 80)

    assert spool.ranges(EPOCH) == [(21, 90)]


def test_confirmation_is_asked_without_holding_a_lock(tmp_path: Path) -> None:
    """The answer may need a lock whose holder waits for `append`."""
    spool = open_spool(tmp_path)
    spool.append(EPOCH, records(1, 1), stream=SPILL)

    def ask(_epoch: int, _first: int, last: int) -> bool:
        other = threading.Thread(
            target=spool.append, args=(EPOCH, records(last + 1, last + 1)), kwargs={"stream": SPILL}
        )
        other.start()
        other.join(30)
        assert not other.is_alive()
        return last == 1

    spool.prune(ask)

    assert numbers(spool) == [1, 2]


# --- the end ---------------------------------------------------------------------------------


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
