"""Whether a process of the platform answers, and the one line when it does not.

Here: probes and the wait. Not here: what a probe result means for the order of a start
(`supervisor.py`).
"""

import re
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from threading import Event
from typing import Final

from audit_platform.errors import DiskFull, StartRefused
from audit_platform.local.dagster_home import dagster_health
from audit_platform.local.keeper import how_it_ended
from audit_platform.local.processes import Child
from audit_platform.settings import Settings

POLL_S: Final = 0.05
_CAUSE = re.compile(r"^[\w.]*(Error|Exception|Refused)\w*: |FATAL|PANIC")
PROBE_TIMEOUT_S: Final = 0.5


def is_port_open(host: str, port: int) -> bool:
    """Whether somebody accepts connections on the port."""
    try:
        socket.create_connection((host, port), timeout=PROBE_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def is_dagster_ready(ui_url: str, *, since: float) -> bool:
    """Whether UI, code location and every required daemon answered after `since`.

    Raises:
        StartRefused: The code location cannot be loaded; it will not heal by waiting.
    """
    health = dagster_health(ui_url)
    if health.location_error is not None:
        raise StartRefused(f"The Dagster definitions do not load: {health.location_error}")
    return health.is_loaded and health.oldest_heartbeat_s >= since


def refuse_unsafe_start(settings: Settings) -> None:
    """Run the self-checks and refuse what must not run.

    Raises:
        StartRefused: Names every unsafe item with its remedy, in one line.
    """
    from audit_platform.selfcheck import run_checks  # noqa: PLC0415 - needs psycopg and redis

    unsafe = [
        result
        for result in run_checks(settings, clock=lambda: datetime.now(UTC))
        if result.refuses_start
    ]
    if unsafe:
        reasons = "; ".join(
            f"{result.name}: {result.finding} – {result.remedy}" for result in unsafe
        )
        raise StartRefused(f"Unsafe to start. {reasons}")


def wait_until(
    condition: Callable[[], bool], *, children: Iterable[Child], timeout_s: float, what: str
) -> None:
    """Wait for a condition while all the children run.

    Args:
        condition: Asked every 50 ms.
        children: Those that must go on running meanwhile.
        timeout_s: Longest wait.
        what: Who is waited for, for the message.

    Raises:
        StartRefused: A child ended, or time is over; names the log.
        DiskFull: A child ended because of the disk.
    """
    deadline = time.monotonic() + timeout_s
    watched, pause = tuple(children), Event()
    while not condition():
        for child in watched:
            if not child.is_running:
                raise ended_early(child)
        if time.monotonic() > deadline:
            raise StartRefused(
                f"Not ready within {timeout_s:g} s: {what} did not answer. "
                f"See {watched[0].spec.log_path.parent}."
            )
        pause.wait(POLL_S)


def explained(refused: StartRefused, children: Iterable[Child]) -> StartRefused:
    """Name the cause behind a refusal: a child that ended or found the disk full, if there is one.

    A service that is ours and does not answer is not a matter of its URL.
    """
    for child in children:
        if not child.is_running or _found_disk_full(child):
            return ended_early(child)
    return refused


def _found_disk_full(child: Child) -> bool:
    return any("No space left on device" in line for line in tuple(child.last_lines))


def ended_early(child: Child) -> StartRefused:
    """Say that a child ended during the start, with its last words."""
    child.finish_log()
    lines = [line for line in tuple(child.last_lines) if line.strip()]
    if _found_disk_full(child):
        return DiskFull(
            f"The disk is full ({child.spec.name} could not write): "
            "free space, or set AUDIT_DATA_DIR to another disk.",
            setting="AUDIT_DATA_DIR",
        )
    return StartRefused(
        f"{child.spec.name} {how_it_ended(child)}: {cause_among(lines)} "
        f"(log: {child.spec.log_path})"
    )


def cause_among(lines: Sequence[str]) -> str:
    """Choose the line that says why a process ended: the first error, else the last line.

    The first, because a chain of Python exceptions begins with its cause.
    """
    causes = (line for line in lines if _CAUSE.search(line))
    return next(causes, lines[-1] if lines else "no message").strip()
