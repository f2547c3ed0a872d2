"""Room of a spool: what is taken, by which stream, and when it is short.

Here: the limits. Not here: the files that take the room (`client/spool.py`).
Guarantees: the sum stays below the limit, and spilled events take half of it at most, so that
`durable` ones find the other half. Thread-safe.
"""

from threading import Lock
from typing import Final

from audit_platform.client.spool_format import SpoolStream

# Above this part of the room, confirmed segments go before their time.
_SHORT: Final = 0.75


class Room:
    """Bytes taken by each stream."""

    def __init__(self, max_bytes: int, *, step_bytes: int) -> None:
        """Begin with all room free.

        Args:
            max_bytes: Bytes of both streams at most.
            step_bytes: How much to free when the disk was full.
        """
        self.max_bytes, self._step_bytes = max_bytes, step_bytes
        self._lock = Lock()
        self._taken = dict.fromkeys(SpoolStream, 0)
        self._is_refused = False

    @property
    def taken_bytes(self) -> int:
        """Bytes of both streams."""
        return sum(self._taken.values())

    def add(self, size_bytes: int, stream: SpoolStream) -> None:
        """Count bytes that are there in any case; negative when they are gone."""
        with self._lock:
            self._taken[stream] += size_bytes

    def reserve(self, size_bytes: int, stream: SpoolStream) -> bool:
        """Take room; False when there is not enough."""
        with self._lock:
            if self.taken_bytes + size_bytes > self.max_bytes:
                self._is_refused = True
                return False
            if stream is SpoolStream.SPILL and (
                self._taken[stream] + size_bytes > self.max_bytes // 2
            ):
                return False
            self._taken[stream] += size_bytes
            return True

    def note_full_disk(self) -> None:
        """Remember that the disk has less room than we are allowed."""
        self._is_refused = True

    def take_target_bytes(self) -> int:
        """Say how much may stay while confirmed segments can still go; forgets a refusal."""
        roomy = int(self.max_bytes * _SHORT)
        if self._is_refused:
            self._is_refused = False
            return min(roomy, self.taken_bytes - self._step_bytes)
        return roomy
