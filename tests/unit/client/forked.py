"""A forked child of a test that runs one function, and ends without pytest's own endings."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Child(NamedTuple):
    """A running child, and the pipe that it writes to."""

    pid: int
    output: int

    def rest(self) -> bytes:
        """Wait for the end of the output and give what was not read yet."""
        text = b""
        while piece := os.read(self.output, 65536):
            text += piece
        return text

    def lines(self) -> list[str]:
        """Wait for the end of the output and give its whole lines."""
        return self.rest().decode().split("\n")[:-1]

    def kill(self) -> None:
        """Send SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Give the exit code; negative: the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def forked(run: Callable[[Callable[[object], None]], None]) -> Iterator[Child]:
    """Run a function in a forked child; it gets a function that prints a line to the pipe."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            os.close(read_end)
            run(lambda line: _print(write_end, line))
            code = 0
        os._exit(code)
    os.close(write_end)
    try:
        yield Child(pid, read_end)
    finally:
        os.close(read_end)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _print(write_end: int, line: object) -> None:
    os.write(write_end, f"{line}\n".encode())
