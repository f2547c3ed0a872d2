"""A drain beside a test, as the ingest job runs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from audit_platform.events.drain import run_drain
from audit_platform.settings import Settings


@contextmanager
def draining(settings: Settings) -> Iterator[None]:
    """Drain shard 0 for the length of a block, one short run after the other."""
    quick = settings.model_copy(update={"drain_idle_s": 1.0})
    stop = Event()

    def drain() -> None:
        while not stop.is_set():
            run_drain(quick, shard=0, run_id="test", dead_run_id=None, report=lambda _: None)

    thread = Thread(target=drain, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
