"""A producer without the SDK: XADD, one event an entry, never sent again.

For controls and for tests of the consumer alone: what is lost behind the queue stays lost, since
nobody resends it. Accepted is what Redis acknowledged.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from audit_platform.errors import QueueError
from audit_platform.events.stream import Appender
from audit_platform.settings import Settings
from tests.chaos.harness.history import History, of_events
from tests.factories import event, wire

BURST_S: Final = 0.02


class StreamLoad:
    """One thread that appends at a rate; `accepted` grows."""

    def __init__(self, settings: Settings, *, rate: float) -> None:
        """Keep the rate; `start` begins."""
        self.accepted: list[str] = []
        self._settings, self._rate = settings, rate
        self._stop = Event()
        self._thread = Thread(target=self._run, name="stream-load", daemon=True)

    def start(self) -> None:
        """Begin to append."""
        self._thread.start()

    def stop(self) -> History:
        """End; returns what was accepted."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        return of_events(self.accepted, durability="standard")

    def history(self, accepted: list[str]) -> History:
        """History of some of its events."""
        return of_events(accepted, durability="standard")

    def add(self, count: int) -> None:
        """Append some events now, in the caller's thread."""
        url = self._settings.redis_url.get_secret_value()
        with Appender(url, key_prefix=self._settings.key_prefix) as appender:
            self._append(appender, count)

    def _run(self) -> None:
        url = self._settings.redis_url.get_secret_value()
        with Appender(url, key_prefix=self._settings.key_prefix) as appender:
            while not self._stop.wait(BURST_S):
                self._append(appender, max(1, int(self._rate * BURST_S)))

    def _append(self, appender: Appender, count: int) -> None:
        for _ in range(count):
            made = event(tenant_id="default")
            try:
                appender.append_event(0, wire(made))
            except QueueError:
                return
            self.accepted.append(made["id"])


@contextmanager
def stream_load(settings: Settings, *, rate: float) -> Iterator[StreamLoad]:
    """Append during a block."""
    load = StreamLoad(settings, rate=rate)
    load.start()
    try:
        yield load
    finally:
        load.stop()
