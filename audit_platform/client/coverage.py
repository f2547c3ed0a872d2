"""What the platform tells producers: numbers it has stored, and how the shard is (pure).

Here: reading the values of the hash `…:wm`. Not here: asking for them (`client/custodian.py`),
writing them (`events/watermark.py`).
Guarantee: a value that cannot be read is treated as not there; nothing is confirmed by mistake.

Source: delivery design, section 5, "Return path".
"""

import json
from dataclasses import dataclass
from typing import Any, Final, cast

from audit_platform.client.seq_set import SeqSet

SHARD_FIELD: Final = "shard"
# Written each second by a living drain run; a few missed ones are no sign of death.
FRESH_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Numbers of one epoch that the database accounts for."""

    max_seq: int
    gaps: SeqSet

    def covers(self, first: int, last: int) -> bool:
        """Whether all numbers from first to last are accounted for."""
        return last <= self.max_seq and not self.gaps.touches(first, last)

    def confirmed(self) -> SeqSet:
        """Give all numbers that are accounted for."""
        return SeqSet([(1, self.max_seq)]).minus(self.gaps)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStatus:
    """How a shard is, as its drain run sees it; `lag_s` is the age of the oldest entry."""

    level: int
    lag_s: float
    at_ms: int


NOTHING_CONFIRMED: Final = Coverage(max_seq=0, gaps=SeqSet())


def coverage_field(producer_id: int, epoch: int) -> str:
    """Name the field of one epoch."""
    return f"{producer_id}:{epoch}"


def parse_coverage(raw: bytes | None) -> Coverage | None:
    """Read the field of one epoch; None when it is missing or unreadable."""
    found = _object(raw)
    try:
        gaps = SeqSet((int(first), int(last)) for first, last in found["gaps"])
        return Coverage(max_seq=int(found["max"]), gaps=gaps)
    except (KeyError, TypeError, ValueError):
        return None


def parse_status(raw: bytes | None) -> ShardStatus | None:
    """Read the field `shard`; None when it is missing or unreadable."""
    found = _object(raw)
    try:
        return ShardStatus(
            level=int(found["level"]), lag_s=float(found["lag_s"]), at_ms=int(found["at_ms"])
        )
    except (KeyError, TypeError, ValueError):
        return None


class Freshness:
    """Whether a drain run lives: its status changes. No clock is compared with another's."""

    def __init__(self) -> None:
        """Begin with a shard of which nothing is known."""
        self.status: ShardStatus | None = None
        self._changed_s = float("-inf")

    def note(self, status: ShardStatus | None, *, now_s: float) -> None:
        """Take note of what was read at a moment of the own monotonic clock."""
        if status is not None and (self.status is None or status.at_ms != self.status.at_ms):
            # The first look cannot tell old from new: it counts, and goes stale by itself.
            self._changed_s = now_s
        self.status = status

    def is_fresh(self, now_s: float) -> bool:
        """Whether the status changed within the last seconds."""
        return self.status is not None and now_s - self._changed_s <= FRESH_S


def _object(raw: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(raw) if raw else None
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
