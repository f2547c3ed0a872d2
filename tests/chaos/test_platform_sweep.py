"""Kills on the real stack: run worker, code server, daemon, Redis, PostgreSQL, supervisor, all.

A second daemon works on the same Dagster home meanwhile (F13): it may launch runs too many, which
are counted; the lease lets one of them store.

Part of `make chaos` only: 20 kills with their recoveries take some minutes. `tests/acceptance` has
one kill of each within `make test`.
"""

import subprocess
import time
from collections.abc import Callable, Sequence

import psutil
import pytest

from tests.chaos.harness.extent import IS_FULL, start_number
from tests.chaos.harness.platform_stack import (
    PlatformStack,
    eventually,
    kill,
    platform_stack,
    watched,
)
from tests.chaos.harness.report import publish, result_of

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(1_500),
    pytest.mark.skipif(not IS_FULL, reason="part of make chaos (AUDIT_TEST_CHAOS=full)"),
]

# A killed run blocks 90 s at most (goal R4); p95 over all faults is judged by the report.
RECOVERY_LIMIT_S = 90.0
LEAST_KILLS = 20
STORING_RUNS = "select count(distinct run_id) from audit.ingest_batch"


def worker_with_code_server(stack: PlatformStack) -> Sequence[psutil.Process]:
    return [*stack.run_workers(), *stack.service("code-server")]


def supervisor(stack: PlatformStack) -> Sequence[psutil.Process]:
    return [psutil.Process(stack.process.pid)]


VICTIMS: dict[str, Callable[[PlatformStack], Sequence[psutil.Process]]] = {
    "run worker": PlatformStack.run_workers,
    "code server": lambda stack: stack.service("code-server"),
    "daemon": lambda stack: stack.service("daemon"),
    "Redis": lambda stack: stack.service("redis"),
    "PostgreSQL": lambda stack: stack.service("postgres"),
    "run worker and code server": worker_with_code_server,
}
ROUNDS = 2
LAST = {"supervisor": supervisor, "everything": PlatformStack.all_processes}


def end_of(process: "subprocess.Popen[bytes]") -> int | None:
    """End the second daemon, since a restart waits for an empty house; its own code, if any."""
    code = process.poll()
    if code is None:
        process.kill()
        process.wait()
    return code


def test_kills_on_the_real_stack_lose_nothing_and_store_nothing_twice() -> None:
    seed, began_s = start_number(), time.monotonic()
    with (
        platform_stack(seed=seed, producers=2, rate=100) as stack,
        watched(stack) as (reader, recoveries),
    ):
        order, second_code = list(VICTIMS) * ROUNDS, None
        stack.random.shuffle(order)
        second = stack.second_daemon()
        for name in [*order, *LAST]:
            victims = (VICTIMS | LAST)[name]
            eventually(lambda victims=victims: victims(stack) != [], within_s=90, what=name)
            processes = victims(stack)
            fault = recoveries.begin(f"{name} SIGKILL")
            fault.kills = kill(processes)
            fault.is_proved = fault.kills > 0
            if name in LAST:
                second_code = end_of(second)
                stack.restart()
            assert recoveries.wait_until_all(within_s=RECOVERY_LIMIT_S), name
        for producer in stack.producers:
            producer.order("quiet")
        stack.site.settled_verdict(within_s=90)
        for producer in stack.producers:
            producer.finish()
        verdict = stack.site.settled_verdict(within_s=90)
        seen = reader.stop()
        publish(
            result_of(
                "real stack",
                versions=(stack.site.ask("show server_version")[0][0], "6.2"),
                seed=seed,
                seconds=time.monotonic() - began_s,
                verdict=verdict,
                faults=recoveries.faults,
                seen=seen,
                **{
                    "runs launched, two daemons among them": stack.launched_runs(),
                    "runs that stored": stack.site.ask(STORING_RUNS)[0][0],
                    "second daemon": f"ended with {second_code}" if second_code else "ran on",
                },
            )
        )

    assert verdict.problems() == []
    assert (seen.duplicates, seen.vanished) == (0, 0)
    assert sum(fault.kills for fault in recoveries.faults) >= LEAST_KILLS
