"""Drop on a real server: only after a second proof, in one transaction, refused otherwise (P12)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from audit_platform.archive.store import open_store
from audit_platform.db.pool import Connection, connected
from audit_platform.errors import LockNotAvailable, PartitionBusy, PartitionLost, StepRefused
from audit_platform.retention.drop import DropResult, drop
from audit_platform.retention.holds import HoldScope, place, release
from audit_platform.retention.partition_states import State, Step
from audit_platform.retention.partition_table import one_at_a_time
from tests.conftest import Database
from tests.integration.retention.creation import until
from tests.integration.retention.lives import (
    RULES,
    Life,
    begin_life,
    has_table,
    live,
    row_of,
    visible_ids,
)

pytestmark = pytest.mark.integration

ROWS = 300


@pytest.fixture
def life(database: Database, maint: Connection, tmp_path: Path) -> Life:
    """A detached day."""
    made = begin_life(database, tmp_path, rows=ROWS)
    for moment in (made.sealing, made.detaching):
        live(maint, made, now=moment)
    assert row_of(maint, made).state is State.DETACHED
    return made


def drop_now(conn: Connection, life: Life) -> DropResult:
    context = life.context()
    return drop(conn, life.name, context.store, context.copy_store, rules=RULES, now=life.dropping)


def refusal(conn: Connection, life: Life) -> str:
    """Try to drop; returns the reason of the refusal, after a look that nothing was done."""
    with pytest.raises(StepRefused) as refused:
        drop_now(conn, life)
    assert row_of(conn, life).state is State.DETACHED
    found = conn.execute("select to_regclass(%s) is not null", [f"audit.{life.name}"]).fetchone()
    assert found == (True,)
    return str(refused.value.fields["reason"])


def test_dropped_table_is_gone_and_its_rows_are_seen_once(
    database: Database, maint: Connection, life: Life
) -> None:
    result = drop_now(maint, life)

    assert (result.state, result.rows) == (State.DROPPED, ROWS)
    assert result.freed_bytes > 0
    assert not has_table(database, life)
    row = row_of(maint, life)
    assert (row.state, row.dropped_at) == (State.DROPPED, life.dropping)
    assert visible_ids(database, life) == list(life.ids)


def test_repeated_drop_changes_nothing(maint: Connection, life: Life) -> None:
    drop_now(maint, life)
    before = row_of(maint, life)

    again = drop_now(maint, life)

    assert again == DropResult(state=State.DROPPED, rows=0, freed_bytes=0)
    assert row_of(maint, life) == before


CHANGES = {
    "leaf": "update {table} set leaf_hash = sha256('forged') where entity_id = '7'",
    "column": "update {table} set description = 'forged' where entity_id = '7'",
    "row removed": "delete from {table} where entity_id = '7'",
    "row added": """insert into {table} select (jsonb_populate_record(null::audit.event,
                    to_jsonb(e) || jsonb_build_object('id', gen_random_uuid()))).*
                    from {table} as e limit 1""",
}


@pytest.mark.parametrize("change", CHANGES)
def test_table_with_a_changed_row_is_not_dropped(
    admin: Connection, maint: Connection, life: Life, change: str
) -> None:
    """Also where only a column was changed and its leaf left as it was."""
    statement = CHANGES[change].format(table=f"audit.{life.name}")
    with admin.transaction():
        admin.execute(f"alter table audit.{life.name} disable trigger user".encode())
        changed = admin.execute(statement.encode()).rowcount
        admin.execute(f"alter table audit.{life.name} enable trigger user".encode())
    assert changed > 0, "the fault happened"

    assert refusal(maint, life) == "changed_row"


def remove(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: tuple[Callable[[Path], None], ...] = (remove, flip, cut)


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
@pytest.mark.parametrize("place_name", ["archive", "copy"])
def test_table_whose_file_is_not_intact_in_both_copies_is_not_dropped(
    maint: Connection, life: Life, place_name: str, suffix: str
) -> None:
    root: Path = getattr(life, place_name)
    (path,) = (one for one in root.rglob(f"*{suffix}") if one.is_file())
    kept = path.read_bytes()

    for damage in DAMAGES:
        damage(path)
        assert refusal(maint, life) == "copy", damage.__name__
        path.write_bytes(kept)

    assert drop_now(maint, life).state is State.DROPPED, "mended, the next run drops it"


def test_table_under_a_legal_hold_is_not_dropped_until_the_last_is_released(
    maint: Connection, life: Life
) -> None:
    holds = [
        place(
            maint,
            hold_id=uuid4(),
            case_id=case,
            scope=HoldScope(tenant_id=tenant, lo=life.bounds.lo, hi=life.bounds.hi),
            reason="dispute",
            placed_by="test",
            now=life.detaching,
        )
        for case, tenant in (("case-1", "acme"), ("case-2", "*"))
    ]

    assert refusal(maint, life) == "hold"
    release(maint, [holds[0].hold_id], released_by="test", now=life.dropping)
    assert refusal(maint, life) == "hold"
    release(maint, [holds[1].hold_id], released_by="test", now=life.dropping)
    assert drop_now(maint, life).state is State.DROPPED


def test_hold_placed_while_the_rows_are_proved_still_counts(
    database: Database, admin: Connection, life: Life
) -> None:
    """It is not committed when the drop looks first; the drop waits for it before it decides."""

    def drop_beside() -> str:
        with connected(database.maint_url, application="drop beside") as conn:
            return refusal(conn, life)

    with ThreadPoolExecutor(1) as threads:
        with admin.transaction():
            admin.execute(
                """insert into audit.legal_hold
                     (hold_id, case_id, tenant_id, lo, hi, reason, placed_by)
                   values (gen_random_uuid(), 'case-9', '*', %s, %s, 'test', 'test')""",
                [life.bounds.lo, life.bounds.hi],
            )
            future = threads.submit(drop_beside)
            until(lambda: is_waiting_for(admin, "audit.legal_hold"), what="drop waits")
        assert future.result(30) == "hold"


def is_waiting_for(admin: Connection, table: str) -> bool:
    row = admin.execute(
        "select exists (select from pg_locks where relation = %s::regclass and not granted)",
        [table],
    ).fetchone()
    return row == (True,)


def test_table_is_not_dropped_before_its_grace_period_ends(maint: Connection, life: Life) -> None:
    context = life.context()
    early = life.detaching + RULES.grace - timedelta(microseconds=1)

    with pytest.raises(StepRefused) as refused:
        drop(maint, life.name, context.store, context.copy_store, rules=RULES, now=early)

    assert refused.value.fields["reason"] == "grace"
    assert row_of(maint, life).state is State.DETACHED


def test_the_table_itself_refuses_a_record_of_an_early_drop(admin: Connection, life: Life) -> None:
    """Whoever goes past this code meets the same limit, and 7 days are the least."""
    with pytest.raises(psycopg.errors.CheckViolation):
        admin.execute(
            "update audit.partition set state = 'dropped', dropped_at = detached_at"
            " + interval '6 days' where name = %s",
            [life.name],
        )


def test_attached_table_is_not_dropped(admin: Connection, maint: Connection, life: Life) -> None:
    lo, hi = life.bounds.lo.isoformat(), life.bounds.hi.isoformat()
    admin.execute(
        f"alter table audit.event attach partition audit.{life.name}"
        f" for values from ('{lo}') to ('{hi}')".encode()
    )

    assert refusal(maint, life) == "attached"


def test_partition_that_is_not_detached_is_not_dropped(
    database: Database, maint: Connection, tmp_path: Path
) -> None:
    life = begin_life(database, tmp_path, rows=10)
    live(maint, life, now=life.sealing, until=Step.VERIFY)

    with pytest.raises(StepRefused) as refused:
        drop_now(maint, life)

    assert refused.value.fields["reason"] == "state"


def test_table_that_somebody_dropped_is_named_and_its_rows_stay_visible(
    database: Database, admin: Connection, maint: Connection, life: Life
) -> None:
    admin.execute(f"drop table audit.{life.name}".encode())

    with pytest.raises(PartitionLost, match="who dropped it"):
        drop_now(maint, life)

    assert visible_ids(database, life) == list(life.ids)


def test_unknown_partition_is_not_dropped(maint: Connection, life: Life) -> None:
    context = life.context()

    with pytest.raises(PartitionLost, match="event_19990101"):
        drop(
            maint,
            "event_19990101",
            context.store,
            context.copy_store,
            rules=RULES,
            now=life.dropping,
        )


def test_reader_of_the_detached_table_puts_the_drop_off(
    admin: Connection, maint: Connection, life: Life
) -> None:
    with admin.transaction():
        admin.execute(f"lock table audit.{life.name} in access share mode".encode())
        with pytest.raises(LockNotAvailable):
            drop_now(maint, life)
    assert row_of(maint, life).state is State.DETACHED, "its record was rolled back"

    assert drop_now(maint, life).state is State.DROPPED


def test_second_process_leaves_a_busy_partition_alone(
    database: Database, maint: Connection, life: Life
) -> None:
    with (
        connected(database.maint_url, application="other") as other,
        one_at_a_time(other, life.name),
        pytest.raises(PartitionBusy),
    ):
        drop_now(maint, life)


def test_platform_with_one_copy_drops_after_a_look_at_that_copy(
    database: Database, maint: Connection, life: Life
) -> None:
    result = drop(
        maint,
        life.name,
        open_store(life.archive.as_uri()),
        None,
        rules=RULES,
        now=life.dropping,
    )

    assert result.state is State.DROPPED
    assert visible_ids(database, life) == list(life.ids)
