"""Seconds from a fault to its recovery: new events visible, nothing older waiting in Redis.

Here: one thread that watches open faults. Not here: making faults (`kills.py`).
A fault counts as recovered when the reader has seen an event made after it and the oldest entry
of every stream was added after it. Faults may overlap; each is timed by itself.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Final

import redis

from tests.chaos.harness.site import Site

LOOK_S: Final = 0.05


@dataclass(slots=True, kw_only=True)
class Fault:
    """One injected fault."""

    name: str
    began_s: float
    """Monotonic."""
    began_ms: int
    """Since 1970."""
    is_proved: bool = False
    kills: int = 0
    recovery_s: float | None = None


class Recoveries:
    """All faults of a test, in order."""

    def __init__(self, site: Site, newest_ms: Callable[[], int]) -> None:
        """Prepare.

        Args:
            site: Whose streams are looked at.
            newest_ms: Time of the newest visible event, of `Reader`.
        """
        self.faults: list[Fault] = []
        self._site, self._newest_ms = site, newest_ms
        self._lock, self._stop = Lock(), Event()
        self._client: redis.Redis = redis.Redis.from_url(site.redis_url, socket_timeout=1)
        self._thread = Thread(target=self._run, name="recoveries", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()
        self._client.close()

    def begin(self, name: str) -> Fault:
        """Note a fault that happens now."""
        fault = Fault(name=name, began_s=time.monotonic(), began_ms=_now_ms())
        with self._lock:
            self.faults.append(fault)
        return fault

    def open_faults(self) -> list[Fault]:
        """Faults that nothing shows to be over."""
        with self._lock:
            return [fault for fault in self.faults if fault.recovery_s is None]

    def wait_until_all(self, *, within_s: float) -> bool:
        """Wait for the recovery of every fault; False when time is over."""
        deadline_s = time.monotonic() + within_s
        while self.open_faults() and time.monotonic() < deadline_s:
            self._stop.wait(LOOK_S)
        return not self.open_faults()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            waiting = self.open_faults()
            if not waiting:
                continue
            oldest_ms, newest_ms = self._oldest_entry_ms(), self._newest_ms()
            now_s = time.monotonic()
            for fault in waiting:
                if oldest_ms is not None and min(oldest_ms, newest_ms) > fault.began_ms:
                    fault.recovery_s = now_s - fault.began_s

    def _oldest_entry_ms(self) -> int | None:
        """As `Site.oldest_waiting_ms`; None without Redis."""
        try:
            return self._site.oldest_waiting_ms(self._client)
        except (redis.RedisError, OSError):
            return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
