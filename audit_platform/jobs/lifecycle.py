"""Jobs of the partitions' life: archive, detach and drop what is due; care for the archive.

Here: which steps each job takes, its config, what its run shows; one partition by hand. Not here:
which partitions are due and in what order (`retention/walk.py`), the steps (`retention/`), the
assets (`assets/partition_lifecycle.py`, `assets/archive_care.py`), when (`schedules.py`).
Guarantee: each run walks `audit.partition`, the authority, so that a missed night is made up by the
next one; a second copy of a job leaves the partition to the first; a killed run loses nothing.

The runs of this lane wait for each other in Dagster's queue (`local/dagster.yaml`). That is order,
not safety: the lock on each partition and the guarded statements are what two copies meet.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import dagster as dg
from pydantic import Field

from audit_platform.assets.archive_care import archive_expiry, late_merge, restore_drill
from audit_platform.assets.checks import partition_runway
from audit_platform.assets.lifecycle_checks import (
    archive_re_read,
    archive_unchanged,
    ledger_equals_rows,
    not_held,
    not_held_hot,
)
from audit_platform.assets.lifecycle_verdicts import evaluations_of, sentence_of, summary_of
from audit_platform.assets.partition_keys import show_records
from audit_platform.assets.partition_lifecycle import LIFECYCLE_ASSETS
from audit_platform.assets.partition_pages import materializations_of
from audit_platform.assets.run_moment import MomentConfig, clock_of
from audit_platform.db.pool import Connection
from audit_platform.errors import StepRefused
from audit_platform.failures import dagster_failures
from audit_platform.jobs.coordinator import LANE_TAG
from audit_platform.jobs.ingest import MAX_RUNTIME_TAG
from audit_platform.resources import DatabaseResource, SettingsResource
from audit_platform.retention.holds import list_holds
from audit_platform.retention.lifecycle import read_runway
from audit_platform.retention.lifecycle_settings import read_lifecycle_context
from audit_platform.retention.partition_states import Step
from audit_platform.retention.partition_table import list_partitions
from audit_platform.settings import Settings

if TYPE_CHECKING:
    from audit_platform.retention.walk import PartitionOutcome

LIFECYCLE_LANE: Final = "lifecycle"
ARCHIVE_OP: Final = "archive_due"
DETACH_OP: Final = "detach_due"
DROP_OP: Final = "drop_due"
LONGEST_S: Final = 3 * 3_600.0
"""After this a run begins no further partition; what is left over goes the next night."""
_TAGS: Final = {LANE_TAG: LIFECYCLE_LANE, MAX_RUNTIME_TAG: str(14_400)}
_RETRIES: Final = dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL)

Events = Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation | dg.Output[None]]


class WalkConfig(MomentConfig):
    """What a run over many partitions may be told."""

    partitions: list[str] = Field(
        default_factory=list, description="Only these partitions; empty: all that are due."
    )


def _walk_op(name: str, steps: Sequence[Step], text: str) -> dg.OpDefinition:
    """Make one of the three ops: the same body, other steps."""

    @dg.op(name=name, description=text, out=dg.Out(dg.Nothing), retry_policy=_RETRIES)
    def walk(
        context: dg.OpExecutionContext,
        config: WalkConfig,
        settings: SettingsResource,
        database: DatabaseResource,
    ) -> Events:
        with dagster_failures(), database.owner(name.replace("_", " ")) as conn:
            values = settings.load()
            if Step.DETACH in steps or Step.DROP in steps:
                _refuse_short_runway(conn, values)
            yield from _walk(context, conn, values, config, steps)

    return walk


def _walk(
    context: dg.OpExecutionContext,
    conn: Connection,
    settings: Settings,
    config: WalkConfig,
    steps: Sequence[Step],
) -> Events:
    # Here, not above: every ingest run loads this module, and the libraries of Parquet take 0.1 s.
    from audit_platform.retention.walk import advance_due  # noqa: PLC0415

    lifecycle = read_lifecycle_context(conn, settings)
    clock = clock_of(config)
    ends_s = time.monotonic() + LONGEST_S
    yield from show_records(context.instance, list_partitions(conn), list_holds(conn), now=clock())
    outcomes: list[PartitionOutcome] = []
    for outcome in advance_due(
        conn,
        lifecycle,
        steps=steps,
        clock=clock,
        names=config.partitions,
        is_time_up=lambda: time.monotonic() > ends_s,
    ):
        outcomes.append(outcome)
        context.log.info("%s", sentence_of(outcome))
        # Shown at once: what a kill leaves undone is then the partitions behind this one alone.
        yield from materializations_of(outcome.row, list_holds(conn), outcome.taken)
    yield from evaluations_of(outcomes)
    yield from _end(outcomes)


def _end(outcomes: Sequence["PartitionOutcome"]) -> Iterator[dg.Output[None]]:
    """Show the sums; fail if a partition failed, after all others had their turn.

    Raises:
        Failure: Names the partitions; tried again if time may help.
    """
    shown = summary_of(outcomes)
    failed = [one for one in outcomes if one.failed_because is not None]
    if failed:
        sentences = "; ".join(sentence_of(one) for one in failed[:5])
        more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""  # noqa: PLR2004
        raise dg.Failure(
            description=f"{sentences}{more}",
            metadata=shown,
            allow_retries=any(one.error is not None and one.error.retryable for one in failed),
        )
    yield dg.Output(None, metadata=shown)


def _refuse_short_runway(conn: Connection, settings: Settings) -> None:
    """Take nothing away while partitions cannot be added.

    Raises:
        StepRefused: Fewer partitions are ahead than the alarm asks for.
    """
    # By the real clock, also in tests with another moment: it is about what is stored right now.
    ahead = read_runway(conn, now=datetime.now(UTC)).partitions
    if ahead < settings.partitions_alarm:
        raise StepRefused(
            f"{ahead} partitions are ahead, alarm below {settings.partitions_alarm}: nothing is "
            "detached or dropped until table_partitions was materialized",
            reason="runway",
        )


archive_due = _walk_op(
    ARCHIVE_OP,
    (Step.SEAL, Step.INDEX, Step.EXPORT, Step.VERIFY),
    "Seal, index, export and verify every partition whose time has come, the oldest first.",
)
detach_due = _walk_op(
    DETACH_OP, (Step.DETACH,), "Move readers to the archive and detach what is no longer hot."
)
drop_due = _walk_op(
    DROP_OP, (Step.DROP,), "Drop detached tables after their grace, proved once more."
)

_ARCHIVE_TEXT: Final = """
Seals the partitions that ended long enough ago, builds their cold indexes, writes their Parquet
files and lets another process read them back. Nothing is taken away. A repeat does what is left.
"""
_DETACH_TEXT: Final = """
Detaches verified partitions whose hot time is over, after both copies of their archive were hashed.
Refused while too few partitions are ahead; a legal hold or an old transaction makes one wait.
"""
_DROP_TEXT: Final = """
Drops tables that were detached for the grace period, after a second proof of the archive. Refused
while too few partitions are ahead; a legal hold makes one wait.
"""


@dg.job(description=_ARCHIVE_TEXT, executor_def=dg.in_process_executor, tags=_TAGS)
def archive_partitions() -> None:
    """Seal, index, export, verify."""
    archive_due()


@dg.job(description=_DETACH_TEXT, executor_def=dg.in_process_executor, tags=_TAGS)
def detach_partitions() -> None:
    """Detach."""
    detach_due()


@dg.job(description=_DROP_TEXT, executor_def=dg.in_process_executor, tags=_TAGS)
def drop_partitions() -> None:
    """Drop."""
    drop_due()


advance_partition = dg.define_asset_job(
    "advance_partition",
    selection=dg.AssetSelection.assets(*LIFECYCLE_ASSETS)
    | dg.AssetSelection.checks(
        partition_runway,
        ledger_equals_rows,
        archive_re_read,
        archive_unchanged,
        not_held_hot,
        not_held,
    ),
    description=(
        "Take the steps of one partition that are due, with the checks between them; a step that "
        "is not due is skipped. For operators: the nightly jobs do the same for all partitions."
    ),
    executor_def=dg.in_process_executor,
    tags=_TAGS,
)

merge_late_rows = dg.define_asset_job(
    "merge_late_rows",
    selection=dg.AssetSelection.assets(late_merge),
    description="Move late rows into their partitions; settle what former merges have ended.",
    executor_def=dg.in_process_executor,
    tags=_TAGS,
)

expire_archive = dg.define_asset_job(
    "expire_archive",
    selection=dg.AssetSelection.assets(archive_expiry),
    description="Mark archive files whose time is over; delete those that were marked before.",
    executor_def=dg.in_process_executor,
    tags=_TAGS,
)

drill_restore = dg.define_asset_job(
    "drill_restore",
    selection=dg.AssetSelection.assets(restore_drill),
    description="Restore a random archived partition on trial, compare it, record how it went.",
    executor_def=dg.in_process_executor,
    tags=_TAGS,
)
