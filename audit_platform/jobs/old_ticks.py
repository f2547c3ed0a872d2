"""Old ticks of sensors and schedules in Dagster's storage: which go, and deleting them.

Here: the rule and the deletion. Not here: runs (`jobs/finished_runs.py`), the job
(`jobs/janitor.py`). Dagster's daemon purges ticks too, by fixed figures in `local/dagster.yaml`,
but only those of an instigator that ticks: ticks of a sensor that was stopped or renamed stay.
Guarantee: the newest tick of each instigator stays, because the daemon goes on from it; a tick
that is being evaluated is never deleted.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import dagster as dg

FAILURE: Final = "FAILURE"
FAILURES_LEAST: Final = timedelta(days=30)
"""A failed tick stays this long at least: it is the only trace of a sensor that failed."""
_QUIET: Final = ("SKIPPED", "SUCCESS")
TICKS_AT_ONCE: Final = 1_000
MOST_COUNTED: Final = 100_000
"""Counting reads each tick, about 2 KB: a backlog of years is not counted to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedTicks:
    """What was found and done for one sensor or schedule.

    Attributes:
        due: Ticks that were old enough; counted up to about `MOST_COUNTED`.
        deleted: As `due`, or 0 when nothing was to be deleted or time was up.
        oldest: Of those counted.
    """

    instigator: str
    due: int
    deleted: int
    oldest: datetime | None


@dataclass(slots=True)
class _Found:
    """Due ticks of one status, as far as counted."""

    status: Any
    before_s: float
    count: int = 0
    oldest_s: float | None = None


def tick_retention(longest: timedelta) -> Mapping[str, timedelta]:
    """Give the age at which ticks go, by status; those not named never go."""
    return {**dict.fromkeys(_QUIET, longest), FAILURE: max(longest, FAILURES_LEAST)}


def delete_old_ticks(
    instance: dg.DagsterInstance,
    longest: Mapping[str, timedelta],
    *,
    now: datetime,
    is_dry: bool,
    is_time_up: Callable[[], bool],
) -> Iterator[DeletedTicks]:
    """Delete old ticks, one sensor or schedule after the other; those without old ticks too.

    Args:
        instance: Dagster's storage.
        longest: Age by status, see `tick_retention`.
        now: Aware.
        is_dry: Only count.
        is_time_up: Asked before each deletion; True leaves the rest to the next call.
    """
    for state in instance.all_instigator_state():
        origin_id, selector_id = state.instigator_origin_id, state.selector_id
        found = _count(instance, (origin_id, selector_id), longest, now)
        deleted = 0
        for one in found:
            if is_dry or is_time_up():
                break
            instance.purge_ticks(origin_id, selector_id, one.before_s, [one.status])
            deleted += one.count
        moments = [one.oldest_s for one in found if one.oldest_s is not None]
        yield DeletedTicks(
            instigator=state.instigator_name,
            due=sum(one.count for one in found),
            deleted=deleted,
            oldest=datetime.fromtimestamp(min(moments), now.tzinfo) if moments else None,
        )


def _count(
    instance: dg.DagsterInstance,
    ids: tuple[str, str],
    longest: Mapping[str, timedelta],
    now: datetime,
) -> list[_Found]:
    """Count due ticks from the newest to the oldest; one item per status that has any."""
    newest = instance.get_ticks(*ids, limit=1)
    if not newest:
        return []
    # Both bounds are exclusive: the newest tick stays, whatever its age.
    before_s = {
        status: min((now - age).timestamp(), newest[0].timestamp) for status, age in longest.items()
    }
    found: dict[str, _Found] = {}
    reached_s, counted = max(before_s.values()), 0
    while counted < MOST_COUNTED:
        page = instance.get_ticks(*ids, before=reached_s, limit=TICKS_AT_ONCE)
        for tick in page:
            status = tick.status.value
            if tick.timestamp >= before_s.get(status, 0.0):
                continue
            one = found.setdefault(status, _Found(tick.status, before_s[status]))
            one.count += 1
            one.oldest_s = tick.timestamp
        if len(page) < TICKS_AT_ONCE:
            break
        counted += len(page)
        reached_s = page[-1].timestamp
    return list(found.values())
