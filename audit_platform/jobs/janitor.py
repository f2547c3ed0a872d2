"""Job `janitor`: clears up what is left in Redis and in Dagster's own storage.

Here: two ops, their config and what they show. Not here: how a shard is cleared up
(`events/janitor.py`), which runs go (`jobs/finished_runs.py`), when (`schedules.py`).
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from pydantic import Field

from audit_platform.events.janitor import ShardCare
from audit_platform.failures import dagster_failures
from audit_platform.jobs.finished_runs import DeletedRuns, RunRetention, delete_finished
from audit_platform.jobs.ingest import INGEST_JOB, LANE_TAG, MAX_RUNTIME_TAG
from audit_platform.jobs.maintenance import check_ledger, check_partitions
from audit_platform.resources import SettingsResource, StreamResource
from audit_platform.settings import Settings

JANITOR_JOB: Final = "janitor"
REDIS_OP: Final = "clear_redis_leftovers"
RUNS_OP: Final = "delete_finished_runs"
LONGEST_S: Final = 300.0
"""Of the deletion: about 5,000 runs. What is left over goes in the next hour."""

_TEXT: Final = """
Clears up, every hour: in Redis what a crash left and no drain looks at, in Dagster's storage the
finished runs that are old enough. A repeat does no harm. To only see what would be deleted, launch
it with `dry_run: true`.
"""


class DeletionConfig(dg.Config):
    """How much one run deletes."""

    dry_run: bool = Field(default=False, description="Only count what would be deleted.")
    most: int = Field(default=5_000, ge=1, le=100_000, description="Runs deleted at most.")


@dg.op(
    name=REDIS_OP,
    description="Make missing groups; remove acknowledged leftovers, fields of silent producers.",
)
def clear_redis_leftovers(
    context: dg.OpExecutionContext, settings: SettingsResource, stream: StreamResource
) -> None:
    """Clear up each shard and show what was found."""
    with dagster_failures(), stream.janitor() as janitor:
        now_ms = time.time_ns() // 1_000_000
        cares = [janitor.care_for(shard, now_ms=now_ms) for shard in range(settings.load().shards)]
    context.add_output_metadata(_care_metadata(cares))


@dg.op(name=RUNS_OP, description="Delete finished runs after their time, the oldest first.")
def delete_finished_runs(
    context: dg.OpExecutionContext, config: DeletionConfig, settings: SettingsResource
) -> None:
    """Delete, in bounded number and time, and show how many."""
    with dagster_failures():
        rules = retention_rules(settings.load())
    now, ends_s = datetime.now(UTC), time.monotonic() + LONGEST_S
    found: dict[str, DeletedRuns] = {}
    remaining = 0 if config.dry_run else config.most
    for rule in rules:
        done = delete_finished(
            context.instance,
            rule,
            now=now,
            most=remaining,
            is_time_up=lambda: time.monotonic() > ends_s,
        )
        found[rule.job_name or "all jobs"] = done
        remaining -= done.deleted
    context.add_output_metadata(_deletion_metadata(found, is_dry=config.dry_run))


@dg.job(
    name=JANITOR_JOB,
    description=_TEXT,
    executor_def=dg.in_process_executor,
    tags={LANE_TAG: "maintenance", MAX_RUNTIME_TAG: "900"},
)
def janitor() -> None:
    """Clear up in Redis and in Dagster's storage; neither waits for the other."""
    clear_redis_leftovers()
    delete_finished_runs()


def retention_rules(settings: Settings) -> tuple[RunRetention, ...]:
    """List the rules: runs that come by the dozen a day go early, all others late."""
    frequent = (INGEST_JOB, JANITOR_JOB, check_partitions.name, check_ledger.name)
    early = timedelta(days=settings.dagster_drains_retain_days)
    late = timedelta(days=settings.dagster_runs_retain_days)
    return (
        *(RunRetention(job_name=name, longest=early) for name in frequent),
        RunRetention(job_name=None, longest=late),
    )


def _care_metadata(cares: list[ShardCare]) -> dict[str, dg.MetadataValue]:
    made = [str(care.shard) for care in cares if care.was_group_made]
    return {
        "groups made": dg.MetadataValue.text(", ".join(made) or "none was missing"),
        "leftover entries removed": dg.MetadataValue.int(sum(care.trimmed for care in cares)),
        "pending entries": dg.MetadataValue.int(sum(care.pending for care in cares)),
        "lost by Redis": dg.MetadataValue.int(sum(care.redis_lost for care in cares)),
        "silent producers removed": dg.MetadataValue.int(
            sum(care.fields_removed for care in cares)
        ),
    }


def _deletion_metadata(
    found: dict[str, DeletedRuns], *, is_dry: bool
) -> dict[str, dg.MetadataValue]:
    rows = [
        dg.TableRecord(
            {
                "job": job,
                "due": done.due,
                "deleted": done.deleted,
                "oldest": done.oldest.isoformat(timespec="seconds") if done.oldest else "",
            }
        )
        for job, done in found.items()
    ]
    return {
        "dry run": dg.MetadataValue.bool(is_dry),
        "deleted": dg.MetadataValue.int(sum(done.deleted for done in found.values())),
        "due": dg.MetadataValue.int(sum(done.due for done in found.values())),
        "by job": dg.MetadataValue.table(
            records=rows,
            schema=dg.TableSchema(
                columns=[
                    dg.TableColumn("job", "string"),
                    dg.TableColumn("due", "int"),
                    dg.TableColumn("deleted", "int"),
                    dg.TableColumn("oldest", "string"),
                ]
            ),
        ),
    }
