"""Which unfinished drain runs nothing executes any more (pure, without Dagster).

Here: who is a suspect, and when a suspect is dead. Not here: reading the state
(`sensors/gather.py`), reporting the dead (`sensors/reaper.py`), when a shard needs another run
(`sensors/decision.py`): that waits for none of this.
Guarantee: the owner of a live lease is never a suspect.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from audit_platform.sensors.decision import STARTED_BOUND_S, LeaseState, RunInFlight, RunStage

REAP_PENDING_S: Final = 600.0
"""A full queue may hold a run back for minutes; only then is it reported failed."""
REAP_CONFIRM_S: Final = 30.0
"""A suspect stays one for a lease time before it is reported: it may be about to end."""


def suspects(
    runs: Mapping[int, Sequence[RunInFlight]], leases: Mapping[int, LeaseState], now: datetime
) -> tuple[str, ...]:
    """List the runs that nothing seems to execute any more.

    Args:
        runs: Unfinished runs by shard.
        leases: Lease of each shard; a shard without one has no owner.
        now: Aware.
    """
    return tuple(
        run.run_id
        for shard, in_flight in runs.items()
        for run in in_flight
        if _is_suspect(run, leases.get(shard, LeaseState()), now)
    )


def confirm(
    suspected: Sequence[str], seen: Mapping[str, float], now_s: float
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Separate the runs that were suspects long enough from those to look at again.

    Args:
        suspected: Run ids that are suspects now.
        seen: When each earlier suspect was first one, epoch seconds.
        now_s: Epoch seconds.

    Returns:
        The dead runs, and `seen` for the next tick, without the dead and the cleared ones.
    """
    first = {run_id: seen.get(run_id, now_s) for run_id in suspected}
    dead = tuple(run_id for run_id, since_s in first.items() if now_s - since_s >= REAP_CONFIRM_S)
    return dead, {run_id: since_s for run_id, since_s in first.items() if run_id not in dead}


def _is_suspect(run: RunInFlight, lease: LeaseState, now: datetime) -> bool:
    match run.stage:
        case RunStage.STARTED:
            is_owner = lease.is_unexpired and lease.run_id == run.run_id
            return not is_owner and run.age_s(now) > STARTED_BOUND_S
        case RunStage.PENDING | RunStage.LAUNCHED:
            return run.age_s(now) > REAP_PENDING_S
        case RunStage.CANCELING:
            return False  # run monitoring ends these, cancel_timeout_seconds in dagster.yaml
