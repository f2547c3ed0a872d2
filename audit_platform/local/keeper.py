"""Keeps children alive: starts them from one lasting thread and starts dead ones again.

Here: spawning, watching, restarting with back-off. Not here: which children there are and in which
order they stop (`supervisor.py`, `stopping.py`), the delays (`restart.py`).
Guarantee: a child that ends while it is watched is started again, with a sentence that says so.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from audit_platform.local.processes import Child
from audit_platform.local.restart import RestartState, after_end, delay_s

WATCH_INTERVAL_S: Final = 0.2


class Keeper:
    """Starts children and, while watching, starts them again."""

    def __init__(self, *, say: Callable[[str], None], started: Callable[[Child], None]) -> None:
        """Prepare; nothing runs yet.

        Args:
            say: Called with a sentence for the operator.
            started: Called after each start of a child, from any thread.
        """
        self._say = say
        self._started = started
        # The kernel's death signal is bound to the thread that started a child, so all start
        # from one thread that ends only in `close`.
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawn")
        self._ending = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self, child: Child) -> None:
        """Start a child now.

        Raises:
            OSError: The program cannot be executed.
        """
        self._spawner.submit(child.start).result()
        self._started(child)

    def watch(self, children: Iterable[Child]) -> None:
        """Begin to restart these children when they end."""
        self._watcher = threading.Thread(
            target=self._watch, args=(tuple(children),), name="watch", daemon=True
        )
        self._watcher.start()

    def unwatch(self) -> None:
        """Restart nothing from now on; returns when a restart under way is done."""
        self._ending.set()
        if self._watcher is not None:
            self._watcher.join()

    def close(self) -> None:
        """End the threads; call it when every child has ended."""
        self.unwatch()
        self._spawner.shutdown()

    def _watch(self, children: tuple[Child, ...]) -> None:
        states = dict.fromkeys((child.spec.name for child in children), RestartState())
        due_at: dict[str, float] = {}
        while not self._ending.wait(WATCH_INTERVAL_S):
            for child in children:
                if child.is_running:
                    continue
                name = child.spec.name
                if name not in due_at:
                    states[name] = after_end(states[name], lived_s=time.time() - child.started_at)
                    due_at[name] = time.monotonic() + delay_s(states[name])
                    self._say(_ended(child, again_in_s=delay_s(states[name])))
                elif time.monotonic() >= due_at[name]:
                    del due_at[name]
                    self._start_again(child)

    def _start_again(self, child: Child) -> None:
        try:
            self.start(child)
        except OSError as exc:  # out of processes or memory: the next round tries again
            self._say(f"{child.spec.name} cannot be started ({exc.strerror}); trying again.")


def _ended(child: Child, *, again_in_s: float) -> str:
    return (
        f"{child.spec.name} {how_it_ended(child)}; starting it again in {again_in_s:g} s. "
        f"Log: {child.spec.log_path}"
    )


def how_it_ended(child: Child) -> str:
    """Say exit code or signal of a child that ended."""
    code = child.exit_code or 0
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
