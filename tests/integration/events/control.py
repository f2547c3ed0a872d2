"""Reports of producers about themselves, as lines of an entry."""

from collections.abc import Sequence
from typing import Any

from tests.factories import event, wire


def report(action: str, **metadata: Any) -> bytes:
    """Make a report with any metadata."""
    return wire(
        event(
            source="audit",
            action=f"audit.producer.{action}",
            actor_type="system",
            metadata=metadata,
            changes=None,
            entity_type=None,
            entity_id=None,
            user_id=None,
        )
    )


def loss(
    producer_id: int, epoch: int, ranges: Sequence[Sequence[int]], *, reason: str = "buffer_full"
) -> bytes:
    """Declare numbers as dropped."""
    return report("loss", producer_id=producer_id, epoch=epoch, reason=reason, ranges=ranges)


def end(producer_id: int, ended: Sequence[Sequence[int]], *, unclean: bool = False) -> bytes:
    """Say the last number of epochs."""
    return report("end", producer_id=producer_id, ended=ended, unclean=unclean)


def sampled(producer_id: int, epoch: int, counts: Sequence[Sequence[Any]]) -> bytes:
    """Say how many events the policies left out."""
    return report("sampled", producer_id=producer_id, epoch=epoch, counts=counts)
