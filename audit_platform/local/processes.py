"""One child process of the supervisor: start, log, signal, kill with its group.

Here: `Child` and what every child has in common: an own session and process group, default
signal handling, death with the supervisor, a log file of bounded size.
Not here: which children there are (`dagster_home.py`, `supervisor.py`), which of their lines
are shown (`log_lines.py`), and what happens when the supervisor is killed (`guardian.py`).
"""

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import psutil

from audit_platform.local.log_lines import LineFormat, TroubleFilter, printable

# Marks every process of one data directory, so that runs whose code server died are found too.
# Not a setting: only this package writes it, and only into children.
MARK: Final = "AUDIT_SUPERVISED_BY"
LOG_LIMIT_BYTES: Final = 16 << 20
LONGEST_LINE_BYTES: Final = 64 << 10
# Enough for the tracebacks of a failed start, whose cause comes first.
LAST_LINES: Final = 300
# A grandchild may hold the pipe open after the end of the child.
LAST_LINES_S: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1
_RESET_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

try:
    _prctl = ctypes.CDLL(None).prctl
except (AttributeError, OSError):  # not Linux: the guardian alone ends the children
    _prctl = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to start.

    Attributes:
        name: Shown as prefix and used as name of the log file.
        argv: Program and arguments; no secrets, everyone can read them.
        environment: Complete environment of the child.
        cwd: Working directory.
        log_path: Grows to `log_limit_bytes`, then becomes `*.1`.
        line_format: How to read the level of a line.
        end_signal: Asks the process to end in good order.
        death_signal: Sent by the kernel when the supervisor dies; the end signal for services
            that keep data, SIGKILL for the others.
        popen_options: Further arguments of `subprocess.Popen`, for example the user.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    log_path: Path
    line_format: LineFormat
    end_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    log_limit_bytes: int = LOG_LIMIT_BYTES
    popen_options: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Child:
    """A child process; may be started again after it ended."""

    def __init__(self, spec: ChildSpec, *, show: Callable[[str, str, bool], None]) -> None:
        """Prepare the child without starting it.

        Args:
            spec: What to start.
            show: Called for each line, from a thread, with name, line and whether it is a
                warning or an error.
        """
        self.spec = spec
        self.started_at: float = 0.0
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._show = show
        self._process: subprocess.Popen[Any] | None = None
        self._copier: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the present start, None before the first."""
        return None if self._process is None else self._process.pid

    @property
    def created_at(self) -> float:
        """Start of the process as the kernel tells it, seconds since 1970; 0 if it is gone."""
        with suppress(psutil.Error):
            return psutil.Process(self.pid).create_time() if self.pid else 0.0
        return 0.0

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return None if self._process is None else self._process.poll()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and a thread that copies its lines.

        Call it from a thread that lives as long as the child: the kernel sends the death signal
        when the *thread* ends that started it.
        """
        self.spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {
            "cwd": self.spec.cwd,
            "start_new_session": True,
            **self.spec.popen_options,
        }
        process: subprocess.Popen[Any] = subprocess.Popen(
            self.spec.argv,
            env=dict(self.spec.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Only this can undo an inherited SIGINT = ignore and ask for the death signal. It
            # takes no lock, so threads of the parent do no harm.
            preexec_fn=partial(_in_child, self.spec.death_signal),  # noqa: PLW1509
            **options,
        )
        self._process, self.started_at = process, time.time()
        stream = process.stdout
        assert stream is not None  # noqa: S101 - PIPE was asked for
        self._copier = threading.Thread(
            target=self._copy_lines, args=(stream,), name=f"log-{self.spec.name}", daemon=True
        )
        self._copier.start()

    def ask_to_end(self) -> None:
        """Send the end signal to the process itself; nothing happens when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.spec.end_signal)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; False when it still runs after `timeout_s`."""
        if self._process is None:
            return True
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.returncode is not None

    def finish_log(self) -> None:
        """Wait a moment for the last lines of a process that ended."""
        if self._copier is not None:
            self._copier.join(LAST_LINES_S)

    def kill(self) -> None:
        """Kill the process and what remains of its group, and reap it.

        Call it at once after the end of the process, or while it runs: the number of an empty
        group may be given to others later.
        """
        if self._process is None or self._process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _copy_lines(self, stream: BinaryIO) -> None:
        trouble = TroubleFilter(self.spec.line_format)
        log = _BoundedLog(self.spec.log_path, limit_bytes=self.spec.log_limit_bytes)
        with stream:
            for raw in _lines(stream):
                line = printable(raw.decode(errors="replace").rstrip("\r\n"))
                self.last_lines.append(line)
                log.write(line)
                self._show(self.spec.name, line, trouble.passes(line, now_s=time.monotonic()))
        log.close()


class _BoundedLog:
    """A log file and its predecessor; a full disk costs lines, never the child."""

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._file: BinaryIO | None = None

    def write(self, line: str) -> None:
        # The pipe must be read on whatever happens here, or the child stops at its next print.
        with suppress(OSError):
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
            self._file.write(f"{line}\n".encode())
            if self._file.tell() > self._limit_bytes:
                self.close()
                self._path.replace(self._path.with_suffix(f"{self._path.suffix}.1"))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(LONGEST_LINE_BYTES):
        yield line


def _in_child(death_signal: signal.Signals) -> None:
    for signal_number in _RESET_SIGNALS:
        signal.signal(signal_number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, death_signal)


def marked_processes(mark: str) -> list[psutil.Process]:
    """Find every process that carries the mark of a data directory, whoever its parent is."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def kill_marked(mark: str, *, timeout_s: float) -> int:
    """Kill every process with the mark; return how many there were.

    Repeats until none is found, because a process may start another one meanwhile.

    Args:
        mark: Resolved data directory.
        timeout_s: Longest wait for the kernel to take them away.
    """
    killed: set[int] = set()
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while (processes := marked_processes(mark)) and time.monotonic() < deadline:
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
                killed.add(process.pid)
        # Not psutil's wait: it would reap our own children and lose their exit codes.
        pause.wait(0.05)
    return len(killed)
