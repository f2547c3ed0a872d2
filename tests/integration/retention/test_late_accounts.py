"""Accounts of producers while late rows leave: accepted is always what the fates add up to."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from audit_platform.db.pool import OWNER_ROLE, Connection, connected
from audit_platform.events.completeness import read_completeness
from audit_platform.events.watermark import fold_ranges
from audit_platform.retention.partition_states import State
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.factories import wire
from tests.integration.events.shard import Shard
from tests.integration.retention.creation import until
from tests.integration.retention.deadly import Place, killed, merge
from tests.integration.retention.lives import begin_life, live, row_of
from tests.integration.retention.merging import DAY, Merging

pytestmark = pytest.mark.integration

PRODUCER, EPOCH = 17, 4_242
LATE = 6


@pytest.fixture
def merging(database: Database, maint: Connection, settings: Settings, tmp_path: Path) -> Merging:
    life = begin_life(database, tmp_path, rows=60)
    return Merging(conn=maint, database=database, settings=settings, life=life)


@pytest.fixture
def stored(merging: Merging) -> dict[str, Any]:
    """An event of the day, which is dropped by now."""
    (made,) = merging.late_events(1)
    merging.store([made])
    merging.bring_to(State.DROPPED)
    return made


def send(shard: Shard, events: list[dict[str, Any]], *, first: int) -> None:
    """Send events as a producer with numbers, and store them."""
    shard.add_batch([wire(one) for one in events], p=PRODUCER, e=EPOCH, s=first)
    shard.drain()


def accounts(shard: Shard) -> tuple[int, int, int, int]:
    """Accepted, stored, late, dead; nothing is missing, and they add up."""
    url = shard.settings.database_url_of("maint")
    with connected(url, application="test", role=OWNER_ROLE) as connection:
        found = read_completeness(connection, is_verified=False)
    (one,) = [account for account in found.accounts if account.epoch == EPOCH]
    assert one.accepted == one.stored + one.late + one.dead
    assert (one.missing, one.declared_count) == ((), 0)
    return one.accepted, one.stored, one.late, one.dead


def fold(shard: Shard) -> None:
    with connected(shard.settings.database_url_of("writer"), application="test") as connection:
        assert fold_ranges(connection) is not None


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("folded", ["never", "half", "all"])
def test_merged_rows_are_stored_and_no_longer_late(
    merging: Merging, shard: Shard, folded: str
) -> None:
    """Wherever the ledger keeps the numbers: as they came, folded, or some of each."""
    events = merging.late_events(LATE + 1)
    send(shard, events[:3], first=1)
    if folded != "never":
        fold(shard)
    send(shard, events[3:LATE], first=4)
    if folded == "all":
        fold(shard)
    assert accounts(shard) == (LATE, 0, LATE, 0)

    (report,) = merging.merge()

    assert report.added == LATE
    assert accounts(shard) == (LATE, LATE, 0, 0)
    fold(shard)
    assert accounts(shard) == (LATE, LATE, 0, 0)
    # A number that comes late after that is late.
    live(merging.conn, merging.life, now=merging.life.dropping + 2 * DAY)
    send(shard, events[LATE:], first=LATE + 1)
    assert accounts(shard) == (LATE + 1, LATE, 1, 0)


def test_a_merge_killed_in_the_middle_leaves_the_accounts_as_they_were(
    admin: Connection,
    merging: Merging,
    shard: Shard,
    settings: Settings,
    *,
    stored: dict[str, Any],
) -> None:
    """It dies with the rows taken and its commit not sent; one of them collides."""
    send(shard, [*merging.late_events(LATE - 1), stored | {"action": "user.delete"}], first=1)
    place = Place(
        maint_url=merging.database.maint_url,
        redis_url=settings.redis_url.get_secret_value(),
        key_prefix=settings.key_prefix,
        life=merging.life,
        now=merging.life.dropping + DAY,
        deadly="vault",
    )
    assert accounts(shard) == (LATE, 0, LATE, 0)

    killed(admin, merge, place)

    assert row_of(merging.conn, merging.life).state is State.OPEN
    assert accounts(shard) == (LATE, 0, LATE, 0)
    (report,) = merging.merge()
    assert (report.added, report.collided) == (LATE - 1, 1)
    assert accounts(shard) == (LATE, LATE - 1, 0, 1)


def test_events_delivered_again_are_stored_once_their_files_were_asked(
    merging: Merging, shard: Shard, stored: dict[str, Any]
) -> None:
    forged = stored | {"action": "user.delete"}
    send(shard, [stored], first=1)
    assert accounts(shard) == (1, 0, 1, 0)
    merging.merge()
    assert accounts(shard) == (1, 1, 0, 0)

    send(shard, [forged], first=2)
    merging.merge()

    assert accounts(shard) == (2, 1, 0, 1)
    assert row_of(merging.conn, merging.life).state is State.DROPPED


def test_a_fold_and_a_merge_at_the_same_time_forget_nothing(
    merging: Merging, shard: Shard, stored: dict[str, Any]
) -> None:
    """A fold in the middle: it moves late numbers to where a merge would not have looked."""
    del stored
    events = merging.late_events(LATE)
    send(shard, events, first=1)
    url = shard.settings.database_url_of("writer")
    with connected(url, application="test fold") as folding, ThreadPoolExecutor(1) as threads:
        with folding.transaction():
            assert folding.execute("select audit.fold_ranges()").fetchone() != (None,)
            merging_now = threads.submit(merging.merge)
            until(lambda: _waits_for_a_fold(shard), what="the merge waits for the fold")
        (report,) = merging_now.result(timeout=60)

    assert report.added == LATE
    assert accounts(shard) == (LATE, LATE, 0, 0)


def _waits_for_a_fold(shard: Shard) -> bool:
    return shard.rows(
        "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
    ) == [(True,)]
