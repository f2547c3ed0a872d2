"""When a shard needs a drain run (pure, without Dagster).

Here: the state of the shards as plain values, and what follows from it. Not here: reading that
state (`sensors/gather.py`), starting runs (`sensors/stream_backlog.py`), which runs nothing
executes any more (`sensors/lost_runs.py`).
Guarantees: nothing is launched for a shard while a live lease or a young run exists; no lost run
blocks its shard longer than the bounds below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

STARTED_BOUND_S: Final = 15.0
"""A started run takes its lease within a second; after this time without one it is lost. A second
run costs little: the one that comes later finds the lease held and ends."""
LAUNCHED_BOUND_S: Final = 20.0
"""A process starts within 2 s (measured on 2 cores); a run whose process died with its code server
keeps this status."""
PENDING_BOUND_S: Final = 120.0
"""Twice the start time-out of run monitoring: a run that waits longer blocks nothing."""
MAX_YOUNG_RUNS: Final = 2
"""Runs younger than `PENDING_BOUND_S` that wait for their first lease, at most: on a machine so
slow that no start ends within its bound, more of them would make it slower still."""
FREE_FAILURES: Final = 3
"""Runs that may fail in a row before relaunching slows down: kills are repaired at once."""
BACK_OFF_STEP_S: Final = 10.0
BACK_OFF_CAP_S: Final = 30.0
"""A run that cannot work (a wrong setting) fails within seconds: 17,280 runs a day otherwise."""
BUSY_BLOCK_MS: Final = 1_000
"""While another shard drains, look again so soon: its drain may end or die meanwhile."""
TRICKLE_FACTOR: Final = 10
"""A run whose events come one by one stays so many times the usual idle time: one event a minute
then takes 144 runs a day instead of 1,440, each about 35 KB in Dagster's storage."""
LISTED_SHARDS: Final = 8


class RunStage(StrEnum):
    """How far an unfinished run is."""

    PENDING = "pending"
    LAUNCHED = "launched"
    STARTED = "started"
    CANCELING = "canceling"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInFlight:
    """An unfinished drain run; `since` is when it reached its stage."""

    run_id: str
    stage: RunStage
    since: datetime

    def age_s(self, now: datetime) -> float:
        """Seconds at its stage."""
        return max(0.0, (now - self.since).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseState:
    """The lease row of a shard.

    Attributes:
        run_id: Owner, also a dead one; None if it is free.
        is_unexpired: Whether it names an owner, has time left by the database's clock, and the
            owner was not seen dead there.
        is_owner_finished: Whether Dagster reports the owner's run as finished; an unknown run is
            not finished, and its lease ends by time.
    """

    run_id: str | None = None
    is_unexpired: bool = False
    is_owner_finished: bool = False

    @property
    def is_live(self) -> bool:
        """Whether a run that may still be alive holds the shard."""
        return self.is_unexpired and not self.is_owner_finished


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardState:
    """One shard as a tick found it.

    Attributes:
        waiting: Entries in the stream: they are deleted after the commit, so any is work.
        oldest_s: Age of the oldest entry; None if there is none.
        runs: Unfinished runs of the shard.
        failures: Newest finished runs that failed in a row, at the entry that is the oldest now.
        failed_at: End of the newest of them.
        ended_s: Time since the newest finished run ended; None if there is none.
        owner_since: When the run began that took the lease last, dead or alive; None if unknown.
    """

    shard: int
    waiting: int
    oldest_s: float | None
    lease: LeaseState
    runs: tuple[RunInFlight, ...] = ()
    failures: int = 0
    failed_at: datetime | None = None
    ended_s: float | None = None
    owner_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """All shards at one moment; `block_ms` is how long a tick may wait for an entry."""

    now: datetime
    block_ms: int
    shards: tuple[ShardState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainRequest:
    """A run to launch.

    Attributes:
        dead_run_id: Finished owner whose lease it may take over.
        ended_s: Time since the run before it ended; None if there was none.
    """

    shard: int
    dead_run_id: str | None
    ended_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Launch these runs, at most one for each shard."""

    requests: tuple[DrainRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Wait for an entry on these shards, then decide once more."""

    shards: tuple[int, ...]
    block_ms: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Do nothing; `reason` is a sentence that an operator can act on."""

    reason: str


Decision = Launch | Wait | Skip


def decide(state: StreamState) -> Decision:
    """Decide what one tick does: launch where it is due, else wait on idle shards, else skip."""
    verdicts = {shard.shard: decide_shard(shard, state.now) for shard in state.shards}
    requests = tuple(verdict for verdict in verdicts.values() if isinstance(verdict, DrainRequest))
    if requests:
        return Launch(requests=requests)
    reason = _join([verdict.reason for verdict in verdicts.values() if isinstance(verdict, Skip)])
    idle = tuple(shard.shard for shard in state.shards if _is_idle(shard, state.now))
    if not idle:
        return Skip(reason=reason or "no shards: set AUDIT_SHARDS to 1 or more")
    is_all_idle = len(idle) == len(state.shards)
    block_ms = state.block_ms if is_all_idle else min(state.block_ms, BUSY_BLOCK_MS)
    return Wait(shards=idle, block_ms=block_ms, reason=reason)


def decide_shard(shard: ShardState, now: datetime) -> DrainRequest | Skip:
    """Decide for one shard alone.

    Returns:
        A request if entries wait and nothing works on them; else why not, as a sentence.
    """
    name, waiting = f"shard {shard.shard}", _entries(shard)
    if shard.lease.is_live:
        return Skip(reason=f"{name}: drain {_short(shard.lease.run_id)} active, {waiting}")
    blocking = _blocking_run(shard, now)
    if blocking is not None:
        run, age_s = _short(blocking.run_id), blocking.age_s(now)
        stage = f"{blocking.stage} for {age_s:.0f} s, no lease yet"
        return Skip(reason=f"{name}: drain {run} {stage}, {waiting}")
    if shard.waiting == 0:
        return Skip(reason=f"{name}: no entries")
    pause_s = back_off_s(shard, now)
    if pause_s > 0:
        failed = f"the last {shard.failures} drains failed, next in {pause_s:.0f} s"
        return Skip(reason=f"{name}: {failed}, {waiting}; read the newest run of job ingest")
    dead = shard.lease.run_id if shard.lease.is_unexpired else None
    return DrainRequest(shard=shard.shard, dead_run_id=dead, ended_s=shard.ended_s)


def idle_s_of(request: DrainRequest, *, usual_s: float, longest_s: float) -> float:
    """Choose after how much quiet a requested run ends.

    Args:
        request: Made by `decide`.
        usual_s: Setting `drain_idle_s`.
        longest_s: Setting `drain_idle_longest_s`.

    Returns:
        The usual time; a longer one when the run before ended so shortly ago that staying would
        have saved this run.
    """
    trickle_s = max(usual_s, min(longest_s, usual_s * TRICKLE_FACTOR))
    is_trickle = request.ended_s is not None and request.ended_s <= trickle_s
    return trickle_s if is_trickle else usual_s


def back_off_s(shard: ShardState, now: datetime) -> float:
    """Time until a shard whose runs keep failing is tried again; 0 if at once."""
    surplus = shard.failures - FREE_FAILURES
    if surplus <= 0 or shard.failed_at is None:
        return 0.0
    pause_s = min(BACK_OFF_CAP_S, BACK_OFF_STEP_S * surplus)
    return max(0.0, pause_s - (now - shard.failed_at).total_seconds())


def _is_idle(shard: ShardState, now: datetime) -> bool:
    is_held = shard.lease.is_live or _blocking_run(shard, now) is not None
    return shard.waiting == 0 and not is_held


def _blocking_run(shard: ShardState, now: datetime) -> RunInFlight | None:
    """Find a run that may still take the lease; the owner of a dead lease will not."""
    runs = [run for run in shard.runs if run.run_id != shard.lease.run_id]
    within = next((run for run in runs if run.age_s(now) <= _BOUNDS_S[run.stage]), None)
    # What began before the last owner had its turn: killed with its code server, it stays STARTED
    # for minutes, and two such would keep the shard waiting as long.
    young = [
        run
        for run in runs
        if run.age_s(now) <= PENDING_BOUND_S
        and (shard.owner_since is None or run.since > shard.owner_since)
    ]
    return within or (young[0] if len(young) >= MAX_YOUNG_RUNS else None)


_BOUNDS_S: Final = {
    RunStage.PENDING: PENDING_BOUND_S,
    RunStage.LAUNCHED: LAUNCHED_BOUND_S,
    RunStage.STARTED: STARTED_BOUND_S,
    RunStage.CANCELING: STARTED_BOUND_S,
}


def _entries(shard: ShardState) -> str:
    if shard.waiting == 0:
        return "no entries waiting"
    noun = "entry" if shard.waiting == 1 else "entries"
    age = "" if shard.oldest_s is None else f", the oldest {shard.oldest_s:,.0f} s old"
    return f"{shard.waiting:,} {noun} waiting{age}"


def _short(run_id: str | None) -> str:
    return (run_id or "?")[:8]


def _join(reasons: Sequence[str]) -> str:
    listed = "; ".join(reasons[:LISTED_SHARDS])
    hidden = len(reasons) - LISTED_SHARDS
    return f"{listed}; and {hidden} more shards" if hidden > 0 else listed
