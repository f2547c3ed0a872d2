"""Stops the platform in order: who launches first, who stores last.

Here: the order, how long each step may take, ending drains by their stop flag. Not here: the
processes themselves (`processes.py`).
Guarantee: after `stop_all` no process of the platform is left; nothing that was acknowledged is
lost, because PostgreSQL and Redis end in good order after all who use them.

Source of the order: Dagster design, section 1 (a code server waits for its runs: 20 s for one of
10 s; a daemon waits for a blocked sensor).
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import psutil

from audit_platform.db.pool import connected
from audit_platform.errors import DatabaseError
from audit_platform.events import lease
from audit_platform.local.platform_plan import Service
from audit_platform.local.processes import Child, kill_marked, marked_processes

STOP_ORDER: Final = (
    Service.DAEMON,
    Service.CODE_SERVER,
    Service.WEBSERVER,
    Service.REDIS,
    Service.POSTGRES,
)
KEEPERS_OF_DATA: Final = (Service.REDIS, Service.POSTGRES)
# A daemon in the middle of a sensor's long poll would wait up to 10 s. It holds no state: a tick
# that was cut off is repeated. Code server and webserver hold none either.
GRACE_S: Final[Mapping[Service, float]] = {
    Service.DAEMON: 2.0,
    Service.CODE_SERVER: 2.0,
    Service.WEBSERVER: 3.0,
    Service.REDIS: 15.0,
    Service.POSTGRES: 30.0,
}
# A drain reads its stop flag with the renewal of its lease.
DRAIN_GRACE_S: Final = 8.0
RUN_GRACE_S: Final = 4.0
KILL_S: Final = 5.0
_POLL_S: Final = 0.1


def stop_all(
    children: Mapping[Service, Child],
    *,
    mark: str,
    maint_url: str | None,
    hurry: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Stop every child in order, then kill what is left of the platform.

    Args:
        children: Those that were started, in any order.
        mark: Of our processes.
        maint_url: To reach the stop flag; None when the database was never ready.
        hurry: When set, also meanwhile, every grace ends at once.
        say: Called with a sentence for the operator.
    """
    for service in STOP_ORDER:
        child = children.get(service)
        if service is Service.CODE_SERVER:
            _stop_drains(children, mark=mark, maint_url=maint_url, hurry=hurry)
            # The UI goes with it: nobody waits for the other.
            _ask(children, Service.CODE_SERVER, Service.WEBSERVER)
            _stop_runs(children, mark=mark, hurry=hurry)
        elif service is not Service.WEBSERVER:
            if service is Service.REDIS:
                # Nobody may use the services any more when they stop.
                kill_marked(mark, timeout_s=KILL_S)
            _ask(children, service)
        if child is not None and not _ends(child, GRACE_S[service], hurry):
            if service in KEEPERS_OF_DATA:
                say(f"{service} did not stop in time and was killed; the next start recovers it.")
            child.kill()
    kill_marked(mark, timeout_s=KILL_S)


def _ask(children: Mapping[Service, Child], *services: Service) -> None:
    for service in services:
        if service in children:
            children[service].ask_to_end()


def _ends(child: Child, timeout_s: float, hurry: threading.Event) -> bool:
    return _wait(lambda: not child.is_running, timeout_s, hurry)


def _stop_drains(
    children: Mapping[Service, Child], *, mark: str, maint_url: str | None, hurry: threading.Event
) -> None:
    """Let drains end after their batch, as long as there is a process that could."""
    if maint_url is None or not _run_pids(children, mark):
        return
    try:
        with connected(maint_url, application="stop", role="audit_owner") as connection:
            lease.request_stop(connection)
            _wait(
                lambda: (
                    not _run_pids(children, mark)
                    or not any(row.is_live for row in lease.read_leases(connection))
                ),
                DRAIN_GRACE_S,
                hurry,
            )
        # A drain frees its lease before Dagster has recorded the end of its run.
        _wait(lambda: not _run_pids(children, mark), RUN_GRACE_S, hurry)
    except DatabaseError:
        return  # without PostgreSQL no drain can be in the middle of a commit


def _stop_runs(children: Mapping[Service, Child], *, mark: str, hurry: threading.Event) -> None:
    """Interrupt other runs, so that Dagster records their end."""
    for pid in _run_pids(children, mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    _wait(lambda: not _run_pids(children, mark), RUN_GRACE_S, hurry)


def _run_pids(children: Mapping[Service, Child], mark: str) -> set[int]:
    """Processes of the platform that are no child of the supervisor: runs."""
    ours = {child.pid for child in children.values()}
    strangers = (process for process in marked_processes(mark) if process.pid not in ours)
    return {process.pid for process in strangers if not _is_tracker(process)}


def _is_tracker(process: psutil.Process) -> bool:
    """Python's helper that cleans up after a process and ends after it; ignores SIGTERM."""
    with suppress(psutil.Error):
        return any("resource_tracker" in part for part in process.cmdline())
    return False


def _wait(condition: Callable[[], bool], timeout_s: float, hurry: threading.Event) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline or hurry.wait(_POLL_S):
            return condition()
    return True
