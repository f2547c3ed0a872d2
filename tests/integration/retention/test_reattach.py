"""Archived days attached again: sealed, found by searches, without a scan or a gap."""

from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from audit_platform.archive.store import open_store
from audit_platform.db.pool import Connection, connected
from audit_platform.errors import ArchiveMismatch, LockNotAvailable, StepRefused
from audit_platform.retention.lifecycle import DDL_LOCK_KEY, as_owner
from audit_platform.retention.partition import HOT_INDEXES, HOT_STORAGE
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import (
    mark_detach_started,
    one_at_a_time,
)
from audit_platform.retention.reattach import reattach
from audit_platform.retention.restore import restore_day
from audit_platform.retention.restored_table import RestoreReport, make_table
from tests.conftest import Database
from tests.integration.retention.archived import (
    alter_behind_the_seal,
    archived_life,
    differences,
    fresh,
    one_value,
    tables_like,
)
from tests.integration.retention.lives import RULES, Life, count_hot, live, reading, visible_ids

pytestmark = pytest.mark.integration

ROWS = 306
SECOND = timedelta(seconds=1)


@pytest.fixture(params=[State.DETACHED, State.DROPPED])
def life(
    request: pytest.FixtureRequest, database: Database, maint: Connection, tmp_path: Path
) -> Life:
    """A day whose readers are sent to the archive."""
    return archived_life(database, maint, tmp_path, request.param)


@pytest.fixture
def detached(database: Database, maint: Connection, tmp_path: Path) -> Life:
    return archived_life(database, maint, tmp_path, State.DETACHED)


@pytest.fixture
def dropped(database: Database, maint: Connection, tmp_path: Path) -> Life:
    return archived_life(database, maint, tmp_path, State.DROPPED)


def attach(conn: Connection, life: Life) -> RestoreReport:
    store = open_store(life.archive.as_uri())
    return restore_day(conn, fresh(conn, life), store, attach=True, now=life.dropping)


def test_day_is_read_from_postgresql_again(
    database: Database, maint: Connection, life: Life
) -> None:
    before = visible_ids(database, life)

    report = attach(maint, life)

    row = fresh(maint, life)
    assert (row.state, row.detached_at, row.dropped_at) == (State.VERIFIED, None, None)
    assert (row.restored_as, row.restored_at) == (life.name, life.dropping)
    assert (report.table, report.rows, report.is_attached) == (life.name, ROWS, True)
    assert visible_ids(database, life) == before
    assert differences(database, life.name).mismatches == 0
    with reading(database) as reader:
        assert count_hot(reader, life) == ROWS


def test_attached_day_is_sealed(database: Database, maint: Connection, life: Life) -> None:
    attach(maint, life)

    for statement in (
        f"delete from audit.{life.name}",
        f"update audit.{life.name} set action = 'x'",
        f"truncate audit.{life.name}",
        f"insert into audit.{life.name} select * from audit.{life.name} limit 1",
    ):
        with (
            psycopg.connect(database.admin_url) as conn,
            pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is sealed"),
        ):
            conn.execute(statement.encode())


def test_attaching_reads_no_row_under_its_lock(maint: Connection, life: Life) -> None:
    said: list[str] = []
    maint.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    maint.execute("set client_min_messages = debug1")

    attach(maint, life)

    implied = [one for one in said if "is implied by existing constraints" in one]
    assert any(life.name in one for one in implied), said


def test_attached_day_has_the_indexes_and_settings_of_any_other(
    database: Database, maint: Connection, life: Life
) -> None:
    attach(maint, life)

    with psycopg.connect(database.admin_url) as conn:
        indexes = {
            row[0]
            for row in conn.execute(
                "select relname from pg_index as i join pg_class as c on c.oid = i.indexrelid"
                " where i.indrelid = %s::regclass and i.indisvalid",
                [f"audit.{life.name}"],
            )
        }
        options = conn.execute(
            "select reloptions from pg_class where oid = %s::regclass", [f"audit.{life.name}"]
        ).fetchone()
    hot = {f"{life.name}_{index.suffix}" for index in HOT_INDEXES}
    cold = {f"{life.name}_{name}" for name in ("metadata", "changes", "text", "source")}
    assert indexes == hot | cold | {f"{life.name}_pkey"}
    assert options is not None
    main = [name for name, _ in HOT_STORAGE if not name.startswith("toast.")]
    assert {option.partition("=")[0] for option in options[0]} >= set(main)


def test_life_goes_on_after_an_attached_day(
    database: Database, maint: Connection, life: Life
) -> None:
    before = visible_ids(database, life)
    attach(maint, life)
    returned = life.dropping

    assert live(maint, life, now=returned + RULES.hot_for - SECOND) == []
    live(maint, life, now=returned + RULES.hot_for)

    row = fresh(maint, life)
    assert (row.state, row.restored_as, row.restored_at) == (State.DETACHED, None, None)
    live(maint, life, now=returned + RULES.hot_for + RULES.grace)
    assert fresh(maint, life).state is State.DROPPED
    assert visible_ids(database, life) == before
    attach(maint, life)
    assert visible_ids(database, life) == before


def test_reader_of_before_and_reader_of_after_both_see_the_day(
    database: Database, maint: Connection, life: Life
) -> None:
    """A reader that began before goes on with the archive, and does not keep the attach waiting."""
    asked = "select state from audit.partition where name = %s"
    with reading(database) as early:
        states = [early.execute(asked, [life.name]).fetchone()]
        attach(maint, life)
        states.append(early.execute(asked, [life.name]).fetchone())
    with reading(database) as late:
        states.append(late.execute(asked, [life.name]).fetchone())
        assert count_hot(late, life) == ROWS

    assert states[0] == states[1] != ("verified",)
    assert states[2] == ("verified",)


def test_table_beside_goes_when_the_day_is_attached(
    database: Database, maint: Connection, dropped: Life
) -> None:
    store = open_store(dropped.archive.as_uri())
    restore_day(maint, fresh(maint, dropped), store, attach=False, now=dropped.dropping)

    attach(maint, dropped)

    assert tables_like(database, "restored%") == []


def test_changed_table_is_not_attached(
    database: Database, maint: Connection, detached: Life
) -> None:
    alter_behind_the_seal(
        database,
        f"update audit.{detached.name} set action = 'another' where tenant_id = 'acme'",
    )

    with pytest.raises(ArchiveMismatch, match="do not give their leaves"):
        attach(maint, detached)

    assert fresh(maint, detached).state is State.DETACHED


def test_missing_row_is_found_before_attaching(
    database: Database, maint: Connection, detached: Life
) -> None:
    alter_behind_the_seal(
        database,
        f"delete from audit.{detached.name} where id in"
        f" (select id from audit.{detached.name} limit 1)",
    )

    with pytest.raises(ArchiveMismatch, match="305 rows, not 306"):
        attach(maint, detached)


def test_table_that_somebody_dropped_comes_from_the_archive(
    database: Database, maint: Connection, admin: Connection, detached: Life
) -> None:
    before = visible_ids(database, detached)
    admin.execute(f"drop table audit.{detached.name}".encode())

    attach(maint, detached)

    assert visible_ids(database, detached) == before
    assert differences(database, detached.name).mismatches == 0


def test_record_left_behind_by_a_hand_made_attach_is_put_right(
    database: Database, maint: Connection, admin: Connection, detached: Life
) -> None:
    admin.execute(
        f"alter table audit.event attach partition audit.{detached.name} for values"
        f" from ('{detached.bounds.lo}') to ('{detached.bounds.hi}')".encode()
    )

    attach(maint, detached)

    assert fresh(maint, detached).state is State.VERIFIED
    with reading(database) as reader:
        assert count_hot(reader, detached) == ROWS


def test_table_left_by_a_killed_restore_is_replaced(
    database: Database, maint: Connection, dropped: Life
) -> None:
    make_table(maint, dropped.name)

    attach(maint, dropped)

    assert differences(database, dropped.name).mismatches == 0


def test_table_of_somebody_else_in_its_place_is_left_alone(
    database: Database, maint: Connection, dropped: Life
) -> None:
    with as_owner(maint):
        maint.execute(f"create table audit.{dropped.name} as select 1 as mine".encode())

    with pytest.raises(StepRefused, match="not made by a restore"):
        attach(maint, dropped)

    assert one_value(database, f"select mine from audit.{dropped.name}") == 1
    assert fresh(maint, dropped).state is State.DROPPED


def test_attached_day_is_not_attached_twice(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.VERIFIED)

    with pytest.raises(StepRefused, match="attached, and searches read it there"):
        attach(maint, life)


def test_half_detached_day_is_refused(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = archived_life(database, maint, tmp_path, State.VERIFIED)
    assert mark_detach_started(maint, life.name)

    with pytest.raises(StepRefused, match="being detached"):
        attach(maint, life)


def test_attach_that_gets_no_lock_leaves_the_day_where_it_was(
    database: Database, maint: Connection, detached: Life
) -> None:
    before = visible_ids(database, detached)
    with (
        connected(database.maint_url, application="another") as other,
        other.transaction(),
        one_at_a_time(maint, detached.name),
    ):
        other.execute("select pg_advisory_xact_lock(%s)", [DDL_LOCK_KEY])
        with pytest.raises(LockNotAvailable):
            reattach(
                maint,
                fresh(maint, detached),
                open_store(detached.archive.as_uri()),
                now=detached.dropping,
                patience_s=0.1,
            )

    assert fresh(maint, detached).state is State.DETACHED
    assert visible_ids(database, detached) == before
