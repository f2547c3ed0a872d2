"""What a producer promises per event and how it batches: classes, presets, shards (pure).

Here: the durability classes that exist, the figures behind each batching preset, the shard of a
tenant. Not here: the buffer and the sender that act on them (`client/`).
Guarantee: `shard_of` never changes for the same arguments, on any machine.

Source: delivery design, section 2 (classes); features, section 2 (presets).
"""

import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from audit_platform.settings import BatchPreset

MAX_EVENTS_PER_FLUSH: Final = 1_000


class Durability(StrEnum):
    """How hard a producer tries to keep an event."""

    BEST_EFFORT = "best_effort"
    """Given up first when the buffer is full."""
    STANDARD = "standard"
    """Kept until the database confirms it; dropped only when memory and disk are full."""
    DURABLE = "durable"
    """On the producer's disk before the call returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPolicy:
    """When a producer flushes: at `size` events, or `interval_s` after the first of them."""

    size: int
    interval_s: float

    def __post_init__(self) -> None:
        """Refuse figures under which nothing would ever be flushed."""
        if not 1 <= self.size <= MAX_EVENTS_PER_FLUSH or self.interval_s <= 0:
            message = f"a flush takes 1 to {MAX_EVENTS_PER_FLUSH} events and some time: {self}"
            raise ValueError(message)


PRESETS: Final = {
    BatchPreset.LOW: BatchPolicy(size=500, interval_s=30.0),
    BatchPreset.MEDIUM: BatchPolicy(size=100, interval_s=5.0),
    BatchPreset.HIGH: BatchPolicy(size=50, interval_s=1.0),
    # The size follows the rate by itself: what 20 ms bring, up to a full entry.
    BatchPreset.ADAPTIVE: BatchPolicy(size=MAX_EVENTS_PER_FLUSH, interval_s=0.02),
}


def batch_policy(
    preset: BatchPreset, *, size: int | None = None, interval_ms: int | None = None
) -> BatchPolicy:
    """Take a preset's figures; explicit ones win."""
    chosen = PRESETS[preset]
    return BatchPolicy(
        size=chosen.size if size is None else size,
        interval_s=chosen.interval_s if interval_ms is None else interval_ms / 1000,
    )


def shard_of(tenant_id: str, shards: int) -> int:
    """Choose the shard of a tenant; all events of a tenant go through one stream.

    CRC-32 as in zlib, so that producers in other languages can agree.
    """
    return zlib.crc32(tenant_id.encode()) % shards if shards > 1 else 0
