"""Rows that no open partition takes are kept as late, also when that changes on the way."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.factories import event
from tests.integration.events.shard import Shard
from tests.integration.events.store import Writer, frame_of

pytestmark = pytest.mark.integration


def test_a_late_row_with_another_content_is_a_collision_too(writer: Writer, shard: Shard) -> None:
    first = event(timestamp=datetime.now(UTC) - timedelta(days=40))
    writer.save(frame_of([first]))
    forged = first | {"action": "user.delete"}

    counts = writer.save(frame_of([forged]))

    assert (counts.n_late, counts.n_dup, counts.n_bad) == (0, 0, 1)
    assert [one.reason for one in shard.letters()] == ["id_collision"]


def test_rows_without_a_partition_are_late(writer: Writer, shard: Shard) -> None:
    old = event(timestamp=datetime.now(UTC) - timedelta(days=400))

    counts = writer.save(frame_of([old, event()]))

    assert (counts.n_new, counts.n_late) == (1, 1)
    assert shard.late() == {old["id"]: "no_partition"}


def test_rows_for_a_partition_sealed_meanwhile_are_late(writer: Writer, shard: Shard) -> None:
    """The store knows the partition as open; only the trigger tells that it was sealed."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    writer.save(frame_of([event(timestamp=yesterday)]))
    _seal(shard, yesterday)
    late = event(timestamp=yesterday)

    counts = writer.save(frame_of([late, event()]))

    assert (counts.n_new, counts.n_late) == (1, 1)
    assert shard.late() == {late["id"]: "sealed"}


def test_a_late_row_whose_key_is_stored_is_a_duplicate(writer: Writer, shard: Shard) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    first = event(timestamp=yesterday)
    writer.save(frame_of([first]))
    _seal(shard, yesterday)

    counts = writer.save(frame_of([first]))

    assert (counts.n_new, counts.n_late, counts.n_dup) == (0, 0, 1)
    assert shard.late() == {}


def test_a_partition_made_meanwhile_is_used(writer: Writer, shard: Shard) -> None:
    """An import opens the day it needs while a drain runs with the ranges it knew before."""
    moment = datetime.now(UTC) - timedelta(days=50)
    writer.save(frame_of([event()]))
    _create_day(shard, moment)

    counts = writer.save(frame_of([event(timestamp=moment)]))

    assert (counts.n_new, counts.n_late) == (1, 0)


def test_a_registered_partition_that_is_gone_makes_its_rows_late(
    writer: Writer, shard: Shard
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    shard.sql.execute(f"drop table audit.event_{yesterday:%Y%m%d}".encode())
    homeless = event(timestamp=yesterday)

    counts = writer.save(frame_of([homeless, event()]))

    assert (counts.n_new, counts.n_late) == (1, 1)
    assert shard.late() == {homeless["id"]: "no_partition"}


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
