"""The record of a partition: each step from the state before it only, and once."""

from datetime import timedelta

import psycopg
import pytest

from audit_platform.archive.manifest import FileEntry
from audit_platform.db.pool import Connection, connected
from audit_platform.retention.lifecycle import as_owner, ensure_partitions
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import (
    list_partitions,
    mark_sealed,
    note_error,
    note_restored,
    read_partition,
    replace_files,
)
from tests.conftest import Database
from tests.integration.retention.recording import (
    CONTENTS,
    DETACHED_AT,
    DROPPED_AT,
    FILE,
    MANIFEST,
    RESULTS,
    STEPS,
    advance,
    detach_started,
    detached,
    dropped,
    exported,
    indexed,
    place_hold,
    rooted,
    sealed,
    verified,
)
from tests.integration.retention.sealing import DAY, DUE, record_of

pytestmark = pytest.mark.integration


@pytest.fixture
def day(maint: Connection) -> None:
    """An open partition."""
    ensure_partitions(maint, [DAY])


@pytest.mark.usefixtures("day")
@pytest.mark.parametrize("taken", range(len(STEPS) + 1))
def test_only_the_next_step_is_recorded_and_only_once(
    maint: Connection, admin: Connection, taken: int
) -> None:
    advance(maint, admin, taken)
    before = record_of(maint)
    assert before.state is (RESULTS[taken - 1] if taken else State.OPEN)

    for number, step in enumerate(STEPS):
        # Indexes may be built before or after the root is known to this list: both are `sealed`.
        may_follow = {taken} | ({taken + 1} if STEPS[taken : taken + 1] == (indexed,) else set())
        if number not in may_follow and not (step is indexed and taken == 1):
            assert not step(maint), step.__name__
            assert record_of(maint) == before, step.__name__


@pytest.mark.usefixtures("day")
def test_whole_life_leaves_every_moment_and_file_in_the_record(
    maint: Connection, admin: Connection
) -> None:
    advance(maint, admin, len(STEPS))

    row = record_of(maint)
    assert (row.state, row.n, row.root, row.files) == (State.DROPPED, 3, CONTENTS.root, (FILE,))
    assert (row.sealed_at, row.exported_at, row.verified_at) == (DUE, DUE, DUE)
    assert (row.detached_at, row.dropped_at) == (DETACHED_AT, DROPPED_AT)
    assert (row.verified_by, row.manifest_sha256) == ("test", MANIFEST)
    assert row.class_of("shop", "order.create") == "billing"


@pytest.mark.usefixtures("day")
def test_step_of_another_generation_is_not_recorded(maint: Connection) -> None:
    """A second copy of the job that worked on what was opened again meanwhile."""
    sealed(maint)
    assert not rooted(maint, generation=2)
    rooted(maint)
    assert not exported(maint, generation=2)
    exported(maint)
    assert not verified(maint, generation=2)
    assert not verified(maint, manifest=b"\x09" * 32)


@pytest.mark.usefixtures("day")
def test_range_that_has_not_ended_for_long_enough_stays_open(maint: Connection) -> None:
    early = DAY.hi - timedelta(microseconds=1)

    assert not mark_sealed(maint, DAY.name, ended_before=early, now=DUE)
    assert mark_sealed(maint, DAY.name, ended_before=DAY.hi, now=DUE)


@pytest.mark.usefixtures("day")
def test_attached_table_is_never_recorded_as_detached(maint: Connection, admin: Connection) -> None:
    advance(maint, admin, STEPS.index(detached))

    assert not detached(maint)


@pytest.mark.usefixtures("day")
@pytest.mark.parametrize(
    "changed", [{"n": 2}, {"leaf_digest": b"\x00" * 32}, {"generation": 2}], ids=str
)
def test_table_with_other_rows_is_never_recorded_as_dropped(
    maint: Connection, admin: Connection, changed: dict[str, int | bytes]
) -> None:
    advance(maint, admin, STEPS.index(dropped))

    assert not dropped(maint, **changed)  # pyright: ignore[reportArgumentType]
    assert dropped(maint)


@pytest.mark.usefixtures("day")
def test_drop_within_seven_days_is_refused_by_the_table_itself(
    maint: Connection, admin: Connection
) -> None:
    advance(maint, admin, STEPS.index(dropped))

    with pytest.raises(psycopg.errors.CheckViolation, match="partition_dropped"):
        admin.execute(
            "update audit.partition set state = 'dropped', dropped_at = %s where name = %s",
            [DROPPED_AT - timedelta(microseconds=1), DAY.name],
        )


@pytest.mark.usefixtures("day")
@pytest.mark.parametrize("state", ["exported", "verified", "detached", "dropped"])
def test_table_itself_refuses_a_skipped_step(admin: Connection, state: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        admin.execute("update audit.partition set state = %s where name = %s", [state, DAY.name])


@pytest.mark.usefixtures("day")
@pytest.mark.parametrize(
    ("keep_hot", "is_released", "may_detach", "may_drop"),
    [
        (True, False, False, False),
        (False, False, True, False),
        (True, True, True, True),
    ],
)
def test_holds_forbid_what_they_must(
    maint: Connection,
    admin: Connection,
    *,
    keep_hot: bool,
    is_released: bool,
    may_detach: bool,
    may_drop: bool,
) -> None:
    advance(maint, admin, STEPS.index(detach_started))
    place_hold(admin, keep_hot=keep_hot, is_released=is_released)

    assert detach_started(maint) is may_detach
    if may_detach:
        admin.execute(f"alter table audit.event detach partition audit.{DAY.name}".encode())
        assert detached(maint)
        assert dropped(maint) is may_drop


@pytest.mark.usefixtures("day")
def test_error_is_noted_until_a_step_succeeds(maint: Connection) -> None:
    assert note_error(maint, DAY.name, "x" * 5_000)
    assert record_of(maint).last_error == "x" * 2_000

    sealed(maint)

    assert record_of(maint).last_error is None
    assert not note_error(maint, "event_19990101", "nobody")


@pytest.mark.usefixtures("day")
def test_files_are_exchanged_unless_somebody_did_meanwhile(
    maint: Connection, admin: Connection
) -> None:
    advance(maint, admin, STEPS.index(exported) + 1)
    expiring = FileEntry.from_json({**FILE.to_row(), "expiring_at": "2026-07-01T00:00:00.000000Z"})

    def exchange() -> bool:
        return replace_files(maint, DAY.name, generation=1, before=[FILE], files=[expiring])

    assert exchange()
    assert not exchange()
    assert record_of(maint).files == (expiring,)


@pytest.mark.usefixtures("day")
def test_restored_table_is_noted_against_a_second_restore(maint: Connection) -> None:
    table = f"restored_{DAY.name}"
    assert note_restored(maint, DAY.name, table=table, before=None, now=DUE)
    assert not note_restored(maint, DAY.name, table="another", before=None, now=DUE)
    assert (record_of(maint).restored_as, record_of(maint).restored_at) == (table, DUE)

    assert note_restored(maint, DAY.name, table=None, before=table, now=DUE)

    assert (record_of(maint).restored_as, record_of(maint).restored_at) == (None, None)


@pytest.mark.usefixtures("day")
def test_step_inside_a_transaction_that_fails_is_not_recorded(maint: Connection) -> None:
    def fail() -> None:
        with as_owner(maint):
            assert sealed(maint)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert record_of(maint).state is State.OPEN


@pytest.mark.usefixtures("day")
def test_records_are_listed_in_order_of_time(maint: Connection) -> None:
    rows = list_partitions(maint)

    assert rows[0].name == DAY.name
    assert [row.lo for row in rows] == sorted(row.lo for row in rows)
    assert read_partition(maint, "event_19990101") is None


@pytest.mark.usefixtures("day")
def test_reader_sees_where_a_day_is_and_nothing_of_its_proofs(database: Database) -> None:
    with connected(database.reader_url, application="test") as reader:
        reader.execute("select name, lo, hi, generation, state from audit.partition")
        for column in ("files", "root", "n", "classes", "last_error", "restored_as"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"select {column} from audit.partition".encode())
        for table in ("partition_group", "partition_generation", "legal_hold", "restore_drill"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"select * from audit.{table}".encode())
