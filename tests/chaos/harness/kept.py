"""Processes of ours that a small keeper starts again as soon as they end.

Here: one process after another under one name, orders to it, and how each ended. Not here: what
the child does (`drain_process.py`, `producer_process.py`).
Guarantees: a kill counts only when the process ended by that very signal; an end that nobody
asked for is kept in `ends` with the last lines of its log.
"""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Final

from audit_platform.settings import environment_for_child

ROOT: Final = Path(__file__).resolve().parents[3]
# A process that fails at once must not use up the machine.
SHORTEST_LIFE_S: Final = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How one process ended."""

    start: int
    code: int
    at_s: float
    """Monotonic."""

    @property
    def is_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


class Kept:
    """One name, one living process at a time."""

    def __init__(self, module: str, *, name: str, directory: Path, config: dict[str, Any]) -> None:
        """Prepare; `begin` starts the first process.

        Args:
            module: Below `tests.chaos.harness`.
            name: Goes into the configuration and names the log.
            directory: For the log.
            config: First line of the child's standard input, beside `name` and `start`.
        """
        self.name, self.config = name, config
        self.log = directory / f"{name}.log"
        self.ends: list[End] = []
        self.next_crash: str | None = None
        """Point armed from the start of the next process."""
        self._argv = [sys.executable, "-m", f"tests.chaos.harness.{module}"]
        self._process: subprocess.Popen[bytes] | None = None
        self._changed = Condition()
        self._is_held = self._is_ending = False
        self._starts = 0
        self._thread = Thread(target=self._keep, name=f"keep-{name}", daemon=True)

    def begin(self) -> None:
        """Start the first process and keep one running from then on."""
        self._start()
        self._thread.start()

    @property
    def starts(self) -> int:
        """How many processes were started."""
        return self._starts

    @property
    def pid(self) -> int:
        """Process id of the present process."""
        assert self._process is not None
        return self._process.pid

    def order(self, line: str) -> None:
        """Send an order; nothing happens when the process is gone."""
        process = self._process
        # ValueError: the keeper has closed the pipe of a process that ended.
        with suppress(OSError, ValueError):
            if process is not None and process.stdin is not None:
                process.stdin.write(f"{line}\n".encode())
                process.stdin.flush()

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False when nothing runs."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        process.send_signal(number)
        return True

    def wait_for_end(self, start: int, *, within_s: float) -> End | None:
        """The end of one process; None when it has not come in time."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.ends) > start, within_s)
            return self.ends[start] if len(self.ends) > start else None

    def hold(self) -> None:
        """Start nothing until `release`."""
        self._set(is_held=True)

    def release(self) -> None:
        """Start again what ended meanwhile."""
        self._set(is_held=False)

    def _set(self, *, is_held: bool) -> None:
        with self._changed:
            self._is_held = is_held
            self._changed.notify_all()

    def finish(self, *, within_s: float = 30) -> End:
        """Ask the present process to end in good order; the keeper starts no other.

        Raises:
            AssertionError: It did not end in time.
        """
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        deadline_s = time.monotonic() + within_s
        # Repeated: a process that has just started may replace the one that got the order.
        while self._thread.is_alive() and time.monotonic() < deadline_s:
            self.order("end")
            self._thread.join(0.2)
        assert not self._thread.is_alive(), f"{self.name} did not end: {self.last_lines()}"
        return self.ends[-1]

    def discard(self) -> None:
        """Kill what is left; for the end of a test."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._thread.ident is not None:
            self._thread.join(10)

    def last_lines(self) -> str:
        """End of the log, for messages."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def _start(self) -> None:
        config = self.config | {"name": self.name, "start": self._starts, "crash": self.next_crash}
        self.next_crash = None
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=environment_for_child(PYTHONUNBUFFERED="1"),
            )
        self._process = process
        self._starts += 1
        self.order(json.dumps(config))

    def _keep(self) -> None:
        while True:
            process, began_s = self._process, time.monotonic()
            assert process is not None
            code = process.wait()
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
            with self._changed:
                self.ends.append(End(start=self._starts - 1, code=code, at_s=time.monotonic()))
                self._changed.notify_all()
                if code >= 0 and time.monotonic() - began_s < SHORTEST_LIFE_S:
                    self._changed.wait_for(lambda: self._is_ending, SHORTEST_LIFE_S)
                self._changed.wait_for(lambda: self._is_ending or not self._is_held)
                if self._is_ending:
                    return
                self._start()
