"""One batch in one transaction: conservation, redelivery, collisions, the ledger."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from audit_platform.errors import PermissionRefused
from audit_platform.events.copy_rows import halves
from audit_platform.events.ledger import StorePath
from audit_platform.integrity.merkle import merkle_root
from tests.factories import event, wire
from tests.integration.events.shard import Shard
from tests.integration.events.store import Writer, frame_of, frame_of_lines

pytestmark = pytest.mark.integration


def _mixture() -> list[bytes]:
    twin = wire(event())
    old = datetime.now(UTC) - timedelta(days=40)
    return [wire(event()) for _ in range(5)] + [twin, twin, wire(event(timestamp=old)), b"{"]


def test_a_batch_obeys_the_conservation_law(writer: Writer, shard: Shard) -> None:
    counts = writer.save(frame_of_lines(_mixture()))

    assert counts.path is StorePath.COPY
    assert (counts.n_new, counts.n_dup, counts.n_late, counts.n_bad) == (6, 1, 1, 1)
    assert shard.ledger() == {"n_read": 9, "n_new": 6, "n_dup": 1, "n_late": 1, "n_bad": 1}
    assert len(shard.stored_ids()) == 6
    assert len(shard.late()) == 1


def test_a_replayed_batch_inserts_nothing(writer: Writer, shard: Shard) -> None:
    frame = frame_of_lines(_mixture())
    writer.save(frame)
    before = shard.stored_ids(), shard.late(), shard.letters()

    counts = writer.save(frame)

    assert counts.path is StorePath.MERGE
    assert (counts.n_new, counts.n_dup, counts.n_late, counts.n_bad) == (0, 8, 0, 1)
    assert (shard.stored_ids(), shard.late(), shard.letters()) == before


def test_a_replay_with_new_events_adds_the_new_ones_only(writer: Writer, shard: Shard) -> None:
    old = [event() for _ in range(50)]
    writer.save(frame_of(old))
    new = [event() for _ in range(50)]

    counts = writer.save(frame_of(old + new))

    assert (counts.n_new, counts.n_dup) == (50, 50)
    assert shard.stored_ids() == sorted(one["id"] for one in old + new)


def test_an_id_with_another_content_in_a_later_batch_is_a_collision(
    writer: Writer, shard: Shard
) -> None:
    first = event()
    writer.save(frame_of([first]))
    forged = wire(first | {"action": "user.delete"})

    counts = writer.save(frame_of_lines([forged, wire(event())]))

    assert (counts.n_new, counts.n_dup, counts.n_bad) == (1, 0, 1)
    assert [(one.reason, one.raw, one.line_no) for one in shard.letters()] == [
        ("id_collision", forged, 1)
    ]
    assert shard.rows(f"select action from audit.event where id = '{first['id']}'") == [
        (first["action"],)
    ]


def test_the_same_event_with_another_stamp_is_a_duplicate(writer: Writer) -> None:
    one = event()
    writer.save(frame_of([one], p=b"1", e=b"2", s=b"3"))

    counts = writer.save(frame_of([one], p=b"7", e=b"8", s=b"9"))

    assert (counts.n_dup, counts.n_bad) == (1, 0)


def test_a_batch_whose_commit_was_believed_lost_counts_once(writer: Writer, shard: Shard) -> None:
    frame, batch_id = frame_of_lines(_mixture()), str(uuid4())
    first = writer.save(frame, batch_id=batch_id)

    again = writer.save(frame, batch_id=batch_id)

    assert again == first
    assert shard.ledger()["n_read"] == frame.n_read
    assert len(shard.rows("select from audit.ingest_batch")) == 1


def test_the_ledger_holds_the_root_over_the_stored_leaves(writer: Writer, shard: Shard) -> None:
    frame = frame_of_lines(_mixture())
    writer.save(frame)

    leaves = [row[0] for row in shard.rows("select leaf_hash from audit.event_all")]
    roots = [row[0] for row in shard.rows("select root from audit.ingest_batch")]

    assert roots == [merkle_root(sorted(leaves))]


def test_a_batch_of_bad_events_alone_has_a_ledger_row_without_root(
    writer: Writer, shard: Shard
) -> None:
    counts = writer.save(frame_of_lines([b"{", b"[1]"]))

    assert (counts.n_read, counts.n_bad) == (2, 2)
    assert shard.rows("select root from audit.ingest_batch") == [(None,)]


def test_arrived_numbers_are_recorded_whatever_became_of_their_events(
    writer: Writer, shard: Shard
) -> None:
    lines = _mixture()

    writer.save(frame_of_lines(lines, p=b"17", e=b"4242", s=b"101"))

    found = shard.rows(
        "select producer_id, epoch, kind, r::text from audit.ingest_range order by kind"
    )
    assert found == [
        (17, 4242, "dead", "{[109,110)}"),
        (17, 4242, "got", f"{{[101,{101 + len(lines)})}}"),
        (17, 4242, "late", "{[108,109)}"),
    ]


def test_stored_rows_name_their_batch_and_moment(writer: Writer, shard: Shard) -> None:
    batch_id = str(uuid4())
    counts = writer.save(frame_of([event()]), batch_id=batch_id)

    rows = shard.rows(
        "select e.batch_id::text, e.ingested_at <= b.committed_at, e.ingested_at >= e.received_at"
        " from audit.event e join audit.ingest_batch b using (batch_id)"
    )

    assert rows == [(batch_id, True, True)]
    assert len(counts.lags_s) == 1
    assert 0 <= counts.lags_s[0] < 60


def test_halves_of_a_batch_together_obey_the_conservation_law(writer: Writer, shard: Shard) -> None:
    frame = frame_of_lines(_mixture(), p=b"1", e=b"2", s=b"3")

    parts = halves(frame)
    for part in parts:
        writer.save(part)

    assert sum(part.n_read for part in parts) == frame.n_read
    assert shard.ledger() == {"n_read": 9, "n_new": 6, "n_dup": 1, "n_late": 1, "n_bad": 1}


def test_a_missing_right_is_no_reason_to_try_again(writer: Writer, shard: Shard) -> None:
    shard.sql.execute(b"revoke insert on audit.ingest_batch from audit_writer")

    with pytest.raises(PermissionRefused):
        writer.save(frame_of([event()]))

    assert shard.stored_ids() == []
