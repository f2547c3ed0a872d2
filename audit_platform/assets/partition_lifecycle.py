"""The life of each partition as five assets: sealed, archived, verified, detached, dropped.

Here: the assets, each partitioned by the partitions of `audit.event`, and their common body. Not
here: what a step does and when it is due (`retention/`), the checks between the steps
(`assets/lifecycle_checks.py`), what a page shows (`assets/partition_pages.py`), the runs that take
the steps of all partitions (`jobs/lifecycle.py`).
Guarantee: `audit.partition` is the authority; an asset is materialized for a partition only when
its record says so, and materializing it again changes nothing.

The keys are table names (`event_20261201`), not days of a calendar: the range of a partition is a
setting that may change, imports of history make partitions of any age, and a day without a
partition is no gap (decision 0014).
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from audit_platform.assets.audit_event import AUDIT_EVENT, OWNERS, TABLE_PARTITIONS
from audit_platform.assets.columns import PARTITION_COLUMNS
from audit_platform.assets.partition_keys import PARTITIONS
from audit_platform.assets.partition_pages import (
    ARCHIVED,
    DETACHED,
    DROPPED,
    SEALED,
    STEPS_OF_ASSET,
    VERIFIED,
    has_taken,
    partition_metadata,
)
from audit_platform.assets.run_moment import MomentConfig, moment_of
from audit_platform.assets.table_partitions import STORAGE_GROUP
from audit_platform.db.pool import Connection
from audit_platform.errors import PartitionLost
from audit_platform.failures import dagster_failures
from audit_platform.resources import DatabaseResource, SettingsResource
from audit_platform.retention.holds import list_holds
from audit_platform.retention.lifecycle_settings import read_lifecycle_context
from audit_platform.retention.partition_states import due_at, following_step, next_step
from audit_platform.retention.partition_table import PartitionRow, read_partition

if TYPE_CHECKING:
    from audit_platform.retention.advance import LifecycleContext
    from audit_platform.retention.walk import PartitionOutcome

_SEALED_TEXT: Final = """
A partition that takes no more rows: triggers refuse every change, also by the owner.

48 hours after its end (`AUDIT_SEAL_AFTER_HOURS`) rows are counted, ids are proved to carry the time
of their row and to occur once, and a Merkle root is computed over the hashes of all rows. Then the
indexes for searches in metadata, changes and text are built, which would slow down ingestion. What
arrives later waits in `audit.event_late` and is merged at night.
"""
_ARCHIVED_TEXT: Final = """
The rows of a sealed partition as Parquet files under `AUDIT_ARCHIVE_URL`, with their manifest.

One set of files per retention class, and per tenant with a rule of its own, sorted, zstd. A file
appears under its name only when its bytes are safe. With `AUDIT_ARCHIVE_COPY_URL` a second copy is
written at once. Blocked by the check `ledger_equals_rows`.
"""
_VERIFIED_TEXT: Final = """
The archive, read back by another process that knows no database: every file is hashed, every leaf
is computed again from its columns, then row count, ids and Merkle roots are compared with the seal.

Blocked by the check `archive_re_read`, which reads it too. The partition stays in PostgreSQL until
its hot time is over (`AUDIT_HOT_DAYS`, or longer where a retention rule asks for it).
"""
_DETACHED_TEXT: Final = """
A partition whose rows are read from the archive; its table still exists beside `audit.event`.

Readers are sent to the archive first, then the table is detached while they go on. Postponed while
an old transaction holds the table, and blocked by a legal hold that wants rows in PostgreSQL. For
`AUDIT_GRACE_DAYS` (7) everything can be taken back by attaching the table again.
"""
_DROPPED_TEXT: Final = """
A partition whose table is gone. Its rows are in the archive, and `audit-platform restore` brings
them back.

Dropped only after a second proof in the same transaction: both copies have the hashes of the
manifest, the table still equals its seal, the grace period is over, and no legal hold covers it.
A partition that was restored into `audit.event` stays materialized here: it was dropped once.
`audit-platform partitions` says where it is now.
"""


def _step_asset(
    key: str, text: str, *, deps: Sequence[str], kinds: set[str]
) -> dg.AssetsDefinition:
    """Make one of the five: the same body, other steps."""

    @dg.asset(
        key=key,
        partitions_def=PARTITIONS,
        deps=list(deps),
        description=text,
        group_name=STORAGE_GROUP,
        owners=OWNERS,
        kinds=kinds,
        tags={"audit/path": "event"},
        metadata={
            "dagster/table_name": "audit.partition",
            "dagster/column_schema": dg.TableSchema(columns=list(PARTITION_COLUMNS)),
        },
        # A step that is not due materializes nothing, and what follows it is skipped.
        output_required=False,
        retry_policy=dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL),
    )
    def step(
        context: dg.AssetExecutionContext,
        config: MomentConfig,
        settings: SettingsResource,
        database: DatabaseResource,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        with dagster_failures(), database.owner(key.replace("_", " ")) as conn:
            lifecycle = read_lifecycle_context(conn, settings.load())
            yield from _take(context, conn, key, lifecycle, now=moment_of(config))

    return step


def _take(
    context: dg.AssetExecutionContext,
    conn: Connection,
    key: str,
    lifecycle: "LifecycleContext",
    *,
    now: datetime,
) -> Iterator[dg.MaterializeResult[Any]]:
    """Take the steps of one partition that are due; show its record if they were taken before."""
    # Here, not above: every ingest run loads this module, and the libraries of Parquet take 0.1 s.
    from audit_platform.retention.walk import advance_one  # noqa: PLC0415

    row = _read(conn, context.partition_key)
    steps = STEPS_OF_ASSET[key]
    outcome: PartitionOutcome | None = None
    if next_step(row, lifecycle.rules, now) in steps:
        outcome = advance_one(conn, row, lifecycle, steps=steps, now=now)
        if outcome.error is not None:
            raise outcome.error
        row = outcome.row
    if has_taken(row, steps[-1]):
        reports = () if outcome is None else outcome.taken
        yield dg.MaterializeResult(metadata=partition_metadata(row, list_holds(conn), reports))
    else:
        context.log.info("nothing was done: %s", _why_not(row, outcome, lifecycle))


def _why_not(
    row: PartitionRow, outcome: "PartitionOutcome | None", lifecycle: "LifecycleContext"
) -> str:
    if outcome is not None and outcome.waits_because is not None:
        return outcome.waits_because
    due = due_at(row, lifecycle.rules)
    since = "due later" if due is None else f"due from {due.isoformat()} on"
    return f"{row.name} is {row.state}; its next step, {following_step(row)}, is {since}"


def _read(conn: Connection, name: str) -> PartitionRow:
    row = read_partition(conn, name)
    if row is None:
        raise PartitionLost(
            f"there is no partition {name}; `audit-platform partitions` lists them", name=name
        )
    return row


LIFECYCLE_ASSETS: Final = (
    _step_asset(SEALED, _SEALED_TEXT, deps=[AUDIT_EVENT], kinds={"postgres"}),
    _step_asset(ARCHIVED, _ARCHIVED_TEXT, deps=[SEALED], kinds={"parquet"}),
    _step_asset(VERIFIED, _VERIFIED_TEXT, deps=[ARCHIVED], kinds={"parquet"}),
    # A short runway means that changes of partitions fail: then nothing is taken away either.
    _step_asset(
        DETACHED, _DETACHED_TEXT, deps=[VERIFIED, TABLE_PARTITIONS], kinds={"postgres", "parquet"}
    ),
    _step_asset(DROPPED, _DROPPED_TEXT, deps=[DETACHED], kinds={"parquet"}),
)
"""In the order of a partition's life."""
