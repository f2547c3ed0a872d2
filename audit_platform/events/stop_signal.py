"""SIGTERM as a stop flag, for the length of a block."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType


@contextmanager
def stop_on_sigterm(stop: Event) -> Iterator[None]:
    """Set the flag when the process is asked to end; the handler before comes back afterwards.

    Outside the main thread Python allows no handlers: there the block runs without one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def set_flag(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = signal.signal(signal.SIGTERM, set_flag)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
