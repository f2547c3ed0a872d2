"""A drain process that a test has prepared: one protection taken out, or a point where it halts.

Run by `kept.py` with `-m`. Nothing in the package can be switched off; this process replaces the
part in its own memory before it drains. `config["without"]` names the protection:

    acknowledge_last   entries are acknowledged when they are read, not after the commit
    flush              commits do not wait for the disk (`synchronous_commit = off`)
    fence              neither a batch nor a renewal finds that the lease is another run's

`config["halt_at"]` is a crash point at which the process halts: with `config["halt_file"]` once
per file, which it makes and whose removal it waits for; else once, by SIGSTOP to itself.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any, Final

from audit_platform.db.queries import load_queries
from audit_platform.events import copy_rows, drain, lease
from audit_platform.events.lease import LeaseState
from audit_platform.events.stream import Consumer
from audit_platform.events.stream_entry import StreamEntry
from tests.chaos.harness import drain_process
from tests.chaos.harness.orders import Orders

LONGEST_HALT_S: Final = 20.0
LOOK_S: Final = 0.01


class EagerConsumer(Consumer):
    """Acknowledges what it reads, as a consumer with automatic acknowledgement would."""

    def read_new(self, count: int, block_ms: int) -> list[StreamEntry]:
        """Read, and acknowledge at once."""
        entries = super().read_new(count, block_ms)
        super().ack_and_delete([entry.entry_id for entry in entries])
        return entries


def _without_acknowledge_last() -> None:
    drain.Consumer = EagerConsumer


def _without_flush() -> None:
    queries = dict(load_queries("events"))
    whole = queries["limit_transaction"]
    queries["limit_transaction"] = whole.replace(
        "'synchronous_commit', 'on'", "'synchronous_commit', 'off'"
    )
    if queries["limit_transaction"] == whole:
        raise AssertionError("the statement has changed: this control controls nothing")
    copy_rows.load_queries = lambda file: queries if file == "events" else load_queries(file)


def _without_fence() -> None:
    def never(*_arguments: object, **_named: object) -> None:
        """Find every fence good."""

    def always(*_arguments: object, **_named: object) -> LeaseState:
        """Find every lease held."""
        return LeaseState.HELD

    copy_rows.check_fence = never
    lease.renew = always


WITHOUT: Final[dict[str, Callable[[], None]]] = {
    "acknowledge_last": _without_acknowledge_last,
    "flush": _without_flush,
    "fence": _without_fence,
}


class Halt:
    """Stands in for `crash` in every module of the event path."""

    def __init__(self, point: str, file: str | None) -> None:
        self._point, self._file = point, Path(file) if file else None
        self._has_stopped = False

    def __call__(self, name: str) -> None:
        """Halt at the point."""
        if name != self._point:
            return
        if self._file is not None:
            self._wait_for_removal(self._file)
        elif not self._has_stopped:
            self._has_stopped = True
            os.kill(os.getpid(), signal.SIGSTOP)

    def _wait_for_removal(self, file: Path) -> None:
        file.touch()
        pause = Event()
        for _ in range(int(LONGEST_HALT_S / LOOK_S)):
            if not file.exists():
                return
            pause.wait(LOOK_S)

    def install(self) -> None:
        """Replace `crash` wherever it was imported."""
        for name, module in list(sys.modules.items()):
            if name.startswith("audit_platform.events.") and hasattr(module, "crash"):
                module.crash = self  # pyright: ignore[reportAttributeAccessIssue]


def main() -> None:
    """Prepare, then drain as usual."""
    orders = Orders()
    config: dict[str, Any] = orders.config
    if config.get("without"):
        WITHOUT[config["without"]]()
    if config.get("halt_at"):
        Halt(config["halt_at"], config.get("halt_file")).install()
    drain_process.drain_until_end(orders)


if __name__ == "__main__":
    main()
