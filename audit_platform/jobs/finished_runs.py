"""Finished runs in Dagster's storage: which are old enough, and deleting them in bounded steps.

Here: the rule and the deletion. Not here: ticks (`jobs/old_ticks.py`), what a deletion leaves
(`db/dagster_leftovers.py`), the job (`jobs/janitor.py`).
Guarantee: an unfinished run is never deleted; one call deletes a bounded number and takes a
bounded time, so that a backlog of years is worked off over many calls; a process killed in the
middle leaves a run that the next call finds, never events without their run.

Source: Dagster design, section 4: a deletion takes 62 ms and removes events, tags and
observations of the run, snapshots apart.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import dagster as dg

FINISHED: Final = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)
RUNS_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRetention:
    """Finished runs of one job, or of every job (None), go when they are older than this."""

    job_name: str | None
    longest: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedRuns:
    """What one call found and did.

    Attributes:
        due: Runs that were old enough.
        deleted: Runs deleted; fewer than `due` when a bound was reached or nothing is deleted.
        oldest: Creation of the oldest run that was due.
    """

    due: int
    deleted: int
    oldest: datetime | None


def delete_finished(
    instance: dg.DagsterInstance,
    rule: RunRetention,
    *,
    now: datetime,
    most: int,
    is_time_up: Callable[[], bool],
) -> DeletedRuns:
    """Delete the finished runs that a rule lets go, the oldest first.

    Args:
        instance: Dagster's storage.
        rule: Which runs, how old.
        now: Aware.
        most: Runs deleted at most; 0 only counts.
        is_time_up: Asked before each deletion; True ends the call early.
    """
    filters = dg.RunsFilter(
        job_name=rule.job_name, statuses=list(FINISHED), created_before=now - rule.longest
    )
    due = instance.get_runs_count(filters)
    first = instance.get_run_records(filters, limit=1, ascending=True)
    deleted = 0
    for run_id in _oldest(instance, filters, most):
        if is_time_up():
            break
        # Events first: delete_run takes the row first, and a kill between its two halves would
        # leave events that no list of runs leads to.
        instance.event_log_storage.delete_events(run_id)
        instance.delete_run(run_id)
        deleted += 1
    oldest = first[0].create_timestamp if first else None
    return DeletedRuns(due=due, deleted=deleted, oldest=oldest)


def _oldest(instance: dg.DagsterInstance, filters: dg.RunsFilter, most: int) -> Iterable[str]:
    """Give run ids in pages; each page is deleted before the next is read."""
    remaining = most
    while remaining > 0:
        page = instance.get_run_records(filters, limit=min(RUNS_AT_ONCE, remaining), ascending=True)
        if not page:
            return
        yield from (record.dagster_run.run_id for record in page)
        remaining -= len(page)
