"""Rows that PostgreSQL refuses are isolated, their neighbours stored, their bytes kept."""

import pytest

from audit_platform.events.copy_rows import halves
from audit_platform.events.ledger import StorePath
from tests.factories import event, wire
from tests.integration.events.shard import Shard
from tests.integration.events.store import Writer, frame_of, frame_of_lines

pytestmark = pytest.mark.integration

POISON = "poison"


def _refuse_poison(shard: Shard) -> None:
    shard.sql.execute(
        f"alter table audit.event add constraint no_poison check (action <> '{POISON}')".encode()
    )


def test_one_poison_row_in_ten_thousand_costs_one_more_copy(writer: Writer, shard: Shard) -> None:
    _refuse_poison(shard)
    events = [event() for _ in range(9_999)]
    poison = wire(event(action=POISON))
    lines = [wire(one) for one in events]
    lines.insert(4_321, poison)

    counts = writer.save(frame_of_lines(lines))

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

    counts = writer.save(frame_of(mixed[:1_000]))
    more = writer.save(frame_of(mixed[1_000:]))

    assert counts.n_bad + more.n_bad == 100
    assert shard.stored_ids() == sorted(one["id"] for one in good)
    assert {one.raw for one in shard.letters()} == {wire(one) for one in poison}


def test_poison_beside_redelivered_rows_is_isolated_on_the_merge_path(
    writer: Writer, shard: Shard
) -> None:
    """No line is named by an insert from the stage; the row is found by bisecting."""
    known = [event() for _ in range(100)]
    writer.save(frame_of(known))
    _refuse_poison(shard)
    # The key order puts a known row before the poison: 23505 comes first.
    poison, new = event(tenant_id="zebra", action=POISON), event(tenant_id="zebra")

    counts = writer.save(frame_of([*known, poison, new]))

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

    counts = writer.save(frame_of([*good, swallowed]))

    assert (counts.n_new, counts.n_bad) == (20, 1)
    assert [one.raw for one in shard.letters()] == [wire(swallowed)]


def test_dead_letters_of_a_second_half_keep_their_own_bytes(writer: Writer, shard: Shard) -> None:
    _refuse_poison(shard)
    events = [event(tenant_id="a"), event(tenant_id="b"), event(tenant_id="c", action=POISON)]

    for part in halves(frame_of(events)):
        writer.save(part)

    assert [one.raw for one in shard.letters()] == [wire(events[2])]


def test_dead_letters_are_unreadable_at_rest(writer: Writer, shard: Shard) -> None:
    writer.save(frame_of_lines([b'{"canary": "s3cr3t"']))

    stored = shard.rows("select raw, raw_digest, detail from audit.dead_letter")[0]

    assert all(b"s3cr3t" not in bytes(str(part), "utf-8") for part in stored)
    assert [one.raw for one in shard.letters()] == [b'{"canary": "s3cr3t"']
