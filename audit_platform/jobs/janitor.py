"""Job `janitor`: clears up what is left in Redis and in Dagster's own storage.

Here: the ops, their config and what they show. Not here: how a shard is cleared up
(`events/janitor.py`), which runs and ticks go (`jobs/finished_runs.py`, `jobs/old_ticks.py`), what
a deleted run leaves (`db/dagster_leftovers.py`), when (`schedules.py`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from pydantic import Field

from audit_platform.db.dagster_leftovers import LEFTOVERS, DeletedLeftovers, delete_leftovers
from audit_platform.db.pool import connected
from audit_platform.events.janitor import ShardCare
from audit_platform.failures import dagster_failures
from audit_platform.jobs.finished_runs import DeletedRuns, RunRetention, delete_finished
from audit_platform.jobs.ingest import INGEST_JOB, LANE_TAG, MAX_RUNTIME_TAG
from audit_platform.jobs.maintenance import check_ledger, check_partitions
from audit_platform.jobs.old_ticks import DeletedTicks, delete_old_ticks, tick_retention
from audit_platform.resources import SettingsResource, StreamResource
from audit_platform.settings import Settings

JANITOR_JOB: Final = "janitor"
REDIS_OP: Final = "clear_redis_leftovers"
RUNS_OP: Final = "delete_finished_runs"
TICKS_OP: Final = "delete_old_ticks"
LEFTOVERS_OP: Final = "delete_run_leftovers"
LONGEST_S: Final = 300.0
"""Of the deletion of runs: about 5,000. What is left over goes in the next hour."""
SHORTER_S: Final = 60.0
"""Of the other two, which delete many rows at once."""
ROWS_PER_RUN: Final = 100
"""A drain run leaves some 40 events."""

_TEXT: Final = """
Clears up, every hour: in Redis what a crash left and no drain looks at; in Dagster's storage
finished runs with their events, ticks of sensors and schedules, and what deleted runs left, each
when it is old enough (`AUDIT_DAGSTER_DRAINS_RETAIN_DAYS`, `AUDIT_DAGSTER_RUNS_RETAIN_DAYS`,
`AUDIT_TICKS_RETAIN_DAYS`). A repeat does no harm. To only see what would be deleted, launch it
with `dry_run: true`: then Redis is left alone too.
"""


class PruneConfig(dg.Config):
    """How much one run deletes; the same for every op, so that nothing escapes a dry run."""

    dry_run: bool = Field(default=False, description="Only count what would be deleted.")
    most: int = Field(
        default=5_000,
        ge=1,
        le=100_000,
        description="Runs deleted at most; of rows that they left, 100 times as many.",
    )


class CareConfig(dg.Config):
    """Whether Redis is cleared up."""

    dry_run: bool = Field(default=False, description="Leave Redis as it is.")


@dg.config_mapping
def prune_config(val: PruneConfig) -> dg.RunConfig:
    """Hand the config of the job to each op."""
    return dg.RunConfig(
        ops={
            REDIS_OP: CareConfig(dry_run=val.dry_run),
            **dict.fromkeys((RUNS_OP, TICKS_OP, LEFTOVERS_OP), val),
        }
    )


@dg.op(
    name=REDIS_OP,
    description="Make missing groups; remove acknowledged leftovers, fields of silent producers.",
)
def clear_redis_leftovers(
    context: dg.OpExecutionContext,
    config: CareConfig,
    settings: SettingsResource,
    stream: StreamResource,
) -> None:
    """Clear up each shard and show what was found."""
    if config.dry_run:
        context.add_output_metadata({"dry run": dg.MetadataValue.bool(config.dry_run)})
        return
    with dagster_failures(), stream.janitor() as janitor:
        now_ms = time.time_ns() // 1_000_000
        cares = [janitor.care_for(shard, now_ms=now_ms) for shard in range(settings.load().shards)]
    context.add_output_metadata(_care_metadata(cares))


@dg.op(name=RUNS_OP, description="Delete finished runs after their time, the oldest first.")
def delete_finished_runs(
    context: dg.OpExecutionContext, config: PruneConfig, settings: SettingsResource
) -> None:
    """Delete, in bounded number and time, and show how many."""
    with dagster_failures():
        rules = retention_rules(settings.load())
    now, is_time_up = datetime.now(UTC), _time_limit(LONGEST_S)
    found: dict[str, DeletedRuns] = {}
    remaining = 0 if config.dry_run else config.most
    for rule in rules:
        done = delete_finished(
            context.instance, rule, now=now, most=remaining, is_time_up=is_time_up
        )
        found[rule.job_name or "all jobs"] = done
        remaining -= done.deleted
    context.add_output_metadata(_deletion_metadata(found, is_dry=config.dry_run))


@dg.op(name=TICKS_OP, description="Delete old ticks of sensors and schedules.")
def delete_ticks(
    context: dg.OpExecutionContext, config: PruneConfig, settings: SettingsResource
) -> None:
    """Delete ticks in bounded time, and show how many."""
    with dagster_failures():
        longest = timedelta(days=settings.load().ticks_retain_days)
    found = delete_old_ticks(
        context.instance,
        tick_retention(longest),
        now=datetime.now(UTC),
        is_dry=config.dry_run,
        is_time_up=_time_limit(SHORTER_S),
    )
    context.add_output_metadata(_tick_metadata(list(found), is_dry=config.dry_run))


@dg.op(name=LEFTOVERS_OP, description="Delete events and check results of runs that are gone.")
def delete_run_leftovers(
    context: dg.OpExecutionContext, config: PruneConfig, settings: SettingsResource
) -> None:
    """Delete rows in bounded number and time, and show how many."""
    is_time_up = _time_limit(SHORTER_S)
    most = 0 if config.dry_run else ROWS_PER_RUN * config.most
    with dagster_failures():
        values = settings.load()
        before = datetime.now(UTC) - timedelta(days=values.dagster_drains_retain_days)
        found: list[DeletedLeftovers] = []
        # Without a URL Dagster keeps its runs elsewhere; there is nothing to look at.
        if values.dagster_url is not None:
            with connected(values.database_url_of("dagster"), application="janitor") as conn:
                found = [
                    delete_leftovers(conn, kind, before=before, most=most, is_time_up=is_time_up)
                    for kind in LEFTOVERS
                ]
    context.add_output_metadata(_leftover_metadata(found, is_dry=config.dry_run))


@dg.job(
    name=JANITOR_JOB,
    description=_TEXT,
    config=prune_config,
    executor_def=dg.in_process_executor,
    tags={LANE_TAG: "maintenance", MAX_RUNTIME_TAG: "900"},
)
def janitor() -> None:
    """Clear up in Redis and in Dagster's storage; none waits for the others."""
    clear_redis_leftovers()
    delete_finished_runs()
    delete_ticks()
    delete_run_leftovers()


def retention_rules(settings: Settings) -> tuple[RunRetention, ...]:
    """List the rules: runs that come by the dozen a day go early, all others late."""
    frequent = (INGEST_JOB, JANITOR_JOB, check_partitions.name, check_ledger.name)
    early = timedelta(days=settings.dagster_drains_retain_days)
    late = timedelta(days=settings.dagster_runs_retain_days)
    return (
        *(RunRetention(job_name=name, longest=early) for name in frequent),
        RunRetention(job_name=None, longest=late),
    )


def _time_limit(longest_s: float) -> Callable[[], bool]:
    ends_s = time.monotonic() + longest_s
    return lambda: time.monotonic() > ends_s


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
        {"job": job, "due": done.due, "deleted": done.deleted, "oldest": _text(done.oldest)}
        for job, done in found.items()
    ]
    return _shown(rows, "by job", is_dry=is_dry)


def _tick_metadata(found: list[DeletedTicks], *, is_dry: bool) -> dict[str, dg.MetadataValue]:
    rows = [
        {
            "instigator": done.instigator,
            "due": done.due,
            "deleted": done.deleted,
            "oldest": _text(done.oldest),
        }
        for done in found
        if done.due
    ]
    return _shown(rows, "by sensor and schedule", is_dry=is_dry)


def _leftover_metadata(
    found: list[DeletedLeftovers], *, is_dry: bool
) -> dict[str, dg.MetadataValue]:
    rows = [{"kind": done.name, "due": done.due, "deleted": done.deleted} for done in found]
    return _shown(rows, "by kind", is_dry=is_dry)


def _shown(
    rows: Sequence[Mapping[str, str | int]], title: str, *, is_dry: bool
) -> dict[str, dg.MetadataValue]:
    shown: dict[str, dg.MetadataValue] = {
        "dry run": dg.MetadataValue.bool(is_dry),
        "deleted": dg.MetadataValue.int(sum(int(row["deleted"]) for row in rows)),
        "due": dg.MetadataValue.int(sum(int(row["due"]) for row in rows)),
    }
    if rows:
        # Columns named here: Dagster would take them from the first row, all as text.
        columns = [
            dg.TableColumn(name, "int" if isinstance(value, int) else "string")
            for name, value in rows[0].items()
        ]
        shown[title] = dg.MetadataValue.table(
            records=[dg.TableRecord(dict(row)) for row in rows],
            schema=dg.TableSchema(columns=columns),
        )
    return shown


def _text(moment: datetime | None) -> str:
    return moment.isoformat(timespec="seconds") if moment else ""
