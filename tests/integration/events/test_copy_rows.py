"""One batch in one transaction: conservation, redelivery, collisions, late rows, poison, ledger."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from audit_platform.db.pool import Connection, connect
from audit_platform.errors import FenceLost, LockNotAvailable, PermissionRefused
from audit_platform.events import lease as leases
from audit_platform.events.copy_rows import RowStore, TransactionLimits, halves
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.frame import FrameResult, to_frame
from audit_platform.events.ledger import BatchContext, BatchCounts, StorePath
from audit_platform.events.normalise import FrameLimits
from audit_platform.events.stream import StreamEntry
from audit_platform.integrity.merkle import merkle_root
from tests.conftest import KEY, Database
from tests.factories import event, wire
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.integration

LIMITS = FrameLimits(
    max_event_bytes=65_536, max_json_depth=32, max_json_keys=256, future_tolerance_s=300
)
POISON = "poison"


class CountingCursor(psycopg.Cursor[Any]):
    """Counts COPY commands of its connection."""

    copies = 0

    def copy(self, *arguments: Any, **options: Any) -> Any:
        type(self).copies += 1
        return super().copy(*arguments, **options)


@dataclass(slots=True, kw_only=True)
class Writer:
    """A store with its own connection and lease."""

    store: RowStore
    connection: Connection
    fence: int
    cursor: type[CountingCursor] = field(default=CountingCursor)

    def save(self, frame: FrameResult, *, batch_id: str | None = None) -> BatchCounts:
        context = BatchContext(
            batch_id=batch_id or str(uuid4()), shard=0, run_id="run-1", fence=self.fence
        )
        return self.store.store(frame, context)


def _frame(lines: Sequence[bytes], **fields: bytes) -> FrameResult:
    now = datetime.now(UTC)
    milliseconds = int(now.timestamp() * 1000)
    batch = {b"v": b"1", b"n": str(len(lines)).encode(), b"events": b"\n".join(lines)}
    batch[b"t"] = str(milliseconds).encode()
    batch |= {name.encode(): value for name, value in fields.items()}
    entry = StreamEntry(entry_id=f"{milliseconds}-0", fields=batch)
    return to_frame([entry], stream="audit:{0}:events", now=now, limits=LIMITS)


def _frame_of(events: Sequence[dict[str, Any]], **fields: bytes) -> FrameResult:
    return _frame([wire(one) for one in events], **fields)


@pytest.fixture
def make_writer(database: Database) -> Iterator[Callable[[], Writer]]:
    connections: list[Connection] = []

    def make(limits: TransactionLimits | None = None) -> Writer:
        connection = connect(database.writer_url, application="store test")
        connections.append(connection)
        cursor = type("Counting", (CountingCursor,), {"copies": 0})
        connection.cursor_factory = cursor
        lease = leases.take(connection, shard=0, run_id="run-1", ttl_s=30, dead_run_id="run-1")
        assert lease is not None
        store = RowStore(lambda: connection, DeadLetterVault.of_base64(KEY), limits)
        return Writer(store=store, connection=connection, fence=lease.fence, cursor=cursor)

    yield make
    for connection in connections:
        connection.close()


@pytest.fixture
def writer(make_writer: Callable[[], Writer]) -> Writer:
    return make_writer()


def _refuse_poison(shard: Shard) -> None:
    shard.sql.execute(
        f"alter table audit.event add constraint no_poison check (action <> '{POISON}')".encode()
    )


def _mixture() -> list[bytes]:
    twin = wire(event())
    old = datetime.now(UTC) - timedelta(days=40)
    return [wire(event()) for _ in range(5)] + [twin, twin, wire(event(timestamp=old)), b"{"]


def test_a_batch_obeys_the_conservation_law(writer: Writer, shard: Shard) -> None:
    counts = writer.save(_frame(_mixture()))

    assert counts.path is StorePath.COPY
    assert (counts.n_new, counts.n_dup, counts.n_late, counts.n_bad) == (6, 1, 1, 1)
    assert shard.ledger() == {"n_read": 9, "n_new": 6, "n_dup": 1, "n_late": 1, "n_bad": 1}
    assert len(shard.stored_ids()) == 6
    assert len(shard.late()) == 1


def test_a_replayed_batch_inserts_nothing(writer: Writer, shard: Shard) -> None:
    frame = _frame(_mixture())
    writer.save(frame)
    before = shard.stored_ids(), shard.late(), shard.letters()

    counts = writer.save(frame)

    assert counts.path is StorePath.MERGE
    assert (counts.n_new, counts.n_dup, counts.n_late, counts.n_bad) == (0, 8, 0, 1)
    assert (shard.stored_ids(), shard.late(), shard.letters()) == before


def test_a_replay_with_new_events_adds_the_new_ones_only(writer: Writer, shard: Shard) -> None:
    old = [event() for _ in range(50)]
    writer.save(_frame_of(old))
    new = [event() for _ in range(50)]

    counts = writer.save(_frame_of(old + new))

    assert (counts.n_new, counts.n_dup) == (50, 50)
    assert shard.stored_ids() == sorted(one["id"] for one in old + new)


def test_an_id_with_another_content_in_a_later_batch_is_a_collision(
    writer: Writer, shard: Shard
) -> None:
    first = event()
    writer.save(_frame_of([first]))
    forged = wire(first | {"action": "user.delete"})

    counts = writer.save(_frame([forged, wire(event())]))

    assert (counts.n_new, counts.n_dup, counts.n_bad) == (1, 0, 1)
    assert [(one.reason, one.raw, one.line_no) for one in shard.letters()] == [
        ("id_collision", forged, 1)
    ]
    assert shard.rows(f"select action from audit.event where id = '{first['id']}'") == [
        (first["action"],)
    ]


def test_a_late_row_with_another_content_is_a_collision_too(writer: Writer, shard: Shard) -> None:
    first = event(timestamp=datetime.now(UTC) - timedelta(days=40))
    writer.save(_frame_of([first]))
    forged = first | {"action": "user.delete"}

    counts = writer.save(_frame_of([forged]))

    assert (counts.n_late, counts.n_dup, counts.n_bad) == (0, 0, 1)
    assert [one.reason for one in shard.letters()] == ["id_collision"]


def test_the_same_event_with_another_stamp_is_a_duplicate(writer: Writer) -> None:
    one = event()
    writer.save(_frame_of([one], p=b"1", e=b"2", s=b"3"))

    counts = writer.save(_frame_of([one], p=b"7", e=b"8", s=b"9"))

    assert (counts.n_dup, counts.n_bad) == (1, 0)


def test_rows_without_a_partition_are_late(writer: Writer, shard: Shard) -> None:
    old = event(timestamp=datetime.now(UTC) - timedelta(days=400))

    counts = writer.save(_frame_of([old, event()]))

    assert (counts.n_new, counts.n_late) == (1, 1)
    assert shard.late() == {old["id"]: "no_partition"}


def test_rows_for_a_partition_sealed_meanwhile_are_late(writer: Writer, shard: Shard) -> None:
    """The store knows the partition as open; only the trigger tells that it was sealed."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    writer.save(_frame_of([event(timestamp=yesterday)]))
    _seal(shard, yesterday)
    late = event(timestamp=yesterday)

    counts = writer.save(_frame_of([late, event()]))

    assert (counts.n_new, counts.n_late) == (1, 1)
    assert shard.late() == {late["id"]: "sealed"}


def test_a_late_row_whose_key_is_stored_is_a_duplicate(writer: Writer, shard: Shard) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    first = event(timestamp=yesterday)
    writer.save(_frame_of([first]))
    _seal(shard, yesterday)

    counts = writer.save(_frame_of([first]))

    assert (counts.n_new, counts.n_late, counts.n_dup) == (0, 0, 1)
    assert shard.late() == {}


def test_a_partition_made_meanwhile_is_used(writer: Writer, shard: Shard) -> None:
    """An import opens the day it needs while a drain runs with the ranges it knew before."""
    moment = datetime.now(UTC) - timedelta(days=50)
    writer.save(_frame_of([event()]))
    _create_day(shard, moment)

    counts = writer.save(_frame_of([event(timestamp=moment)]))

    assert (counts.n_new, counts.n_late) == (1, 0)


def test_a_registered_partition_that_is_gone_makes_its_rows_late(
    writer: Writer, shard: Shard
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    shard.sql.execute(f"drop table audit.event_{yesterday:%Y%m%d}".encode())
    homeless = event(timestamp=yesterday)

    counts = writer.save(_frame_of([homeless, event()]))

    assert (counts.n_new, counts.n_late) == (1, 1)
    assert shard.late() == {homeless["id"]: "no_partition"}


def test_one_poison_row_in_ten_thousand_costs_one_more_copy(writer: Writer, shard: Shard) -> None:
    _refuse_poison(shard)
    events = [event() for _ in range(9_999)]
    poison = wire(event(action=POISON))
    lines = [wire(one) for one in events]
    lines.insert(4_321, poison)

    counts = writer.save(_frame(lines))

    assert (counts.n_read, counts.n_new, counts.n_bad) == (10_000, 9_999, 1)
    assert writer.cursor.copies == 2
    assert shard.stored_ids() == sorted(one["id"] for one in events)
    assert [(one.reason, one.raw, one.line_no) for one in shard.letters()] == [
        ("refused_by_database", poison, 4_322)
    ]


def test_more_poison_rows_than_are_worth_a_copy_each_are_bisected(
    writer: Writer, shard: Shard
) -> None:
    _refuse_poison(shard)
    good = [event() for _ in range(1_900)]
    poison = [event(action=POISON) for _ in range(100)]
    mixed = sorted(good + poison, key=lambda one: one["id"][::-1])

    counts = writer.save(_frame_of(mixed[:1_000]))
    more = writer.save(_frame_of(mixed[1_000:]))

    assert counts.n_bad + more.n_bad == 100
    assert shard.stored_ids() == sorted(one["id"] for one in good)
    assert {one.raw for one in shard.letters()} == {wire(one) for one in poison}


def test_poison_beside_redelivered_rows_is_isolated_on_the_merge_path(
    writer: Writer, shard: Shard
) -> None:
    """No line is named by an insert from the stage; the row is found by bisecting."""
    known = [event() for _ in range(100)]
    writer.save(_frame_of(known))
    _refuse_poison(shard)
    # The key order puts a known row before the poison: 23505 comes first.
    poison, new = event(tenant_id="zebra", action=POISON), event(tenant_id="zebra")

    counts = writer.save(_frame_of([*known, poison, new]))

    assert counts.path is StorePath.MERGE
    assert (counts.n_new, counts.n_dup, counts.n_bad) == (1, 100, 1)
    assert [one.raw for one in shard.letters()] == [wire(poison)]


def test_a_row_that_vanishes_on_the_way_is_noticed_by_the_row_count(
    writer: Writer, shard: Shard
) -> None:
    """Stands for any way in which COPY ends with success and fewer rows than were sent."""
    shard.sql.execute(
        b"create function swallow() returns trigger language plpgsql as $$ begin"
        b" if new.action = 'poison' then return null; end if; return new; end $$;"
        b"create trigger swallow before insert on audit.event"
        b" for each row execute function swallow()"
    )
    good, swallowed = [event() for _ in range(20)], event(action=POISON)

    counts = writer.save(_frame_of([*good, swallowed]))

    assert (counts.n_new, counts.n_bad) == (20, 1)
    assert [one.raw for one in shard.letters()] == [wire(swallowed)]


def test_a_batch_whose_commit_was_believed_lost_counts_once(writer: Writer, shard: Shard) -> None:
    frame, batch_id = _frame(_mixture()), str(uuid4())
    first = writer.save(frame, batch_id=batch_id)

    again = writer.save(frame, batch_id=batch_id)

    assert again == first
    assert shard.ledger()["n_read"] == frame.n_read
    assert len(shard.rows("select from audit.ingest_batch")) == 1


def test_the_ledger_holds_the_root_over_the_stored_leaves(writer: Writer, shard: Shard) -> None:
    frame = _frame(_mixture())
    writer.save(frame)

    leaves = [row[0] for row in shard.rows("select leaf_hash from audit.event_all")]
    roots = [row[0] for row in shard.rows("select root from audit.ingest_batch")]

    assert roots == [merkle_root(sorted(leaves))]


def test_a_batch_of_bad_events_alone_has_a_ledger_row_without_root(
    writer: Writer, shard: Shard
) -> None:
    counts = writer.save(_frame([b"{", b"[1]"]))

    assert (counts.n_read, counts.n_bad) == (2, 2)
    assert shard.rows("select root from audit.ingest_batch") == [(None,)]


def test_arrived_numbers_are_recorded_whatever_became_of_their_events(
    writer: Writer, shard: Shard
) -> None:
    lines = _mixture()

    writer.save(_frame(lines, p=b"17", e=b"4242", s=b"101"))

    assert shard.rows("select producer_id, epoch, kind, r::text from audit.ingest_range") == [
        (17, 4242, "got", f"{{[101,{101 + len(lines)})}}")
    ]


def test_stored_rows_name_their_batch_and_moment(writer: Writer, shard: Shard) -> None:
    batch_id = str(uuid4())
    counts = writer.save(_frame_of([event()]), batch_id=batch_id)

    rows = shard.rows(
        "select e.batch_id::text, e.ingested_at <= b.committed_at, e.ingested_at >= e.received_at"
        " from audit.event e join audit.ingest_batch b using (batch_id)"
    )

    assert rows == [(batch_id, True, True)]
    assert len(counts.lags_s) == 1
    assert 0 <= counts.lags_s[0] < 60


def test_dead_letters_are_unreadable_at_rest(writer: Writer, shard: Shard) -> None:
    writer.save(_frame([b'{"canary": "s3cr3t"']))

    stored = shard.rows("select raw, raw_digest, detail from audit.dead_letter")[0]

    assert all(b"s3cr3t" not in bytes(str(part), "utf-8") for part in stored)
    assert [one.raw for one in shard.letters()] == [b'{"canary": "s3cr3t"']


def test_halves_of_a_batch_together_obey_the_conservation_law(writer: Writer, shard: Shard) -> None:
    frame = _frame(_mixture(), p=b"1", e=b"2", s=b"3")

    parts = halves(frame)
    for part in parts:
        writer.save(part)

    assert sum(part.n_read for part in parts) == frame.n_read
    assert shard.ledger() == {"n_read": 9, "n_new": 6, "n_dup": 1, "n_late": 1, "n_bad": 1}


def test_dead_letters_of_a_second_half_keep_their_own_bytes(writer: Writer, shard: Shard) -> None:
    _refuse_poison(shard)
    events = [event(tenant_id="a"), event(tenant_id="b"), event(tenant_id="c", action=POISON)]

    for part in halves(_frame_of(events)):
        writer.save(part)

    assert [one.raw for one in shard.letters()] == [wire(events[2])]


def test_a_zombie_adds_no_row(
    writer: Writer, make_writer: Callable[[], Writer], shard: Shard
) -> None:
    successor = make_writer()

    with pytest.raises(FenceLost):
        writer.save(_frame_of([event()]))
    successor.save(_frame_of([event()]))

    assert len(shard.stored_ids()) == 1
    assert len(shard.rows("select from audit.ingest_batch")) == 1


def test_a_duplicate_in_an_open_transaction_is_waited_for_within_bounds(
    make_writer: Callable[..., Writer], shard: Shard, database: Database
) -> None:
    writer = make_writer(TransactionLimits(lock_timeout="200ms"))
    frame = _frame_of([event()])
    writer.save(frame)
    columns = "id, timestamp, received_at, ingested_at, batch_id, actor_type, leaf_hash,"
    columns += " tenant_id, source, action"
    with psycopg.connect(database.admin_url) as rival:
        # An uncommitted copy of the row under the same key, as another run would hold it.
        rival.execute(f"create temporary table kept as select {columns} from audit.event".encode())
        rival.execute(b"delete from audit.event")
        rival.commit()
        rival.execute(f"insert into audit.event ({columns}) select * from kept".encode())
        with pytest.raises(LockNotAvailable):
            writer.save(frame)
        rival.commit()
    counts = writer.save(frame)

    assert (counts.n_new, counts.n_dup) == (0, 1)
    assert len(shard.stored_ids()) == 1


def test_a_missing_right_is_no_reason_to_try_again(writer: Writer, shard: Shard) -> None:
    shard.sql.execute(b"revoke insert on audit.ingest_batch from audit_writer")

    with pytest.raises(PermissionRefused):
        writer.save(_frame_of([event()]))

    assert shard.stored_ids() == []


def _seal(shard: Shard, moment: datetime) -> None:
    name = f"event_{moment:%Y%m%d}"
    shard.sql.execute(
        b"create or replace function audit.refuse_sealed() returns trigger language plpgsql as"
        b" $$ begin raise exception 'sealed' using errcode = '55000'; end $$"
    )
    shard.sql.execute(
        f"create trigger sealed_row before insert on audit.{name}"
        f" for each row execute function audit.refuse_sealed()".encode()
    )
    shard.sql.execute(f"update audit.partition set state = 'sealed' where name = '{name}'".encode())


def _create_day(shard: Shard, moment: datetime) -> None:
    name, day = f"event_{moment:%Y%m%d}", moment.date()
    bounds = f"'{day} 00:00+00'", f"'{day + timedelta(days=1)} 00:00+00'"
    shard.sql.execute(
        f"create table audit.{name} partition of audit.event"
        f" for values from ({bounds[0]}) to ({bounds[1]})".encode()
    )
    shard.sql.execute(
        f"insert into audit.partition (name, lo, hi)"
        f" values ('{name}', {bounds[0]}, {bounds[1]})".encode()
    )
