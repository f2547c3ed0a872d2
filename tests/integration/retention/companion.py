"""Programs that run beside a test in processes of their own, so that nobody shares an interpreter.

Here: starting one, knowing when it runs, ending it and taking its report; for the program, the
other end. A program gets its options as JSON on standard input, writes `ready` when it has begun,
and its report as JSON when standard input ends.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import IO, Any, Final, cast

ROOT: Final = Path(__file__).resolve().parents[3]
END_S: Final = 60.0
_READY: Final = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """One such process, as the test sees it."""

    process: "subprocess.Popen[str]"

    def end(self) -> dict[str, Any]:
        """Ask it to end; its report."""
        output, errors = self.process.communicate(timeout=END_S)
        assert self.process.returncode == 0, errors
        return json.loads(output)


@contextmanager
def beside(module: str, **options: object) -> Iterator[Companion]:
    """Run a program of `tests.integration.retention`; it is killed if the block fails."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.integration.retention.{module}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        given = cast("IO[str]", process.stdin)
        given.write(json.dumps(options) + "\n")
        given.flush()
        said = cast("IO[str]", process.stdout).readline().strip()
        assert said == _READY, cast("IO[str]", process.stderr).read()
        yield Companion(process=process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def options() -> tuple[dict[str, Any], Event]:
    """In the program: its options, and an event that is set when the test asks it to end."""
    given: dict[str, Any] = json.loads(sys.stdin.readline())
    end = Event()

    def watch() -> None:
        sys.stdin.read()
        end.set()

    Thread(target=watch, daemon=True).start()
    return given, end


def say_ready() -> None:
    """In the program: the test may go on."""
    print(_READY, flush=True)  # noqa: T201 - the wire to the test


def report(found: object) -> None:
    """In the program: the last thing it says."""
    print(json.dumps(found), flush=True)  # noqa: T201 - the wire to the test
