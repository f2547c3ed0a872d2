"""A steady load from another process that uses the SDK, and what it says happened.

Run as a script it is that process: an application that finds the platform through
`AUDIT_DATA_DIR`, as any application does, and logs until its standard input ends.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from audit_platform.settings import environment_for_child

END_S = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What the application counted; durations in seconds.

    Attributes:
        called: Calls of `log()`, numbered from 0.
        raised: Exceptions that `log()` let through.
        slowest_call_s: Longest `log()`.
        accepted, sent, buffered, dropped: The client's own counters after `close()`.
        retries: Attempts to send that failed and were repeated.
    """

    called: int
    raised: int
    slowest_call_s: float
    accepted: int
    sent: int
    buffered: int
    dropped: int
    retries: int


class Load:
    """The running application; `action` marks its events."""

    def __init__(self, data_dir: Path, *, rate: int) -> None:
        self.action = f"load.{uuid4().hex[:12]}"
        self._process = subprocess.Popen(
            (sys.executable, __file__, self.action, str(rate)),
            env=environment_for_child(AUDIT_DATA_DIR=str(data_dir)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> LoadReport:
        """Let it end in good order and return what it counted."""
        output, _ = self._process.communicate(timeout=END_S)
        assert self._process.returncode == 0
        return LoadReport(**json.loads(output))

    def kill(self) -> None:
        """End it without a report."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def loaded(data_dir: Path, *, rate: int) -> Iterator[Load]:
    """Load the platform during a block; call `end` inside it for the counts."""
    load = Load(data_dir, rate=rate)
    try:
        yield load
    finally:
        load.kill()


def main(action: str, rate: int) -> None:
    """Log `rate` events a second until standard input ends; print the counts as JSON."""
    from audit_platform.client import AuditClient

    ended = Event()
    Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    client = AuditClient.from_env()
    called, raised, slowest_call_s, began_s = 0, 0, 0.0, time.monotonic()
    while not ended.wait(max(0.0, began_s + called / rate - time.monotonic())):
        before_s = time.perf_counter()
        try:
            client.log(action, entity=("load", str(called)), metadata={"number": called})
        except Exception:  # noqa: BLE001 - that it never raises is the promise under test
            raised += 1
        slowest_call_s = max(slowest_call_s, time.perf_counter() - before_s)
        called += 1
    client.close()
    stats: Any = client.stats()
    report = LoadReport(
        called=called,
        raised=raised,
        slowest_call_s=slowest_call_s,
        accepted=stats.accepted,
        sent=stats.sent,
        buffered=stats.buffered,
        dropped=stats.dropped_total,
        retries=stats.retries,
    )
    print(json.dumps({name: getattr(report, name) for name in LoadReport.__slots__}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
