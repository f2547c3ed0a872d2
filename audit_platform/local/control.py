"""What other processes do to a platform: ask it to stop, look at it, remove its data.

Here: `down`, `reset` and `status` without their words. Not here: what they print (`cli/up.py`).
Guarantee: data is removed only from a directory that a platform made and on which none runs.
"""

import os
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, Final

import psutil

from audit_platform.db.pool import connected
from audit_platform.db.queries import load_queries
from audit_platform.errors import AuditPlatformError, NotRunning, StartRefused
from audit_platform.events.backlog import Backlog, Inspector
from audit_platform.events.overload import level_of
from audit_platform.local import platform_state, postgres
from audit_platform.local.platform_plan import Service
from audit_platform.retention.lifecycle import read_runway
from audit_platform.settings import Settings

STOP_TIMEOUT_S: Final = 120.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process; a service outside the platform has no pid."""

    name: str
    state: str
    pid: int | None = None
    uptime_s: float | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformStatus:
    """What `status` shows; None where the service did not answer.

    Attributes:
        is_ready: Whether the start was completed.
        ui_url: Address of the Dagster UI.
        uptime_s: Of the supervisor.
        processes: Supervisor first.
        queue_length: Entries that wait, by shard.
        redis_memory_share: Memory that Redis uses, as a part of its limit.
        overload_level: 0 to 3, by shard; follows from the oldest entry and the memory of Redis.
        last_batch: Last ledger row, by column.
        partitions_ahead: Whole partitions after the present one.
        trouble: What did not answer, one sentence each.
    """

    is_ready: bool
    ui_url: str
    uptime_s: float
    processes: tuple[ProcessStatus, ...]
    queue_length: Mapping[int, int] | None = None
    redis_memory_share: float | None = None
    overload_level: Mapping[int, int] | None = None
    last_batch: Mapping[str, Any] | None = None
    partitions_ahead: int | None = None
    trouble: tuple[str, ...] = field(default=())

    @property
    def is_well(self) -> bool:
        """Whether every process runs and every service answered."""
        states = {process.state for process in self.processes}
        return self.is_ready and not self.trouble and states <= {"running", "external"}


def read_status(settings: Settings, *, now: datetime) -> PlatformStatus:
    """Look at the running platform.

    Args:
        settings: Of the data directory.
        now: Aware.

    Raises:
        NotRunning: None runs.
    """
    state = require_running(settings.data_dir)
    facts: dict[str, Any] = {}
    trouble: list[str] = []
    for read in (_read_queue, _read_database):
        try:
            facts |= read(settings, now)
        except AuditPlatformError as exc:
            trouble.append(exc.message)
    return PlatformStatus(
        is_ready=state.is_ready,
        ui_url=state.ui_url,
        uptime_s=now.timestamp() - state.started_at,
        processes=_processes(state, now_s=now.timestamp()),
        trouble=tuple(trouble),
        **facts,
    )


def require_running(data_dir: Path) -> platform_state.PlatformState:
    """Return the state of the platform that runs on a directory.

    Raises:
        NotRunning: None runs, or it has only just begun.
    """
    state = platform_state.running_state(data_dir)
    if state is None:
        raise NotRunning(
            f"No platform runs on {data_dir}: start one with `audit-platform up`, "
            "or set AUDIT_DATA_DIR."
        )
    return state


def stop_running(data_dir: Path, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
    """Ask the platform to stop and wait until it has; returns the pid it had.

    Raises:
        NotRunning: None runs.
        StartRefused: It still runs after `timeout_s`.
    """
    state = require_running(data_dir)
    with suppress(ProcessLookupError):
        os.kill(state.pid, signal.SIGTERM)
    deadline, pause = time.monotonic() + timeout_s, Event()
    while platform_state.is_locked(data_dir):
        if time.monotonic() > deadline:
            raise StartRefused(
                f"The platform (pid {state.pid}) still runs after {timeout_s:g} s: "
                f"see {data_dir / 'logs'}, or kill it; its guardian then clears up."
            )
        pause.wait(_POLL_S)
    return state.pid


def require_removable(data_dir: Path) -> None:
    """Check that `remove_data` would remove a platform's data and nothing else.

    Raises:
        NotRunning: There is no such directory.
        StartRefused: The directory is not ours.
        AlreadyRunning: A platform runs on it.
    """
    if not data_dir.is_dir():
        raise NotRunning(f"There is no directory {data_dir}: nothing to remove.")
    if not platform_state.is_ours(data_dir):
        raise StartRefused(
            f"Directory {data_dir} was not made by a platform: remove it yourself, "
            "or correct AUDIT_DATA_DIR."
        )
    # The demos of `make demo` lie below the default data directory.
    for inner in (data_dir, *(entry for entry in data_dir.iterdir() if entry.is_dir())):
        if inner == data_dir or platform_state.is_ours(inner):
            platform_state.PlatformLock(inner).acquire().release()


def remove_data(data_dir: Path) -> None:
    """Remove everything a platform keeps: events, queue, run history, keys.

    Raises:
        As `require_removable`.
    """
    require_removable(data_dir)
    lock = platform_state.PlatformLock(data_dir).acquire()
    try:
        # A cluster that the server's user could not reach here lies elsewhere; a file names it.
        for pointer in data_dir.glob("postgres-*.elsewhere"):
            version = 16 if "16" in pointer.stem else 18
            postgres.remove(
                postgres.PostgresConfig(data_dir=data_dir, port=0, password="", version=version)
            )
        shutil.rmtree(data_dir)
    finally:
        lock.release()


def _processes(state: platform_state.PlatformState, *, now_s: float) -> tuple[ProcessStatus, ...]:
    supervisor = ProcessStatus(
        name="supervisor", state="running", pid=state.pid, uptime_s=now_s - state.started_at
    )
    return (supervisor, *(_process(state, service, now_s=now_s) for service in Service))


def _process(
    state: platform_state.PlatformState, service: Service, *, now_s: float
) -> ProcessStatus:
    pid, started_at = state.pids.get(service), state.process_started_at.get(service, 0.0)
    if pid is None:
        is_ours = service in state.ports or service is Service.DAEMON
        return ProcessStatus(name=service, state="starting" if is_ours else "external")
    if not _is_same_process(pid, started_at):
        return ProcessStatus(name=service, state="ended", port=state.ports.get(service))
    return ProcessStatus(
        name=service,
        state="running",
        pid=pid,
        uptime_s=now_s - started_at,
        port=state.ports.get(service),
    )


def _is_same_process(pid: int, started_at: float) -> bool:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return process.create_time() == started_at and process.status() != psutil.STATUS_ZOMBIE
    return False


def _read_queue(settings: Settings, now: datetime) -> dict[str, Any]:
    prefix = settings.key_prefix
    with (
        Backlog(settings.redis_url_of("sensor"), key_prefix=prefix, block_ms=0) as backlog,
        Inspector(settings.redis_url_of("janitor"), key_prefix=prefix) as inspector,
    ):
        found = [backlog.state(shard) for shard in range(settings.shards)]
        memory_share = inspector.memory().share
    return {
        "queue_length": {one.shard: one.length for one in found},
        "redis_memory_share": round(memory_share, 3),
        "overload_level": {
            one.shard: level_of(_age_s(one.oldest_ms, now), memory_share) for one in found
        },
    }


def _age_s(at_ms: int | None, now: datetime) -> float:
    return 0.0 if at_ms is None else max(0.0, now.timestamp() - at_ms / 1_000)


def _read_database(settings: Settings, now: datetime) -> dict[str, Any]:
    url = settings.database_url_of("maint")
    with connected(url, application="status", role="audit_owner") as connection:
        cursor = connection.execute(load_queries("platform")["read_last_batch"])
        names = [column.name for column in cursor.description or ()]
        row = cursor.fetchone()
        reach = read_runway(connection, now=now.astimezone(UTC))
    return {
        "last_batch": None if row is None else dict(zip(names, row, strict=True)),
        "partitions_ahead": reach.partitions,
    }
