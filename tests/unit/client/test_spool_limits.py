"""The spool stays within its room and lets go of what is confirmed, and of nothing else."""

import threading
from pathlib import Path

import pytest

from audit_platform.client.spool_format import SpoolStream
from audit_platform.errors import SpoolFull
from tests.unit.client.spool_files import (
    DAY_MS,
    EPOCH,
    Clock,
    everything,
    nothing,
    numbers,
    open_spool,
    records,
    segment_files,
)

DURABLE, SPILL = SpoolStream.DURABLE, SpoolStream.SPILL


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
