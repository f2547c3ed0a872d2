"""The ledger against the rows of one partition: what is found, what is left open."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from audit_platform.db.pool import Connection
from audit_platform.retention.partition_ledger import PartitionLedger, compare_partition
from audit_platform.retention.partition_states import Step
from tests.conftest import Database
from tests.factories import event
from tests.integration.events.store import frame_of, open_writer
from tests.integration.retention.lives import LONG_AGO, Life, begin_life, live
from tests.integration.retention.sealing import put

pytestmark = pytest.mark.integration

ROWS = 150
HOUR = timedelta(hours=1)


@pytest.fixture
def life(database: Database, tmp_path: Path) -> Life:
    return begin_life(database, tmp_path, rows=ROWS)


def compare(maint: Connection, life: Life) -> PartitionLedger:
    maint.execute("set role audit_owner")
    return compare_partition(maint, life.name, lo=life.bounds.lo, hi=life.bounds.hi)


def batch_of(admin: Connection, life: Life) -> UUID:
    row = admin.execute(f"select batch_id from only audit.{life.name} limit 1".encode()).fetchone()
    assert row is not None
    return row[0]


def test_rows_of_the_ingest_job_are_accounted_for(maint: Connection, life: Life) -> None:
    found = compare(maint, life)

    assert found.is_conserved
    assert (found.rows, found.batches, found.unjudged) == (ROWS, 1, 0)
    assert found.verdict == f"{ROWS} rows of 1 batches of {life.name} are accounted for"


def test_empty_partition_is_accounted_for(
    maint: Connection, database: Database, tmp_path: Path
) -> None:
    empty = begin_life(database, tmp_path, rows=0)

    found = compare(maint, empty)

    assert found.is_conserved
    assert (found.rows, found.batches) == (0, 0)


def test_row_written_past_the_ingest_job_is_found(
    maint: Connection, admin: Connection, life: Life
) -> None:
    put(admin, life.bounds.lo + HOUR)

    found = compare(maint, life)

    assert not found.is_conserved
    assert len(found.unknown) == 1
    assert found.unknown[0] in found.verdict


def test_row_added_to_a_batch_afterwards_is_found(
    maint: Connection, admin: Connection, life: Life
) -> None:
    batch = batch_of(admin, life)
    put(admin, life.bounds.lo + HOUR)
    admin.execute(
        f"""update audit.{life.name} set batch_id = %s
            where action = 'test.insert'""".encode(),
        [batch],
    )

    found = compare(maint, life)

    assert found.exceeding == (str(batch),)
    assert "more rows than were stored" in found.verdict


def test_row_deleted_from_a_batch_is_found(
    maint: Connection, admin: Connection, life: Life
) -> None:
    admin.execute(f"delete from audit.{life.name} where id = %s".encode(), [life.ids[3]])

    found = compare(maint, life)

    assert found.short == (str(batch_of(admin, life)),)
    assert "fewer rows than were stored" in found.verdict


@pytest.mark.parametrize("days_apart", [1, 40])
def test_batch_across_partitions_is_counted_in_all_of_them(
    maint: Connection, database: Database, tmp_path: Path, days_apart: int
) -> None:
    """Around midnight to the next partition; an import of sparse history further."""
    first = begin_life(database, tmp_path, rows=0)
    second = begin_life(database, tmp_path, rows=0, day=LONG_AGO + timedelta(days=days_apart))
    writer = open_writer(database.writer_url)
    moments = [first.bounds.hi - HOUR, second.bounds.lo + HOUR]
    assert writer.save(frame_of([event(timestamp=moment) for moment in moments])).n_new == 2
    writer.connection.close()

    for life in (first, second):
        found = compare(maint, life)
        assert found.is_conserved
        assert (found.rows, found.unjudged) == (1, 0)


def test_batch_that_reaches_into_an_archived_partition_is_not_judged(
    maint: Connection, admin: Connection, database: Database, tmp_path: Path
) -> None:
    first = begin_life(database, tmp_path, rows=0)
    second = begin_life(database, tmp_path, rows=0, day=LONG_AGO + timedelta(days=3))
    writer = open_writer(database.writer_url)
    moments = [first.bounds.lo + HOUR, second.bounds.lo + HOUR]
    assert writer.save(frame_of([event(timestamp=moment) for moment in moments])).n_new == 2
    writer.connection.close()
    live(maint, first, now=first.detaching, until=Step.DETACH)
    del admin

    found = compare(maint, second)

    assert found.is_conserved
    assert found.unjudged == 1


def test_late_row_that_was_merged_counts_for_its_batch(
    maint: Connection, admin: Connection, life: Life
) -> None:
    """The batch that set it aside says n_late, not n_new."""
    put(admin, life.bounds.lo + HOUR)
    admin.execute(
        f"""insert into audit.ingest_batch
              (batch_id, shard, n_read, n_new, n_dup, n_late, n_bad)
            select batch_id, 0, 1, 0, 0, 1, 0 from only audit.{life.name}
            where action = 'test.insert'""".encode()
    )

    assert compare(maint, life).is_conserved
