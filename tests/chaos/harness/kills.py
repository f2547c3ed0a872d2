"""The faults of the fast stack: who is killed, frozen or ended, and the proof that it happened.

Here: one function per kind of fault; each starts again at once what it killed. Not here: when
which fault comes (`sweep.py`).
Guarantee: `Hit.kills` counts processes that ended by SIGKILL, seen by their exit status, or by
the absence of the very process where it is not our child. A point that was not reached in time is
disarmed and counts nothing.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations
from signal import SIGCONT, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, Signals
from threading import Event, Thread
from typing import Final

from audit_platform.crash_points import CRASH_POINTS
from tests.chaos.harness.fast_stack import FastStack
from tests.chaos.harness.kept import Kept

END_S: Final = 30.0
POINT_S: Final = 10.0
SHORT_FREEZE_S: Final = 1.0
# Longer than the lease of the fast stack (5 s): the frozen run wakes up as a zombie.
LONG_FREEZE_S: Final = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """What a fault did."""

    is_proved: bool
    kills: int = 0


Act = Callable[[FastStack], Hit]


def _end(kept: Kept, number: Signals) -> Hit:
    start = kept.starts - 1
    if not kept.signal(number):
        return Hit(is_proved=False)
    end = kept.wait_for_end(start, within_s=END_S)
    is_killed = end is not None and end.is_killed
    if number is SIGKILL:
        return Hit(is_proved=is_killed, kills=int(is_killed))
    # In good order: exit status 0, or by the signal where it came before the handler.
    return Hit(is_proved=end is not None and end.code in {0, -number})


def _kill_producer(stack: FastStack) -> Hit:
    return _end(stack.mortal_producer(), SIGKILL)


def _kill_drain(stack: FastStack) -> Hit:
    return _end(stack.mortal_drain(), SIGKILL)


def _end_producer(stack: FastStack) -> Hit:
    return _end(stack.mortal_producer(), SIGTERM)


def _end_drain(stack: FastStack) -> Hit:
    return _end(stack.mortal_drain(), SIGTERM)


def _reach(kept: Kept, point: str) -> Hit:
    """Arm a point and wait for the process to kill itself there."""
    start = kept.starts - 1
    kept.order(f"arm {point}")
    end = kept.wait_for_end(start, within_s=POINT_S)
    if end is None:
        kept.order("disarm")
        return Hit(is_proved=False)
    return Hit(is_proved=end.is_killed, kills=int(end.is_killed))


def _crash_producer(point: str) -> Act:
    return lambda stack: _reach(stack.mortal_producer(), point)


def _crash_drain(point: str) -> Act:
    return lambda stack: _reach(stack.mortal_drain(), point)


def _crash_merge(point: str) -> Act:
    """Killed after a commit, the next run finds the batch stored: it merges, and dies there."""

    def act(stack: FastStack) -> Hit:
        drain = stack.mortal_drain()
        drain.next_crash = point
        first = _reach(drain, "C_COMMITTED")
        if not first.is_proved:
            drain.next_crash = None
            return first
        start = drain.starts - 1 if len(drain.ends) < drain.starts else drain.starts
        second = drain.wait_for_end(start, within_s=END_S)
        is_killed = second is not None and second.is_killed
        return Hit(is_proved=is_killed, kills=1 + int(is_killed))

    return act


def _freeze(choose: Callable[[FastStack], Kept], seconds: float) -> Act:
    """SIGSTOP, and SIGCONT later from a thread: other faults go on meanwhile."""

    def act(stack: FastStack) -> Hit:
        kept = choose(stack)
        pid = kept.pid
        if not kept.signal(SIGSTOP):
            return Hit(is_proved=False)

        def thaw() -> None:
            Event().wait(seconds)
            if kept.pid == pid:
                kept.signal(SIGCONT)

        thread = Thread(target=thaw, name=f"thaw-{kept.name}", daemon=True)
        thread.start()
        stack.thawing.append(thread)
        return Hit(is_proved=True)

    return act


def _end_redis(number: Signals) -> Act:
    def act(stack: FastStack) -> Hit:
        server = stack.services.redis.server.process
        stack.services.redis.end(number)
        is_ended = server is not None and server.returncode is not None
        stack.services.redis.start()
        return Hit(is_proved=is_ended, kills=int(number is SIGKILL and is_ended))

    return act


def _end_postgres(number: Signals) -> Act:
    def act(stack: FastStack) -> Hit:
        server = stack.services.postgres.server.process
        is_ended = stack.services.postgres.end(number)
        is_ended = is_ended and server is not None and server.returncode is not None
        stack.services.postgres.start()
        return Hit(is_proved=is_ended, kills=int(number is SIGKILL and is_ended))

    return act


def _kill_all_of_postgres(stack: FastStack) -> Hit:
    count = len(stack.services.postgres.processes())
    stack.services.postgres.kill_all()
    stack.services.postgres.start()
    return Hit(is_proved=count > 1, kills=1)


def _kill_backend(stack: FastStack) -> Hit:
    """One session dies by SIGKILL: the server ends all sessions and recovers."""
    is_killed = stack.services.postgres.kill_backend("audit-platform drain")
    return Hit(is_proved=is_killed, kills=int(is_killed))


def _freeze_redis(stack: FastStack) -> Hit:
    with stack.services.redis.frozen():
        Event().wait(1.5)  # longer than the producers wait for a reply
    return Hit(is_proved=True)


def _freeze_postgres(stack: FastStack) -> Hit:
    with stack.services.postgres.frozen():
        Event().wait(SHORT_FREEZE_S)
    return Hit(is_proved=True)


RESTART_ORDERS: Final = tuple(permutations(("PostgreSQL", "Redis", "processes")))


def kill_everything(stack: FastStack, order: tuple[str, ...]) -> Hit:
    """F22: all processes die at one moment, and come back in one of six orders."""
    starts = [(kept, kept.starts - 1) for kept in stack.kept]
    for kept in stack.kept:
        kept.hold()
    for kept in stack.kept:
        kept.signal(SIGKILL)
    stack.services.postgres.kill_all()
    stack.services.redis.end(SIGKILL)
    ends = [kept.wait_for_end(start, within_s=END_S) for kept, start in starts]
    start_again: Mapping[str, Callable[[], None]] = {
        "PostgreSQL": stack.services.postgres.start,
        "Redis": stack.services.redis.start,
        "processes": lambda: _release(stack),
    }
    for name in order:
        start_again[name]()
        Event().wait(0.3)
    killed = sum(end is not None and end.is_killed for end in ends)
    return Hit(is_proved=killed > 0, kills=killed + 2)


def _release(stack: FastStack) -> None:
    for kept in stack.kept:
        kept.release()


def _kill_everything(stack: FastStack) -> Hit:
    return kill_everything(stack, stack.random.choice(RESTART_ORDERS))


def _producer_of(stack: FastStack) -> Kept:
    return stack.random.choice(stack.producers)


DRAIN_POINTS: Final = (
    "C_READ",
    "C_DECODED",
    "C_MIDCOPY",
    "C_BEFORE_COMMIT",
    "C_COMMITTED",
    "C_DONE",
)
MERGE_POINTS: Final = ("M_STAGED", "M_MERGED")
PRODUCER_POINTS: Final = tuple(
    point
    for point in ("P_BUFFERED", "P_SPOOLED", "P_ADDED", "P_CONFIRMED")
    if point in CRASH_POINTS
)

FAULTS: Final[Mapping[str, Act]] = {
    "producer SIGKILL": _kill_producer,
    "drain SIGKILL": _kill_drain,
    "Redis SIGKILL": _end_redis(SIGKILL),
    "postmaster SIGKILL": _end_postgres(SIGKILL),
    "PostgreSQL backend SIGKILL": _kill_backend,
    "PostgreSQL all SIGKILL": _kill_all_of_postgres,
    "everything SIGKILL": _kill_everything,
    **{f"producer at {point}": _crash_producer(point) for point in PRODUCER_POINTS},
    **{f"drain at {point}": _crash_drain(point) for point in DRAIN_POINTS},
    **{f"drain at {point}": _crash_merge(point) for point in MERGE_POINTS},
    "producer SIGTERM": _end_producer,
    "producer frozen 1 s": _freeze(_producer_of, SHORT_FREEZE_S),
    "drain SIGTERM": _end_drain,
    "drain frozen 1 s": _freeze(FastStack.active_drain, SHORT_FREEZE_S),
    "drain frozen past its lease": _freeze(FastStack.active_drain, LONG_FREEZE_S),
    "Redis SIGTERM": _end_redis(SIGTERM),
    "Redis frozen": _freeze_redis,
    "PostgreSQL fast stop": _end_postgres(SIGINT),
    "PostgreSQL immediate stop": _end_postgres(SIGQUIT),
    "PostgreSQL frozen": _freeze_postgres,
}


def inject(stack: FastStack, name: str) -> None:
    """Make one fault and note it; the time of recovery runs from its beginning."""
    fault = stack.recoveries.begin(name)
    with suppress(ProcessLookupError):
        hit = FAULTS[name](stack)
        fault.is_proved, fault.kills = hit.is_proved, hit.kills
