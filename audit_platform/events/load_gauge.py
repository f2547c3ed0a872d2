"""The load of one shard, measured: age of its oldest entry and memory of Redis, as a level.

Here: two looks at Redis and the level that follows. Not here: thresholds (`events/overload.py`),
telling producers (the return path), what the drain does about it (`events/intake.py`).
Guarantee: a look that fails keeps the last level; overload is not forgotten because Redis is slow.

The consumer's Redis user has no INFO; the drain asks for the memory as the janitor, whose
connection it has anyway to create a missing group. So no user gets a further right.
"""

from collections.abc import Callable

from audit_platform.errors import QueueError
from audit_platform.events.backlog import MemoryUse
from audit_platform.events.overload import Load, next_level


class LoadGauge:
    """Level and lag of one shard, as last measured; read by any thread."""

    def __init__(
        self,
        *,
        oldest_ms: Callable[[], int | None],
        memory: Callable[[], MemoryUse],
        clock_ms: Callable[[], int],
    ) -> None:
        """Start at level 0.

        Args:
            oldest_ms: Time of the oldest entry in the stream, None when it is empty.
            memory: Memory of the server.
            clock_ms: Milliseconds since 1970.
        """
        self._oldest_ms, self._memory, self._clock_ms = oldest_ms, memory, clock_ms
        self.level = 0
        self.lag_s = 0.0

    def measure(self) -> int:
        """Look once; returns the level. Call it about every second.

        Raises:
            QueueError: Redis refused the look for a reason that no retry mends.
        """
        try:
            oldest_ms, memory_share = self._oldest_ms(), self._memory().share
        except QueueError as exc:
            if not exc.retryable:
                raise
            return self.level
        age_ms = 0 if oldest_ms is None else self._clock_ms() - oldest_ms
        self.lag_s = max(0.0, age_ms / 1_000)
        load = Load(oldest_age_s=self.lag_s, memory_share=memory_share)
        self.level = next_level(self.level, load)
        return self.level
