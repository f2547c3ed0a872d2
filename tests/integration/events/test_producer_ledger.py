"""What the ledger says about the numbers of a producer: by fate, by report, on both store paths."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audit_platform.events.ledger import StorePath
from tests.factories import event, wire
from tests.integration.events.control import end, loss, report, sampled
from tests.integration.events.shard import Shard
from tests.integration.events.store import Writer, frame_of_lines

pytestmark = pytest.mark.integration

PRODUCER, EPOCH, CONTROL = 17, 4_242, 99
STAMP = {"p": b"17", "e": b"4242"}
REPORT_STAMP = {"p": b"17", "e": b"99", "s": b"1"}


@dataclass(frozen=True, kw_only=True)
class Known:
    """The ledger's view of one epoch, as sets."""

    max_seq: int
    is_ended: bool
    is_unclean: bool
    got: set[int]
    late: set[int]
    dead: set[int]
    declared: set[int]
    missing: set[int]


def known(shard: Shard, epoch: int = EPOCH) -> Known:
    row = shard.sql.execute(
        "select max_seq, is_ended, is_unclean, got, late, dead, declared, missing"
        " from audit.producer_ledger where producer_id = %s and epoch = %s",
        [PRODUCER, epoch],
    ).fetchone()
    assert row is not None
    sets: list[Any] = [
        {number for part in parts for number in range(part.lower, part.upper)} for parts in row[3:]
    ]
    return Known(
        max_seq=row[0],
        is_ended=row[1],
        is_unclean=row[2],
        got=sets[0],
        late=sets[1],
        dead=sets[2],
        declared=sets[3],
        missing=sets[4],
    )


def _old() -> bytes:
    return wire(event(timestamp=datetime.now(UTC) - timedelta(days=40)))


@pytest.mark.parametrize("is_folded", [False, True])
def test_each_number_is_counted_by_its_fate(writer: Writer, shard: Shard, is_folded: bool) -> None:
    lines = [wire(event()), _old(), b"{", wire(event()), b"[]"]
    writer.save(frame_of_lines(lines, **STAMP, s=b"11"))
    writer.save(frame_of_lines([loss(PRODUCER, EPOCH, [[1, 3], [5, 6]])], **REPORT_STAMP))
    writer.save(frame_of_lines([end(PRODUCER, [[EPOCH, 20]])], **REPORT_STAMP | {"s": b"2"}))
    if is_folded:
        shard.sql.execute(b"select audit.fold_ranges()")

    assert known(shard) == Known(
        max_seq=20,
        is_ended=True,
        is_unclean=False,
        got={11, 12, 13, 14, 15},
        late={12},
        dead={13, 15},
        declared={1, 2, 3, 5, 6},
        missing={4, 7, 8, 9, 10, 16, 17, 18, 19, 20},
    )


def test_a_redelivered_batch_changes_no_answer(writer: Writer, shard: Shard) -> None:
    lines = [wire(event()), _old(), b"{", loss(PRODUCER, EPOCH, [[7, 9]])]
    counts = sampled(PRODUCER, CONTROL, [["web", "ping", "dropped", 7]])
    frame = frame_of_lines([*lines, counts], **STAMP, s=b"1")
    writer.save(frame)
    before = known(shard)
    shard.sql.execute(b"select audit.fold_ranges()")

    again = writer.save(frame)

    assert again.path is StorePath.MERGE
    assert known(shard) == before
    assert shard.rows("select n from audit.producer_sampled") == [(7,)]
    shard.sql.execute(b"select audit.fold_ranges()")
    assert known(shard) == before


def test_a_number_both_declared_and_arrived_has_arrived(writer: Writer, shard: Shard) -> None:
    """The producer gave it up, but the queue had taken it."""
    writer.save(frame_of_lines([wire(event())] * 1, **STAMP, s=b"1"))
    writer.save(frame_of_lines([loss(PRODUCER, EPOCH, [[1, 2]])], **REPORT_STAMP))

    found = known(shard)

    assert (found.got, found.declared, found.missing) == ({1}, {2}, set())


def test_b32_a_report_on_another_producer_leaves_the_ledger_as_it_was(
    writer: Writer, shard: Shard
) -> None:
    writer.save(frame_of_lines([wire(event())], **STAMP, s=b"5"))
    foreign = loss(PRODUCER, EPOCH, [[1, 4]])
    counts = writer.save(frame_of_lines([foreign, wire(event())], p=b"18", e=b"1", s=b"1"))
    unstamped = writer.save(frame_of_lines([end(PRODUCER, [[EPOCH, 9]])]))

    assert (counts.n_new, counts.n_bad, unstamped.n_bad) == (1, 1, 1)
    assert [one.reason for one in shard.letters()] == ["invalid_report", "invalid_report"]
    assert shard.letters()[0].raw == foreign
    found = known(shard)
    assert (found.declared, found.is_ended, found.missing) == (set(), False, {1, 2, 3, 4})


def test_a_report_that_collides_with_a_stored_event_does_not_count(
    writer: Writer, shard: Shard
) -> None:
    stored = event()
    writer.save(frame_of_lines([wire(stored)], **STAMP, s=b"5"))
    forged = event(
        id=stored["id"],
        source="audit",
        action="audit.producer.loss",
        metadata={"producer_id": PRODUCER, "epoch": EPOCH, "reason": "x", "ranges": [[1, 4]]},
    ) | {"timestamp": stored["timestamp"]}

    counts = writer.save(frame_of_lines([wire(forged)], **REPORT_STAMP))

    assert counts.dead_by_reason == {"id_collision": 1}
    assert known(shard).missing == {1, 2, 3, 4}


def test_a_report_that_the_database_refuses_does_not_count(writer: Writer, shard: Shard) -> None:
    shard.sql.execute(
        b"alter table audit.event add constraint no_loss check (action <> 'audit.producer.loss')"
    )
    writer.save(frame_of_lines([wire(event())], **STAMP, s=b"5"))

    writer.save(frame_of_lines([loss(PRODUCER, EPOCH, [[1, 4]])], **REPORT_STAMP))

    assert known(shard).missing == {1, 2, 3, 4}
    assert known(shard, CONTROL).dead == {1}


def test_a_late_report_counts_because_its_event_is_kept(writer: Writer, shard: Shard) -> None:
    writer.save(frame_of_lines([wire(event())], **STAMP, s=b"5"))
    moment = datetime.now(UTC) - timedelta(days=40)
    metadata = {"producer_id": PRODUCER, "epoch": EPOCH, "reason": "x", "ranges": [[1, 4]]}
    late = event(timestamp=moment, source="audit", action="audit.producer.loss", metadata=metadata)

    counts = writer.save(frame_of_lines([wire(late)], **REPORT_STAMP))

    assert counts.n_late == 1
    assert known(shard).missing == set()


def test_a_stored_event_that_comes_again_after_the_seal_is_not_counted_late(
    make_writer: Callable[..., Writer], shard: Shard
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    frame = frame_of_lines([wire(event(timestamp=yesterday))], **STAMP, s=b"1")
    make_writer().save(frame)
    name = f"event_{yesterday:%Y%m%d}"
    shard.sql.execute(f"update audit.partition set state = 'sealed' where name = '{name}'".encode())
    after_the_seal = make_writer()
    fresh = [wire(event()), wire(event(timestamp=yesterday))]
    after_the_seal.save(frame_of_lines(fresh, **STAMP, s=b"2"))

    after_the_seal.save(frame)

    assert (known(shard).got, known(shard).late) == ({1, 2, 3}, {3})


def test_a_row_whose_partition_is_gone_is_counted_late(writer: Writer, shard: Shard) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    shard.sql.execute(f"drop table audit.event_{yesterday:%Y%m%d}".encode())

    lines = [wire(event()), wire(event(timestamp=yesterday)), wire(event())]
    writer.save(frame_of_lines(lines, **STAMP, s=b"1"))

    assert (known(shard).got, known(shard).late) == ({1, 2, 3}, {2})


def test_an_entry_of_an_unknown_version_is_dead_as_a_whole(writer: Writer, shard: Shard) -> None:
    writer.save(frame_of_lines([wire(event()), wire(event())], **STAMP, s=b"4", v=b"9"))

    assert (known(shard).got, known(shard).dead) == ({4, 5}, {4, 5})


def test_an_end_without_numbers_leaves_nothing_open(writer: Writer, shard: Shard) -> None:
    lines = [end(PRODUCER, [[EPOCH, 0]], unclean=True)]
    writer.save(frame_of_lines(lines, **REPORT_STAMP))
    shard.sql.execute(b"select audit.fold_ranges()")

    found = known(shard)

    assert (found.max_seq, found.is_ended, found.is_unclean) == (0, True, True)
    assert (found.got, found.missing) == (set(), set())


def test_declared_numbers_are_kept_by_reason(writer: Writer, shard: Shard) -> None:
    lines = [
        loss(PRODUCER, EPOCH, [[1, 2]], reason="shed"),
        loss(PRODUCER, EPOCH, [[5, 5], [3, 3]], reason="spool_full"),
        loss(PRODUCER, EPOCH, [[9, 9]], reason="shed"),
    ]
    writer.save(frame_of_lines(lines, **REPORT_STAMP))
    shard.sql.execute(b"select audit.fold_ranges()")
    writer.save(
        frame_of_lines(
            [loss(PRODUCER, EPOCH, [[10, 10]], reason="shed")], **REPORT_STAMP | {"s": b"4"}
        )
    )
    shard.sql.execute(b"select audit.fold_ranges()")

    found = shard.rows(
        "select reason, r::text from audit.producer_numbers where kind = 'declared' order by reason"
    )

    assert found == [("shed", "{[1,3),[9,11)}"), ("spool_full", "{[3,4),[5,6)}")]


def test_of_counts_of_policies_the_highest_stays(writer: Writer, shard: Shard) -> None:
    for number, count in enumerate((5, 12, 9), start=1):
        line = sampled(PRODUCER, CONTROL, [["web", "view", "sampled", count]])
        writer.save(frame_of_lines([line], **REPORT_STAMP | {"s": b"%d" % number}))

    assert shard.rows("select * from audit.producer_sampled") == [
        (PRODUCER, CONTROL, "web", "view", "sampled", 12)
    ]


def test_the_name_of_a_producer_is_kept_for_people(writer: Writer, shard: Shard) -> None:
    line = report("end", producer_id=PRODUCER, ended=[], unclean=False, name="billing on web-1")
    writer.save(frame_of_lines([line], **REPORT_STAMP))

    assert shard.rows("select producer_id, name from audit.producer_name") == [
        (PRODUCER, "billing on web-1")
    ]


def test_events_without_numbers_are_counted_in_their_batch(writer: Writer, shard: Shard) -> None:
    writer.save(frame_of_lines([wire(event()), b"{"]))
    writer.save(frame_of_lines([wire(event())], **STAMP, s=b"1"))

    assert shard.rows("select n_unstamped from audit.ingest_batch order by 1") == [(0,), (2,)]
