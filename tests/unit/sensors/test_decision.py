"""Every branch of the decision to drain, and that no lost run can block a shard."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.sensors.decision import (
    BACK_OFF_CAP_S,
    BUSY_BLOCK_MS,
    LAUNCHED_BOUND_S,
    PENDING_BOUND_S,
    STARTED_BOUND_S,
    DrainRequest,
    Launch,
    LeaseState,
    RunInFlight,
    RunStage,
    ShardState,
    Skip,
    StreamState,
    Wait,
    back_off_s,
    decide,
    decide_shard,
    idle_s_of,
)

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
BLOCK_MS = 9_500
RUN = "3f2a77aa-0000-4000-8000-000000000000"
OTHER = "9bc1d2ee-0000-4000-8000-000000000000"
LIVE = LeaseState(run_id=RUN, is_unexpired=True)
DEAD_OWNER = LeaseState(run_id=RUN, is_unexpired=True, is_owner_finished=True)


def shard(number: int = 0, *, waiting: int = 0, lease: LeaseState | None = None) -> ShardState:
    oldest_s = 12.0 if waiting else None
    return ShardState(shard=number, waiting=waiting, oldest_s=oldest_s, lease=lease or LeaseState())


def state(*shards: ShardState) -> StreamState:
    return StreamState(now=NOW, block_ms=BLOCK_MS, shards=shards)


def run(stage: RunStage, age_s: float, *, run_id: str = RUN) -> RunInFlight:
    return RunInFlight(run_id=run_id, stage=stage, since=NOW - timedelta(seconds=age_s))


def with_runs(one: ShardState, *runs: RunInFlight) -> ShardState:
    return replace(one, runs=runs)


def test_waiting_entries_without_a_drain_are_launched() -> None:
    assert decide(state(shard(waiting=3))) == Launch(
        requests=(DrainRequest(shard=0, dead_run_id=None),)
    )


def test_empty_stream_is_waited_on_for_the_whole_block() -> None:
    assert decide(state(shard())) == Wait(
        shards=(0,), block_ms=BLOCK_MS, reason="shard 0: no entries"
    )


def test_live_lease_is_left_alone_and_named() -> None:
    assert decide(state(shard(waiting=1_204, lease=LIVE))) == Skip(
        reason="shard 0: drain 3f2a77aa active, 1,204 entries waiting, the oldest 12 s old"
    )


def test_live_lease_without_entries_is_not_waited_on() -> None:
    """Its drain would take the entry first: waiting would only wake the sensor for nothing."""
    assert decide(state(shard(lease=LIVE))) == Skip(
        reason="shard 0: drain 3f2a77aa active, no entries waiting"
    )


def test_lease_of_a_finished_run_is_taken_over_at_once() -> None:
    assert decide(state(shard(waiting=1, lease=DEAD_OWNER))) == Launch(
        requests=(DrainRequest(shard=0, dead_run_id=RUN),)
    )


def test_expired_lease_needs_no_dead_run() -> None:
    expired = LeaseState(run_id=RUN, is_unexpired=False)

    assert decide(state(shard(waiting=1, lease=expired))) == Launch(
        requests=(DrainRequest(shard=0, dead_run_id=None),)
    )


@pytest.mark.parametrize(
    ("stage", "bound_s"),
    [
        (RunStage.PENDING, PENDING_BOUND_S),
        (RunStage.LAUNCHED, LAUNCHED_BOUND_S),
        (RunStage.STARTED, STARTED_BOUND_S),
        (RunStage.CANCELING, STARTED_BOUND_S),
    ],
)
def test_run_in_flight_blocks_until_its_bound_and_no_longer(
    stage: RunStage, bound_s: float
) -> None:
    young = with_runs(shard(waiting=1), run(stage, bound_s))
    lost = with_runs(shard(waiting=1), run(stage, bound_s + 0.001))

    assert decide(state(young)) == Skip(
        reason=f"shard 0: drain 3f2a77aa {stage} for {bound_s:.0f} s, no lease yet, "
        "1 entry waiting, the oldest 12 s old"
    )
    assert isinstance(decide(state(lost)), Launch)


def test_killed_owner_of_a_lease_blocks_nobody_however_young_it_is() -> None:
    """Killed with its code server, a run stays started: it blocked its shard for a minute."""
    dead = LeaseState(run_id=RUN, is_unexpired=False)
    killed = with_runs(shard(waiting=1, lease=dead), run(RunStage.STARTED, 1))
    replaced = replace(killed, runs=(run(RunStage.LAUNCHED, 1, run_id=OTHER), *killed.runs))

    assert isinstance(decide(state(killed)), Launch)
    assert isinstance(decide(state(replaced)), Skip)


def test_starts_that_take_too_long_are_tried_once_more_but_not_for_ever() -> None:
    late = run(RunStage.LAUNCHED, LAUNCHED_BOUND_S + 1)
    later = replace(late, run_id=OTHER, since=late.since - timedelta(seconds=LAUNCHED_BOUND_S))

    assert isinstance(decide(state(with_runs(shard(waiting=1), late))), Launch)
    assert isinstance(decide(state(with_runs(shard(waiting=1), late, later))), Skip)


def test_runs_from_before_the_last_owner_are_no_starts() -> None:
    """Killed with their platform one after the other: they kept the shard waiting for a minute."""
    dead = LeaseState(run_id="owner", is_unexpired=False)
    killed = (run(RunStage.STARTED, 60), run(RunStage.STARTED, 90, run_id=OTHER))
    one = with_runs(shard(waiting=1, lease=dead), *killed)

    owner_since = NOW - timedelta(seconds=30)
    assert isinstance(decide(state(replace(one, owner_since=owner_since))), Launch)
    assert isinstance(decide(state(one)), Skip)


def test_lost_run_does_not_hide_a_young_one() -> None:
    both = with_runs(
        shard(waiting=1), run(RunStage.STARTED, 900), run(RunStage.PENDING, 1, run_id=OTHER)
    )

    decision = decide(state(both))
    assert isinstance(decision, Skip)
    assert "9bc1d2ee pending" in decision.reason


def test_empty_stream_with_a_lost_run_is_idle() -> None:
    assert isinstance(decide(state(with_runs(shard(), run(RunStage.STARTED, 900)))), Wait)


def test_one_shard_launches_while_others_drain() -> None:
    decision = decide(state(shard(0, waiting=5, lease=LIVE), shard(1, waiting=5), shard(2)))

    assert decision == Launch(requests=(DrainRequest(shard=1, dead_run_id=None),))


def test_idle_shards_beside_a_busy_one_are_waited_on_for_a_moment_only() -> None:
    decision = decide(state(shard(0, waiting=5, lease=LIVE), shard(1), shard(2)))

    assert isinstance(decision, Wait)
    assert (decision.shards, decision.block_ms) == ((1, 2), BUSY_BLOCK_MS)


def test_every_busy_shard_is_named_up_to_a_readable_number() -> None:
    decision = decide(state(*(shard(number, waiting=1, lease=LIVE) for number in range(11))))

    assert isinstance(decision, Skip)
    assert decision.reason.startswith("shard 0: drain 3f2a77aa active")
    assert decision.reason.endswith("; and 3 more shards")


def test_no_shards_at_all_names_the_setting() -> None:
    assert decide(state()) == Skip(reason="no shards: set AUDIT_SHARDS to 1 or more")


def failing(failures: int, ago_s: float) -> ShardState:
    return replace(shard(waiting=7), failures=failures, failed_at=NOW - timedelta(seconds=ago_s))


def test_first_failures_are_relaunched_at_once() -> None:
    assert isinstance(decide(state(failing(3, ago_s=0))), Launch)


def test_further_failures_slow_relaunching_down_and_say_so() -> None:
    assert decide(state(failing(5, ago_s=8))) == Skip(
        reason="shard 0: the last 5 drains failed, next in 12 s, 7 entries waiting, "
        "the oldest 12 s old; read the newest run of job ingest"
    )


def test_back_off_is_capped_and_ends() -> None:
    assert back_off_s(failing(500, ago_s=0), NOW) == BACK_OFF_CAP_S
    assert isinstance(decide(state(failing(500, ago_s=BACK_OFF_CAP_S))), Launch)


RUNS = st.builds(
    RunInFlight,
    run_id=st.sampled_from([RUN, OTHER]),
    stage=st.sampled_from(RunStage),
    since=st.floats(0, 2_000).map(lambda age_s: NOW - timedelta(seconds=age_s)),
)
LEASES = st.builds(
    LeaseState,
    run_id=st.sampled_from([RUN, OTHER]),
    is_unexpired=st.booleans(),
    is_owner_finished=st.booleans(),
)
SHARDS = st.builds(
    ShardState,
    shard=st.just(0),
    waiting=st.integers(0, 10**9),
    oldest_s=st.none() | st.floats(0, 10**6),
    lease=LEASES | st.just(LeaseState()),
    runs=st.lists(RUNS, max_size=4).map(tuple),
    failures=st.integers(0, 50),
    failed_at=st.none() | st.floats(0, 100).map(lambda age_s: NOW - timedelta(seconds=age_s)),
)


@given(one=SHARDS)
def test_nothing_is_launched_beside_a_live_lease_or_a_young_run(one: ShardState) -> None:
    others = [each for each in one.runs if each.run_id != one.lease.run_id]
    is_young = any((NOW - each.since).total_seconds() <= STARTED_BOUND_S for each in others)
    verdict = decide_shard(one, NOW)

    if one.lease.is_live or is_young or one.waiting == 0:
        assert isinstance(verdict, Skip)
        assert verdict.reason.startswith("shard 0: ")


@given(one=SHARDS.filter(lambda one: one.waiting > 0))
def test_no_shard_is_wedged_once_its_lease_has_expired(one: ShardState) -> None:
    """Whatever lies around, entries are drained when the bounds have passed."""
    later = NOW + timedelta(seconds=max(PENDING_BOUND_S, STARTED_BOUND_S, BACK_OFF_CAP_S) + 1)
    expired = replace(one, lease=replace(one.lease, is_unexpired=False))

    assert decide_shard(expired, later) == DrainRequest(shard=0, dead_run_id=None)


@given(shards=st.lists(SHARDS, max_size=5))
def test_every_decision_is_a_launch_a_wait_or_a_useful_sentence(shards: list[ShardState]) -> None:
    numbered = tuple(replace(one, shard=number) for number, one in enumerate(shards))
    decision = decide(state(*numbered))

    match decision:
        case Launch(requests=requests):
            assert len({request.shard for request in requests}) == len(requests) > 0
        case Wait(shards=idle):
            assert idle
            assert all(numbered[number].waiting == 0 for number in idle)
        case Skip(reason=reason):
            assert len(reason) > 20


@pytest.mark.parametrize(
    ("ended_s", "usual_s", "longest_s", "expected"),
    [
        (None, 30, 300, 30),  # the first run of its shard
        (0, 30, 300, 300),
        (300, 30, 300, 300),
        (300.1, 30, 300, 30),  # staying would not have saved this run
        (5, 1, 300, 10),  # ten times the usual
        (11, 1, 300, 1),
        (5, 30, 0, 30),  # switched off
        (50, 30, 60, 60),
    ],
)
def test_run_stays_longer_where_that_would_have_saved_it(
    ended_s: float | None, usual_s: float, longest_s: float, expected: float
) -> None:
    request = DrainRequest(shard=0, dead_run_id=None, ended_s=ended_s)

    assert idle_s_of(request, usual_s=usual_s, longest_s=longest_s) == expected


def test_one_event_a_minute_takes_six_runs_an_hour() -> None:
    """It took sixty: each run ended 30 s after its event, and the next event started another."""
    clock_s, runs, ended_at_s = 0.0, 0, None
    while clock_s < 3_600:
        runs += 1
        ended_s = None if ended_at_s is None else clock_s - ended_at_s
        request = DrainRequest(shard=0, dead_run_id=None, ended_s=ended_s)
        idle_s = idle_s_of(request, usual_s=30, longest_s=300)
        ended_at_s = clock_s + (idle_s if idle_s < 60 else 600)
        clock_s = 60 * (ended_at_s // 60 + 1)

    assert runs <= 7
