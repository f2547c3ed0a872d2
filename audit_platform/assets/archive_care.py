"""What keeps the archive in order: late rows merged, files expired, restores tried.

Here: three assets with a history, one materialization per run, and the check on the drill. Not
here: how rows are merged, files deleted, days restored (`retention/`), what the pages show
(`assets/care_pages.py`), the life of a partition (`assets/partition_lifecycle.py`), when they run
(`schedules.py`).
Guarantee: a partition or file that fails stops no other; the run then fails at its end, named.

Bodies import what loads the libraries of Parquet: every ingest run loads this module.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from random import SystemRandom
from typing import Any, Final

import dagster as dg

from audit_platform.assets.audit_event import AUDIT_EVENT_LATE, OWNERS
from audit_platform.assets.care_pages import drill_metadata, expiry_metadata, merge_metadata
from audit_platform.assets.partition_pages import DROPPED, VERIFIED
from audit_platform.assets.run_moment import MomentConfig, moment_of
from audit_platform.assets.table_partitions import STORAGE_GROUP
from audit_platform.db.pool import Connection
from audit_platform.errors import AuditPlatformError
from audit_platform.events.act_log import opened_act_log
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.failures import dagster_failures
from audit_platform.resources import DatabaseResource, SettingsResource
from audit_platform.retention.classes import read_classes
from audit_platform.retention.expire import Deletion, expirable, expire_file
from audit_platform.retention.lifecycle_settings import open_archive
from audit_platform.retention.rules import read_rules
from audit_platform.settings import Settings

LATE_MERGE: Final = "late_merge"
ARCHIVE_EXPIRY: Final = "archive_expiry"
RESTORE_DRILL: Final = "restore_drill"
NO_MISMATCH: Final = "no_mismatch"

_NAMED: Final = 5
_LATE_ROWS: Final = "late rows"
_RETRIES: Final = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL)

_LATE_TEXT: Final = """
Rows of `audit.event_late` moved into the partitions they belong to, every night.

A sealed partition is opened again for them (generation + 1), sealed and archived anew by the run
that follows; its former files stay until every row in them was found in the new ones, and for
`AUDIT_REOPEN_KEEP_HOURS` (24) more. Rows that the archive has already open nothing. A row is found
once by every search, before, during and after.
"""
_EXPIRY_TEXT: Final = """
Archive files whose time is over by the rules of retention, deleted from both copies.

Each file is marked by one run and deleted by a later one, so that searches that began before can
end. A legal hold keeps a file. Each deletion is an event of the log (`audit.archive.expire`); the
roots stay, so that the rest of the day still verifies.

Late rows of dropped partitions go by the same rules and holds (`audit.late.expire`): a day whose
files are gone takes none any more.
"""
_DRILL_TEXT: Final = """
A random archived partition, restored on trial every week and compared with its seal, and with its
table as long as there is one.

`seconds per million rows` says how long a real restore would take. The record of all drills is
`audit.restore_drill`; the check `no_mismatch` fails when the archive does not give back what was
put into it.
"""


@dg.asset(
    key=LATE_MERGE,
    deps=[AUDIT_EVENT_LATE],
    description=_LATE_TEXT,
    group_name=STORAGE_GROUP,
    owners=OWNERS,
    kinds={"postgres", "parquet"},
    tags={"audit/path": "event"},
    metadata={
        "dagster/table_name": "audit.event_late",
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn("partition", "text", "Partition that rows waited for"),
                dg.TableColumn("added", "integer", "Rows it has now"),
                dg.TableColumn("duplicates", "integer", "Rows it had already"),
                dg.TableColumn("collided", "integer", "Rows that became dead letters"),
            ]
        ),
    },
    retry_policy=_RETRIES,
)
def late_merge(
    config: MomentConfig, settings: SettingsResource, database: DatabaseResource
) -> Iterator[dg.MaterializeResult[Any]]:
    """Merge late rows, then settle the generations that former merges have ended."""
    from audit_platform.retention.late_rows import LateMerge, merge_late  # noqa: PLC0415
    from audit_platform.retention.old_generations import (  # noqa: PLC0415
        OldFiles,
        settle_generations,
    )

    with dagster_failures(), database.owner("late merge") as conn:
        now, values = moment_of(config), settings.load()
        store, copy_store = open_archive(values)
        with opened_act_log(values) as log:
            merge = LateMerge(
                store=store,
                log=log,
                vault=DeadLetterVault.of_settings(values),
                interval=values.partition_interval,
            )
            merged = merge_late(conn, merge, now=now)
            old = OldFiles(
                store=store,
                copy_store=copy_store,
                log=log,
                keep=timedelta(hours=values.reopen_keep_hours),
            )
            settled = settle_generations(conn, old, now=now)
    yield dg.MaterializeResult(metadata=merge_metadata(merged, settled))
    _fail_with([one.problem for one in (*merged, *settled) if one.problem is not None])


@dg.asset(
    key=ARCHIVE_EXPIRY,
    deps=[DROPPED],
    description=_EXPIRY_TEXT,
    group_name=STORAGE_GROUP,
    owners=OWNERS,
    kinds={"parquet"},
    tags={"audit/path": "event"},
    metadata={
        "dagster/table_name": "audit.partition",
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn("path", "text", "File below AUDIT_ARCHIVE_URL, or the late rows"),
                dg.TableColumn("partition", "text", "Its partition"),
                dg.TableColumn("rows", "bigint", "Rows in it"),
                dg.TableColumn("outcome", "text", "marked, waiting, deleted, held or spared"),
            ]
        ),
    },
    retry_policy=_RETRIES,
)
def archive_expiry(
    config: MomentConfig, settings: SettingsResource, database: DatabaseResource
) -> Iterator[dg.MaterializeResult[Any]]:
    """Take every file whose time is over one step further."""
    problems: list[str] = []
    with dagster_failures(), database.owner("archive expiry") as conn:
        values = settings.load()
        records = _expire_all(conn, values, config, problems)
    yield dg.MaterializeResult(metadata=expiry_metadata(records))
    _fail_with(problems)


@dg.asset(
    key=RESTORE_DRILL,
    deps=[VERIFIED],
    description=_DRILL_TEXT,
    group_name=STORAGE_GROUP,
    owners=OWNERS,
    kinds={"postgres", "parquet"},
    tags={"audit/path": "event"},
    metadata={
        "dagster/table_name": "audit.restore_drill",
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn("partition_name", "text", "Row of audit.partition"),
                dg.TableColumn("rows", "bigint", "Rows restored"),
                dg.TableColumn("seconds", "double precision", "How long it took"),
                dg.TableColumn("mismatches", "bigint", "Rows or hashes that differ"),
            ]
        ),
    },
    check_specs=[
        dg.AssetCheckSpec(
            NO_MISMATCH,
            asset=RESTORE_DRILL,
            description="The restored rows are those that were sealed, in every column.",
        )
    ],
    retry_policy=_RETRIES,
)
def restore_drill(
    config: MomentConfig, settings: SettingsResource, database: DatabaseResource
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Restore one archived partition on trial."""
    from audit_platform.retention.drill import run_drill  # noqa: PLC0415

    with dagster_failures(), database.owner("restore drill") as conn:
        store, _ = open_archive(settings.load())
        report = run_drill(conn, store, rng=SystemRandom(), now=moment_of(config))
    yield dg.MaterializeResult(metadata=drill_metadata(report))
    yield dg.AssetCheckResult(
        check_name=NO_MISMATCH,
        passed=report is None or report.mismatches == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            "nothing is archived yet" if report is None else f"{report.partition}: {report.detail}"
        ),
    )


CARE_ASSETS: Final = (late_merge, archive_expiry, restore_drill)


def _expire_all(
    conn: Connection, values: Settings, config: MomentConfig, problems: list[str]
) -> list[Mapping[str, str | int]]:
    """Take all files one step further, then late rows; say of each what was done."""
    # Here, not above: they load the libraries of Parquet.
    from audit_platform.retention.late_expiry import (  # noqa: PLC0415
        LateDeletion,
        expire_late,
        late_partitions,
    )

    now = moment_of(config)
    book = read_rules(conn, preset=values.retention_preset, hot_days=values.hot_days)
    store, copy_store = open_archive(values)
    records: list[Mapping[str, str | int]] = []
    due, late = expirable(conn, book, now=now), late_partitions(conn)
    if not due and not late:
        return records
    with opened_act_log(values) as log:
        deletion = Deletion(book=book, store=store, copy_store=copy_store, log=log)
        for file in due:
            record = {"path": file.entry.path, "partition": file.partition}
            try:
                outcome = expire_file(conn, file.partition, file.entry.path, deletion, now=now)
            except AuditPlatformError as exc:
                if conn.closed:
                    raise
                problems.append(f"{file.entry.path}: {exc.message}")
                outcome = None
            word = "failed" if outcome is None else outcome.value
            records.append({**record, "rows": file.entry.rows, "outcome": word})
        rows_too = LateDeletion(book=book, classes=read_classes(conn), log=log)
        for partition in late:
            try:
                expired = expire_late(conn, partition, rows_too, now=now)
            except AuditPlatformError as exc:
                if conn.closed:
                    raise
                problems.append(f"late rows of {partition}: {exc.message}")
                continue
            records += [
                {
                    "path": f"{_LATE_ROWS} of {one.tenant_id}, class {one.retention_class}",
                    "partition": partition,
                    "rows": one.rows,
                    "outcome": one.outcome.value,
                }
                for one in expired
            ]
    return records


def _fail_with(problems: Sequence[str]) -> None:
    """End the run as failed, after everything else had its turn.

    Raises:
        Failure: Names the problems; each is tried again by the next run, not by this one.
    """
    if not problems:
        return
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    raise dg.Failure(
        description="; ".join(problems[:_NAMED]) + more,
        metadata={"problems": len(problems)},
        allow_retries=False,
    )
