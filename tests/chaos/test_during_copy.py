"""F19: PostgreSQL ends in four ways while a COPY is open; nothing is lost, nothing stored twice.

The drain halts in the middle of its COPY, so that each fault meets one: the server's own view of
its sessions proves it. Nobody resends here; what the database lost would stay lost.
"""

import time
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT

import psycopg
import pytest

from tests.chaos.harness.extent import amount, start_number
from tests.chaos.harness.fast_stack import drain
from tests.chaos.harness.oracle import judge
from tests.chaos.harness.recovery import Fault
from tests.chaos.harness.report import publish, result_of
from tests.chaos.harness.services import Services, running_services
from tests.chaos.harness.stream_load import StreamLoad
from tests.integration.events.shard import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(amount(180, 900))]

ROUNDS = amount(2, 20)
EVENTS = 60
KINDS = ("fast stop", "immediate stop", "postmaster SIGKILL", "backend SIGKILL")
OPEN_COPIES = "select count(*) from pg_stat_activity where state = 'active' and query ilike %s"


def fail(services: Services, kind: str) -> bool:
    """Make one fault; whether it is sure that it happened."""
    if kind == "backend SIGKILL":
        return services.postgres.kill_backend("audit-platform drain")
    number = {"fast stop": SIGINT, "immediate stop": SIGQUIT, "postmaster SIGKILL": SIGKILL}[kind]
    server = services.postgres.server.process
    is_ended = services.postgres.end(number)
    services.postgres.start()
    return is_ended and server is not None and server.returncode is not None


def test_postgresql_that_ends_during_copy_loses_nothing() -> None:
    began_s, faults = time.monotonic(), list[Fault]()
    with running_services() as services:
        load = StreamLoad(services.settings, rate=0)
        halt = services.directory / "halted"
        kept = drain(
            services, "drain-a", module="prepared_drain", halt_at="C_MIDCOPY", halt_file=str(halt)
        )
        kept.begin()
        try:
            for kind in KINDS * ROUNDS:
                faults.append(one_round(services, load, halt, kind))
        finally:
            kept.discard()
        verdict = judge(load.stop(), services.stored())
        publish(
            result_of(
                "during COPY",
                versions=services.versions(),
                seed=start_number(),
                seconds=time.monotonic() - began_s,
                verdict=verdict,
                faults=faults,
            )
        )

    assert all(fault.is_proved for fault in faults)
    assert verdict.problems() == []
    assert verdict.accepted_total == EVENTS * len(faults)
    assert kept.starts == 1


def one_round(services: Services, load: StreamLoad, halt: Path, kind: str) -> Fault:
    load.add(EVENTS)
    wait_until(halt.exists)
    # The session of the round before may be ending still.
    wait_until(lambda: services.ask(OPEN_COPIES, "copy %") == [(1,)])
    fault = Fault(name=kind, began_s=time.monotonic(), began_ms=time.time_ns() // 1_000_000)
    is_proved = fail(services, kind)
    while not is_stored(services, load):
        # The transaction after the fault halts too.
        halt.unlink(missing_ok=True)
        assert time.monotonic() - fault.began_s < 60, kind
    fault.recovery_s = time.monotonic() - fault.began_s
    fault.is_proved, fault.kills = is_proved, int("SIGKILL" in kind)
    return fault


def is_stored(services: Services, load: StreamLoad) -> bool:
    try:
        stored = services.ask("select count(*) from audit.event")
        return stored == [(len(load.accepted),)] and services.waiting() == (0, 0)
    except psycopg.OperationalError:
        return False  # it recovers
