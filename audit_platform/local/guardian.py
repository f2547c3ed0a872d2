"""A small process that clears up when the supervisor is killed with SIGKILL.

Why: the kernel's death signal reaches direct children only, and only on Linux. Runs are
grandchildren; without their supervisor they would try to reach a stopped PostgreSQL for ever.
How: the supervisor holds the write end of a pipe and tells which services need a gentle end.
When it closes the pipe or dies, the pipe ends: services get their signal, everything else that
carries the mark of the data directory is killed.
Guarantee: after an orderly stop it finds nothing and ends; it never touches unmarked processes
other than the services it was told, and those only while they are the same process.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import psutil

from audit_platform.local.processes import kill_marked

# PostgreSQL writes a checkpoint on a fast shutdown; after this time it is killed and recovers
# from its log at the next start.
GENTLE_END_S: Final = 10.0
KILL_S: Final = 5.0


class Guardian:
    """The supervisor's handle on the process."""

    def __init__(self, mark: str, *, environment: Mapping[str, str]) -> None:
        """Start the process; it outlives Ctrl-C because it has its own session.

        Args:
            mark: Resolved data directory.
            environment: Environment of the process; must not carry the mark.
        """
        self._process = subprocess.Popen(
            (sys.executable, "-m", "audit_platform.local.guardian", mark),
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def remember(self, pid: int, end_signal: signal.Signals) -> None:
        """Tell that the service `pid` wants `end_signal` and time; repeat after a restart."""
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - PIPE was asked for
        with suppress(psutil.NoSuchProcess, BrokenPipeError):
            note = {"pid": pid, "at": psutil.Process(pid).create_time(), "signal": end_signal.value}
            stdin.write(f"{json.dumps(note)}\n".encode())
            stdin.flush()

    def close(self) -> None:
        """End the guard; it kills what still carries the mark. Blocks until it is gone."""
        stdin = self._process.stdin
        if stdin is not None:
            with suppress(BrokenPipeError):
                stdin.close()
        self._process.wait(GENTLE_END_S + KILL_S)


def main(mark: str) -> None:
    """Wait for the end of the supervisor, then clear up."""
    os.chdir("/")  # hold no directory that somebody may want to remove
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    notes = [json.loads(line) for line in sys.stdin]
    _end_services(notes)
    kill_marked(mark, timeout_s=KILL_S)


def _end_services(notes: list[dict[str, float]]) -> None:
    services = []
    for note in notes:
        with suppress(psutil.Error):
            service = psutil.Process(int(note["pid"]))
            # The same number may belong to another process by now.
            if service.create_time() == note["at"]:
                service.send_signal(int(note["signal"]))
                services.append(service)
    _, alive = psutil.wait_procs(services, timeout=GENTLE_END_S)
    for service in alive:
        with suppress(psutil.Error):
            service.kill()


if __name__ == "__main__":
    main(sys.argv[1])
