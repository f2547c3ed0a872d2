"""Clears up after a platform that was killed together with its guardian.

Here: ending services that still run on a data directory whose lock is free. Not here: the usual
ends (`stopping.py`, `guardian.py`), PostgreSQL's own recovery.
Guarantee: called with the lock held; ends only processes that carry the directory's mark, or that
the last `platform.json` names by number and start time.
"""

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from audit_platform.local.platform_plan import Service
from audit_platform.local.platform_state import PlatformState, read_state, remove_state
from audit_platform.local.processes import kill_marked

# Redis writes its file; PostgreSQL ends sessions and writes a checkpoint.
END_SIGNALS: Final = {Service.REDIS: signal.SIGTERM, Service.POSTGRES: signal.SIGINT}
GENTLE_END_S: Final = 15.0
KILL_S: Final = 5.0


def clear_leftovers(data_dir: Path, *, say: Callable[[str], None]) -> None:
    """End what the last platform left running; returns when it is gone.

    Args:
        data_dir: Resolved; its lock is held by the caller.
        say: Called with a sentence when something was found.
    """
    state = read_state(data_dir)
    if state is None:
        return  # it stopped in good order, or there was none
    services = [
        (process, end_signal)
        for service, end_signal in END_SIGNALS.items()
        if (process := _named_process(state, service)) is not None
    ]
    killed = kill_marked(str(data_dir), timeout_s=KILL_S)
    # Their guardian may be ending them right now; another signal does no harm.
    for process, end_signal in services:
        with suppress(psutil.Error):
            process.send_signal(end_signal)
    _, alive = psutil.wait_procs([process for process, _ in services], timeout=GENTLE_END_S)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    remove_state(data_dir)
    ended = killed + len(services)
    also = f" and {ended} of its processes were ended" if ended else ""
    say(f"The last platform was killed; its data is recovered{also}.")


def _named_process(state: PlatformState, service: Service) -> psutil.Process | None:
    """The service of the last run, unless its number belongs to another process by now."""
    with suppress(psutil.Error, KeyError):
        process = psutil.Process(state.pids[service])
        if process.create_time() == state.process_started_at[service]:
            return process
    return None
