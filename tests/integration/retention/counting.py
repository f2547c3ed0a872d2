"""Producers' numbers of one day, and their count as `completeness --verify` takes it.

Here: what the tests of numbers in archived and in deleted rows share, on top of `merging.py`.
"""

from pathlib import Path
from typing import Any

from audit_platform.db.pool import OWNER_ROLE, Connection, connected
from audit_platform.events.completeness import Account, Completeness, read_completeness
from audit_platform.events.row_check import RowCheck
from audit_platform.search.cold_numbers import ColdNumbers
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.factories import wire
from tests.integration.events.shard import Shard
from tests.integration.retention.lives import Life, begin_life
from tests.integration.retention.merging import Merging

PRODUCER, EPOCH = 17, 4_242
ROWS = 40


def numbered_day(
    database: Database, conn: Connection, settings: Settings, shard: Shard, place: Path
) -> Merging:
    """Make a day with forty rows of one producer, and nothing else."""
    life = begin_life(database, place, rows=0)
    made = Merging(conn=conn, database=database, settings=settings, life=life)
    send(shard, made.late_events(ROWS), first=1)
    assert len(shard.stored_ids()) == ROWS
    return made


def send(shard: Shard, events: list[dict[str, Any]], *, first: int) -> None:
    """Send events as a producer with numbers, and store them."""
    shard.add_batch([wire(one) for one in events], p=PRODUCER, e=EPOCH, s=first)
    shard.drain()


def read(merging: Merging, **options: Any) -> Completeness:
    """Count every row, as the command does."""
    context = merging.life.context()
    stores = [store for store in (context.store, context.copy_store) if store is not None]
    archive = ColdNumbers(stores=stores, tenant_id=merging.settings.tenant_id)
    url = merging.database.maint_url
    with connected(url, application="test", role=OWNER_ROLE) as connection:
        return read_completeness(connection, is_verified=True, archive=archive, **options)


def account(found: Completeness) -> tuple[Account, RowCheck]:
    """The run of the day, and its rows."""
    (one,) = [one for one in found.accounts if one.epoch == EPOCH]
    assert one.check is not None
    return one, one.check


def places(life: Life) -> dict[str, str]:
    """Both copies, as the environment of a command names them."""
    return {
        "AUDIT_ARCHIVE_URL": life.archive.as_uri(),
        "AUDIT_ARCHIVE_COPY_URL": life.copy.as_uri(),
    }
