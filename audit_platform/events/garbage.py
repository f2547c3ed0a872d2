"""Garbage collections of the interpreter, made rarer for the length of a drain.

Here: the threshold, for one block. Not here: memory limits, which follow from the size of a batch
(`events/batch.py`).
Guarantee: the threshold that was there before is there afterwards.

A batch of 20,000 single entries makes ten times as many containers as Python's default threshold
of 700: collecting that often took 0.5 s of the 3.9 s of CPU for 200,000 single entries, and found
nothing, since the objects of a batch hold no cycles (docs/decisions/0012-drain-speed.md).
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# From here on nothing more is saved: 20,000 and 100,000 took the same time.
_THRESHOLD: Final = 20_000


@contextmanager
def rare_collections() -> Iterator[None]:
    """Collect young objects less often inside the block; of the whole process."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _THRESHOLD) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
