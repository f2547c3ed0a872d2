"""The CloudTrail files of the data folder: imported, archived, verified, dropped, restored."""

import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from audit_platform.archive.manifest import manifest_path
from audit_platform.archive.store import open_store
from audit_platform.archive.verify_apart import verify_apart
from audit_platform.cli.import_session import import_session
from audit_platform.db.pool import Connection, connected
from audit_platform.imports.mapping_rules import load_mapping
from audit_platform.imports.rebuild import rebuild
from audit_platform.retention.advance import LifecycleContext, advance
from audit_platform.retention.archived_partition import verify_archived
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import PartitionRow, list_partitions, read_partition
from audit_platform.retention.restore import restore_day
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.effort import examples
from tests.integration.imports.draining import draining
from tests.integration.imports.prepared import prepare
from tests.integration.retention.archived import KEPT, differences, keep_copy
from tests.integration.retention.lives import context_of

pytestmark = pytest.mark.integration

CLOUDTRAIL = Path(__file__).parents[4] / "shared" / "data" / "cloudtrail"
RECORDS = 2_900
FLIPS = examples(20)


@pytest.mark.timeout(max(120, FLIPS))
@pytest.mark.skipif(not CLOUDTRAIL.is_dir(), reason="the folder shared/data/cloudtrail is absent")
def test_cloudtrail_day_survives_the_archive_record_by_record(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    originals = _import(settings)
    context = context_of(
        (tmp_path / "archive").as_uri(),
        (tmp_path / "copy").as_uri(),
        oldest_transaction_s=30,
        patience_s=60,
    )
    with connected(database.maint_url, application="test") as conn:
        (row,) = [one for one in list_partitions(conn) if one.name.startswith("event_2023")]
        keep_copy(database, row.name)
        row = _drop(conn, row, context)
        _check_verification(row, context, tmp_path / "archive")
        beside = restore_day(
            conn, row, context.store, attach=False, now=row.hi + timedelta(days=60)
        )
        assert differences(database, beside.table).mismatches == 0
        assert beside.rows == RECORDS
        restore_day(conn, row, context.store, attach=True, now=row.hi + timedelta(days=60))
        assert differences(database, row.name).mismatches == 0

    rebuilt = {one["eventID"]: one for one in _rebuilt(database, row.name)}
    assert rebuilt == originals


def _import(settings: Settings) -> dict[str, Any]:
    """Import every file, as `audit-platform import` does; the records by their ids."""
    files = sorted(CLOUDTRAIL.glob("*.json"))
    with draining(settings), import_session(settings) as session:
        moving = [prepare(session, path) for path in files]
        for one in moving:
            one.send(is_repeat=False)
        assert sum(one.settle().new for one in moving) == RECORDS
    return {
        record["eventID"]: record
        for path in files
        for record in json.loads(path.read_text(), **_exact)["Records"]
    }


def _drop(conn: Connection, row: PartitionRow, context: LifecycleContext) -> PartitionRow:
    for days in (3, 31, 40):
        advance(conn, row, context, now=row.hi + timedelta(days=days), until=None)
    found = read_partition(conn, row.name)
    assert found is not None
    assert found.state is State.DROPPED
    return found


def _check_verification(row: PartitionRow, context: LifecycleContext, archive: Path) -> None:
    """Sound as it lies there; never with one byte turned over."""
    path = manifest_path(row.lo, row.hi, row.generation)
    report = verify_apart(
        context.store.url, path, manifest_sha256=row.manifest_sha256, root=row.root
    )
    assert (report.is_intact, report.rows) == (True, RECORDS), report.verdict
    rng = random.Random(7)
    files = sorted(archive.rglob("*.parquet"))
    for _ in range(FLIPS):
        file = rng.choice(files)
        data = file.read_bytes()
        place = rng.randrange(len(data))
        file.write_bytes(
            data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        )
        assert not verify_archived(row, context.store).is_intact
        file.write_bytes(data)
    assert verify_archived(row, open_store(context.store.url)).is_intact


def _rebuilt(database: Database, table: str) -> list[Any]:
    mapping = load_mapping("cloudtrail")
    assert table != KEPT
    with psycopg.connect(database.admin_url) as conn:
        rows = (
            conn.cursor(row_factory=dict_row)
            .execute(
                "select *, changes::text as changes, metadata::text as metadata, "
                f"context::text as context from only audit.{table}".encode()
            )
            .fetchall()
        )
    return [json.loads(rebuild(row, mapping), **_exact) for row in rows]


_exact: dict[str, Any] = {
    "parse_int": lambda text: ("number", text),
    "parse_float": lambda text: ("number", text),
}
