"""Child's side of a kept process: its configuration and its orders, over standard input.

Here: the first line (JSON) and the orders after it. Not here: who gives them (`kept.py`).
Guarantee: a child whose parent is gone ends at once.
"""

import json
import os
import signal
import sys
from threading import Event, Thread
from types import FrameType
from typing import Any

from audit_platform import crash_points


class Orders:
    """Orders of the parent; `end` is set by SIGTERM, with which an end is ordered too."""

    def __init__(self) -> None:
        """Read the configuration and listen from then on; call it in the main thread."""
        self.config: dict[str, Any] = json.loads(sys.stdin.readline())
        self.end = Event()
        self.quiet = Event()
        """A producer stays and settles, but logs nothing more."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        crash_points.arm(self.config.get("crash"))
        Thread(target=self._listen, name="orders", daemon=True).start()

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        self.end.set()

    def _listen(self) -> None:
        for line in sys.stdin:
            order, *rest = line.split()
            if order == "arm":
                crash_points.arm(rest[0])
            elif order == "disarm":
                crash_points.arm(None)
            elif order == "quiet":
                self.quiet.set()
            elif order == "end":
                os.kill(os.getpid(), signal.SIGTERM)
        os._exit(3)
