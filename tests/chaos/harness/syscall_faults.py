"""Faults of system calls in a living process, by strace: errors and delays, counted.

Here: attaching, detaching, counting what was injected. Not here: full disks (`small_disk.py`).
"""

import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import pytest

_ATTACH_LIMIT_S: Final = 20


class Injection:
    """What strace did so far."""

    def __init__(self, log: Path) -> None:
        """Remember the file that strace writes."""
        self._log = log

    @property
    def count(self) -> int:
        """Calls that failed or were delayed on our account."""
        return len(re.findall(r"\((?:INJECTED|DELAYED)\)", self._log.read_text(errors="replace")))


@cache
def missing_strace() -> str | None:
    """Why system calls cannot be damaged on this machine; None when they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(
        ["strace", "-q", "-e", "inject=getppid:error=EIO", "true"], capture_output=True, check=False
    )
    return None if probe.returncode == 0 else "strace may not trace here"


@contextmanager
def injected(pid: int, calls: str, effect: str, *, log: Path) -> Iterator[Injection]:
    """Damage calls of a process and of all its threads during a block.

    Skips the test where strace cannot work.

    Args:
        pid: A living process.
        calls: Names with commas, such as `fsync,fdatasync`.
        effect: As strace writes it: `error=EIO`, `delay_enter=4000000`.
        log: File for strace's lines; one injection each.
    """
    reason = missing_strace()
    if reason is not None:
        pytest.skip(reason)
    log.write_text("")
    options = ["-f", "-o", str(log), "-e", f"trace={calls}", "-e", f"inject={calls}:{effect}"]
    process = subprocess.Popen(
        ["strace", *options, "-p", str(pid)], stderr=subprocess.PIPE, text=True
    )
    attached = threading.Event()
    lines: list[str] = []

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if "attached" in line:
                attached.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert attached.wait(_ATTACH_LIMIT_S), f"strace did not attach: {lines}"
        yield Injection(log)
    finally:
        _end(process)
        reader.join(timeout=_ATTACH_LIMIT_S)
        assert process.stderr is not None
        process.stderr.close()


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    deadline_s = time.monotonic() + _ATTACH_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        threading.Event().wait(0.02)
    if process.poll() is None:
        process.kill()
        process.wait()
