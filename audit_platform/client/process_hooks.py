"""Process-wide hooks: drain at exit and on SIGTERM, start afresh in a forked child.

Here: one registration per process for all its clients, since neither fork hooks nor signal
handlers can be taken back one by one. Not here: what draining means (`client/client.py`).
Guarantees: nothing is installed before the first client exists. A SIGTERM handler that was there
before is called at once; where there was none, the process ends by SIGTERM after the drain, with
the exit status its parent expects. The handler itself takes no lock: it may interrupt the very
code that holds it.
"""

import _thread
import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Protocol, cast

_Handler = Callable[[int, FrameType | None], Any] | int | None


class Drainable(Protocol):
    """What the hooks need of a client."""

    def close(self) -> None:
        """Send what is buffered, for as long as the client's settings allow."""
        ...

    def restart_after_fork(self) -> None:
        """Forget the parent's events, threads and connections."""
        ...


class _Hooks:
    """The clients of this process and what was installed for them."""

    def __init__(self) -> None:
        self.clients: list[Drainable] = []
        self.is_installed = False
        self.is_handling_sigterm = False
        self.previous: _Handler = None
        self.is_draining = False


_hooks: Final = _Hooks()


def register(client: Drainable, *, handle_sigterm: bool) -> None:
    """Drain a client at exit, and on SIGTERM if wanted and called from the main thread."""
    _hooks.clients.append(client)
    if not _hooks.is_installed:
        _hooks.is_installed = True
        atexit.register(drain_all)
        os.register_at_fork(after_in_child=_restart_in_child)
        _drain_at_end_of_worker()
    if handle_sigterm:
        _install_sigterm()


def unregister(client: Drainable) -> None:
    """Forget a client; the last one gives SIGTERM back to whoever had it."""
    if client in _hooks.clients:
        _hooks.clients.remove(client)
    if not _hooks.clients and _hooks.is_handling_sigterm and _is_main_thread():
        if signal.getsignal(signal.SIGTERM) is _on_sigterm:
            signal.signal(signal.SIGTERM, _hooks.previous)
        _hooks.is_handling_sigterm = False


def drain_all() -> None:
    """Close every client, the oldest first; each takes at most its own time-out."""
    for client in tuple(_hooks.clients):
        client.close()


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _install_sigterm() -> None:
    if _hooks.is_handling_sigterm or not _is_main_thread():
        return
    previous = signal.getsignal(signal.SIGTERM)
    # None: a handler that Python cannot call. Ignored: the process is not meant to end by it.
    if previous is None or previous is signal.SIG_IGN:
        return
    _hooks.previous = previous
    _hooks.is_handling_sigterm = True
    signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    previous = _hooks.previous
    if callable(previous):
        # The application ends in its own way and goes on logging; atexit drains.
        previous(number, frame)
        return
    if _hooks.is_draining:
        # Our own second signal after the drain, or an impatient operator.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        return
    _hooks.is_draining = True
    # Not threading.Thread: starting one takes a lock that the interrupted code may hold.
    _thread.start_new_thread(_drain_and_end, ())


def _drain_and_end() -> None:
    try:
        drain_all()
    finally:
        main_thread = threading.main_thread().ident
        if main_thread is not None:
            signal.pthread_kill(main_thread, signal.SIGTERM)


def _restart_in_child() -> None:
    _hooks.is_draining = False
    for client in _hooks.clients:
        client.restart_after_fork()
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        # The worker clears finalizers after this hook and runs such functions after that.
        cast("Any", util).register_after_fork(_hooks, _add_finalizer)


def _drain_at_end_of_worker() -> None:
    """Cover a client made inside a worker of multiprocessing, which ends without atexit."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and cast("Any", process).parent_process() is not None:
        _add_finalizer(_hooks)


def _add_finalizer(_hooks_of_process: object) -> None:
    util = cast("Any", sys.modules["multiprocessing.util"])
    util.Finalize(None, drain_all, exitpriority=0)
