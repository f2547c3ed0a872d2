"""Completeness with every row counted: it holds wherever rows lie, and loss is found there too.

Whatever moves a day, its numbers are counted once; what somebody took from an archive is named.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest

from audit_platform.archive.store import open_store, read_bytes, write_bytes
from audit_platform.db.pool import OWNER_ROLE, Connection, connected
from audit_platform.errors import ArchiveDamaged, ArchiveMissing
from audit_platform.events.completeness import read_completeness
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import mark_detach_started
from audit_platform.retention.restore import restore_day
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.factories import event, wire
from tests.integration.events.shard import Shard
from tests.integration.retention.commands import run
from tests.integration.retention.counting import (
    EPOCH,
    PRODUCER,
    ROWS,
    account,
    numbered_day,
    places,
    read,
    send,
)
from tests.integration.retention.detaching import half_detached
from tests.integration.retention.lives import Life, live, row_of
from tests.integration.retention.merging import DAY, Merging

pytestmark = pytest.mark.integration


@pytest.fixture
def merging(
    database: Database, maint: Connection, settings: Settings, shard: Shard, tmp_path: Path
) -> Merging:
    """A day with forty rows of one producer."""
    return numbered_day(database, maint, settings, shard, tmp_path)


def assert_whole(merging: Merging, rows: int = ROWS) -> None:
    """Every number has its row, each row is counted once, and nothing needs an excuse."""
    found = read(merging)
    one, check = account(found)
    assert found.is_complete, check
    assert (check.without_row, check.without_ledger, check.is_excused) == ((), (), False)
    assert (one.accepted, check.rows) == (rows, rows)


def test_numbers_are_complete_in_every_state(merging: Merging) -> None:
    assert_whole(merging)
    for moment, state in zip(
        merging.life.moments, (State.VERIFIED, State.DETACHED, State.DROPPED), strict=True
    ):
        live(merging.conn, merging.life, now=moment)
        assert row_of(merging.conn, merging.life).state is state
        assert_whole(merging)


def test_without_the_archive_its_numbers_have_no_row(merging: Merging) -> None:
    """What the reader of files is there for: PostgreSQL alone calls a healthy log incomplete."""
    merging.bring_to(State.DROPPED)

    with connected(merging.database.maint_url, application="test", role=OWNER_ROLE) as connection:
        found = read_completeness(connection, is_verified=True)

    assert account(found)[1].without_row == ((1, ROWS),)


def test_rows_are_counted_once_while_the_detach_is_under_way(merging: Merging) -> None:
    """The border has moved: first the table is still attached, then half detached."""
    merging.bring_to(State.VERIFIED)
    with half_detached(merging.database, merging.conn, merging.life):
        assert_whole(merging)
    live(merging.conn, merging.life, now=merging.life.dropping)
    assert_whole(merging)


def test_rows_of_a_table_that_is_still_attached_are_the_files(merging: Merging) -> None:
    merging.bring_to(State.VERIFIED)

    assert mark_detach_started(merging.conn, merging.life.name)

    assert_whole(merging)


@pytest.mark.parametrize("state", [State.DETACHED, State.DROPPED])
@pytest.mark.parametrize("attach", [False, True])
def test_a_restored_day_is_counted_once(merging: Merging, state: State, *, attach: bool) -> None:
    merging.bring_to(state)
    row, store = row_of(merging.conn, merging.life), merging.life.context().store

    restore_day(merging.conn, row, store, attach=attach, now=merging.life.dropping)

    assert_whole(merging)


def test_late_rows_are_counted_before_and_after_their_merge(merging: Merging, shard: Shard) -> None:
    merging.bring_to(State.DROPPED)
    send(shard, merging.late_events(6), first=ROWS + 1)
    assert_whole(merging, ROWS + 6)

    (report,) = merging.merge()

    assert report.added == 6
    assert row_of(merging.conn, merging.life).state is State.OPEN
    assert_whole(merging, ROWS + 6)
    for days in (2, 40, 50):
        live(merging.conn, merging.life, now=merging.life.dropping + days * DAY)
    assert row_of(merging.conn, merging.life).state is State.DROPPED
    assert_whole(merging, ROWS + 6)


def data_file(life: Life) -> str:
    """Path of the only file, below either copy."""
    (path,) = life.archive.rglob("*.parquet")
    return path.relative_to(life.archive).as_posix()


def without_first_row(life: Life) -> bytes:
    """The file without the row of number 1, written as the export writes."""
    table = pq.read_table(
        io.BytesIO(read_bytes(open_store(life.archive.as_uri()), data_file(life)))
    )
    sink = io.BytesIO()
    numbers = table.column("producer_seq").to_pylist()
    pq.write_table(table.take([n for n, number in enumerate(numbers) if number != 1]), sink)
    return sink.getvalue()


def remove(path: Path, _life: Life) -> None:
    path.unlink()


def put_another(path: Path, life: Life) -> None:
    path.write_bytes(without_first_row(life))


@pytest.mark.parametrize(
    ("harm", "error"), [(remove, ArchiveMissing), (put_another, ArchiveDamaged)]
)
def test_a_file_without_a_good_copy_is_an_error_that_names_it(
    merging: Merging,
    settings: Settings,
    harm: Callable[[Path, Life], None],
    error: type[Exception],
) -> None:
    merging.bring_to(State.DROPPED)
    life, path = merging.life, data_file(merging.life)
    harm(life.copy / path, life)
    assert_whole(merging)
    harm(life.archive / path, life)

    with pytest.raises(error, match=path.rsplit("/", 1)[-1]) as caught:
        read(merging)

    assert "second copy" in str(caught.value)
    result = run(settings, "completeness", "--verify", **places(life))
    assert (result.exit_code, type(result.exception)) == (1, error)
    assert "without a row" not in result.output


@pytest.mark.parametrize("harm", [remove, put_another])
def test_the_second_copy_is_counted_where_the_first_is_bad(
    merging: Merging, harm: Callable[[Path, Life], None]
) -> None:
    merging.bring_to(State.DROPPED)
    harm(merging.life.archive / data_file(merging.life), merging.life)

    assert_whole(merging)


def test_a_row_taken_from_file_and_record_is_named(
    merging: Merging, settings: Settings, shard: Shard
) -> None:
    """By someone who may write both: the file is what its entry says, the ledger knows better."""
    merging.bring_to(State.DROPPED)
    forge(merging)

    one, check = account(read(merging))

    assert not one.is_complete
    assert (check.rows, check.without_row, check.is_excused) == (ROWS - 1, ((1, 1),), False)
    result = run(settings, "completeness", "--verify", **places(merging.life))
    assert result.exit_code == 1
    assert f"{PRODUCER}:{EPOCH} (open): without a row 1" in result.output
    assert run(settings, "completeness", **places(merging.life)).exit_code == 0
    shard.add_batch([wire(event())], p=18, e=1, s=1)
    shard.drain()
    only = run(settings, "completeness", "--verify", "--producer", "18", **places(merging.life))
    assert only.exit_code == 0, only.output


def forge(merging: Merging) -> None:
    """Take the row of number 1 out of both copies, and change the record to suit."""
    path, data = data_file(merging.life), without_first_row(merging.life)
    sha256 = {
        write_bytes(open_store(root.as_uri()), path, data)
        for root in (merging.life.archive, merging.life.copy)
    }.pop()
    changed = {"sha256": sha256, "bytes": len(data), "rows": ROWS - 1}
    with psycopg.connect(merging.database.admin_url) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute(
            "update audit.partition set files = jsonb_build_array(files -> 0 || %s::jsonb)"
            " where name = %s",
            [json.dumps(changed), merging.life.name],
        )
