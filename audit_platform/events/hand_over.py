"""Bounded hand-over from one thread to others, errors included.

Here: a queue of one producer and some takers that knows whether a taker waits. Not here: what is
handed over.
Guarantee: items are taken in order, each once; an error of the producer is raised at every taker
after the items before it; nobody waits for ever on a thread that has ended.
"""

from collections import deque
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class HandOver(Generic[Item]):
    """At most `depth` items between one thread and its takers."""

    def __init__(self, *, depth: int) -> None:
        """Start open and empty.

        Args:
            depth: Items held at most; memory is bounded by it.
        """
        self._depth = depth
        self._items: deque[Item] = deque()
        self._changed = Condition()
        self._error: BaseException | None = None
        self._takers_waiting = 0

    @property
    def is_taker_free(self) -> bool:
        """Whether an item put now would be begun at once."""
        with self._changed:
            return self._takers_waiting > len(self._items)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be taken."""
        with self._changed:
            return not self._items

    def put(self, item: Item, *, timeout_s: float) -> bool:
        """Hand an item over; False when there was no room in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._items) < self._depth, timeout_s):
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def take(self, *, timeout_s: float) -> Item | None:
        """Take the next item; None when none came in time.

        Raises:
            BaseException: What the other thread failed with, once its items are taken.
        """
        with self._changed:
            self._takers_waiting += 1
            self._changed.wait_for(lambda: self._items or self._error, timeout_s)
            self._takers_waiting -= 1
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            return None

    def fail(self, error: BaseException) -> None:
        """Tell the takers that the producing thread ended with an error."""
        with self._changed:
            self._error = error
            self._changed.notify_all()
