"""What was sent is kept, sent again in time, and let go when the database accounts for it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from audit_platform.client.coverage import NOTHING_CONFIRMED, Coverage
from audit_platform.client.custody import Custody
from audit_platform.client.parcel import Parcel
from audit_platform.client.seq_set import SeqSet
from audit_platform.client.spool import Spool, SpoolRecord, SpoolStream

EPOCH = 5


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, max_bytes=1 << 24, retain_s=60, clock_ms=lambda: 0)


def make(spool: Spool | None = None, *, shards: int = 1) -> Custody:
    return Custody(producer_id=1, epoch=EPOCH, shards=shards, spool=spool)


def sent(custody: Custody, first: int, count: int, *, at_s: float = 0.0) -> Parcel:
    payloads = [b"%d" % number for number in range(first, first + count)]
    parcel = Parcel(first, payloads)
    custody.note_sent(parcel, now_s=at_s)
    return parcel


def covering(last: int, *gaps: tuple[int, int]) -> Coverage:
    return Coverage(max_seq=last, gaps=SeqSet(gaps))


def on_disk(custody: Custody, spool: Spool, *numbers: int) -> None:
    records = [SpoolRecord(number, b"%d" % number) for number in numbers]
    spool.append(EPOCH, records, stream=SpoolStream.DURABLE)
    for number in numbers:
        custody.unsent.add(number, number)


def test_a_parcel_stays_until_all_of_it_is_confirmed() -> None:
    custody = make()
    sent(custody, 1, 10)

    assert not custody.apply(covering(9))
    assert custody.is_waiting
    assert not custody.apply(covering(10, (4, 4)))
    assert custody.apply(covering(10))

    assert not custody.is_waiting
    assert custody.window_bytes == 0


def test_the_pause_before_a_resend_doubles_up_to_ten_minutes() -> None:
    custody = make()
    parcel = sent(custody, 1, 1)
    pauses: list[float] = []
    now_s = 0.0
    for _ in range(8):
        due_s = parcel.due_s(30)
        assert not custody.due(now_s=due_s - 1, after_s=30, limit=4)
        assert custody.due(now_s=due_s, after_s=30, limit=4) == [parcel]
        pauses.append(due_s - now_s)
        now_s = due_s
        custody.note_sent(parcel, now_s=now_s)

    assert pauses == [30, 60, 120, 240, 480, 600, 600, 600]


def test_the_disk_gives_runs_of_consecutive_numbers(spool: Spool) -> None:
    custody = make(spool)
    on_disk(custody, spool, 2, 3, 4, 8, 9)

    found: list[tuple[int, int]] = []
    for parcel in custody.from_disk(limit=9):
        custody.note_sent(parcel, now_s=0)
        found.append((parcel.first_seq, parcel.last_seq))

    assert found == [(2, 4), (8, 9)]
    assert custody.from_disk() == []
    assert custody.unsent.count == 0
    assert custody.is_waiting


def test_a_resend_from_disk_carries_the_same_bytes(spool: Spool) -> None:
    custody = make(spool)
    on_disk(custody, spool, 1, 2)
    (first,) = custody.from_disk()
    before = first.lines
    custody.note_sent(first, now_s=0)
    (again,) = custody.due(now_s=100, after_s=30, limit=4)

    assert again.lines is None, "memory does not keep what the disk has"
    assert custody.loaded(again)
    assert again.lines == before == b"1\n2"


def test_numbers_that_the_disk_lost_are_passed_over(spool: Spool) -> None:
    custody = make(spool)
    on_disk(custody, spool, 5)
    custody.unsent.add(1, 7)

    (parcel,) = custody.from_disk(limit=9)

    assert (parcel.first_seq, parcel.last_seq) == (5, 5)
    custody.note_sent(parcel, now_s=0)
    assert custody.from_disk() == []


def test_numbers_that_redis_has_had_are_not_read_again(spool: Spool) -> None:
    custody = make(spool)
    on_disk(custody, spool, *range(1, 8))
    custody.unsent.remove(2, 5)

    found = [(one.first_seq, one.last_seq) for one in custody.from_disk(limit=9)]

    assert found == [(1, 1), (6, 7)]
    assert [(one.first_seq, one.last_seq) for one in custody.from_disk()] == [(1, 1)]


def test_what_the_database_forgot_is_sent_again_from_disk(spool: Spool) -> None:
    custody = make(spool)
    on_disk(custody, spool, 1, 2, 3)
    (parcel,) = custody.from_disk()
    custody.note_sent(parcel, now_s=0)
    custody.apply(covering(3))
    assert not custody.is_waiting

    custody.apply(covering(3, (2, 3)))
    assert list(custody.unsent) == [(2, 3)]
    custody.apply(NOTHING_CONFIRMED)
    assert list(custody.unsent) == [(1, 3)]


def test_the_oldest_parcels_move_to_disk_without_what_it_has(spool: Spool) -> None:
    custody = make(spool)
    sent(custody, 1, 3).spooled = (2,)
    written: list[int] = []

    def write(epoch: int, records: Sequence[SpoolRecord]) -> bool:
        assert epoch == EPOCH
        written.extend(record.seq for record in records)
        return True

    assert custody.trim(write) == 0
    assert written == [1, 3]
    assert (len(custody.window), len(custody.on_disk), custody.window_bytes) == (0, 1, 0)


def test_where_the_disk_takes_nothing_the_oldest_parcel_is_let_go() -> None:
    custody = make()
    sent(custody, 1, 3)
    sent(custody, 4, 2)

    assert custody.trim(lambda _epoch, _records: False) == 3
    assert (len(custody.window), len(custody.on_disk)) == (1, 0)


def test_best_effort_events_are_let_go_when_memory_is_needed() -> None:
    custody = Custody(producer_id=1, epoch=EPOCH, shards=1, spool=None, may_spool=False)
    sent(custody, 1, 3)

    assert custody.trim(lambda _epoch, _records: False) == 0
    assert (len(custody.window), len(custody.on_disk), custody.window_bytes) == (0, 0, 0)


def test_the_stream_of_an_event_from_disk_is_that_of_its_tenant() -> None:
    custody = make(shards=4)
    payloads = [b'{"tenant_id":"acme"}', b"no JSON"]

    shards = [custody.shard_of(Parcel(1, [one])) for one in payloads]

    assert shards[0] in range(4)
    assert shards[1] == 0
