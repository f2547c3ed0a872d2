"""Events that a producer writes about itself: numbers it gave up, epochs that ended (pure).

Here: their wire form. Not here: when they are sent (`client/custodian.py`), what the ingest job
makes of them (`events/control_events.py`).
Guarantee: each fits one event; a long list becomes several.

Source: delivery design, sections 3 and 5.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from audit_platform.events import identity
from audit_platform.events.event import ActorType

_Item = TypeVar("_Item")

LOSS: Final = "audit.producer.loss"
END: Final = "audit.producer.end"
SAMPLED: Final = "audit.producer.sampled"
SOURCE: Final = "audit"
MAX_PARTS: Final = 500
MAX_NAME_CHARACTERS: Final = 200


class ControlEvents:
    """Makes them with the tenant of one client."""

    def __init__(
        self, *, name: str, tenant_id: str, tail74: Callable[[], int], now_us: Callable[[], int]
    ) -> None:
        """Take what they have in common.

        Args:
            name: Of the producer, for people: the ledger knows its number.
            tenant_id: Tenant of the client.
            tail74: Gives 74 random bits.
            now_us: Gives microseconds since 1970.
        """
        self._name, self._tenant_id = name[:MAX_NAME_CHARACTERS], tenant_id
        self._tail74, self._now_us = tail74, now_us

    def losses(
        self, producer_id: int, epoch: int, reason: str, ranges: Iterable[tuple[int, int]]
    ) -> Iterator[bytes]:
        """Declare numbers that were given and will never come."""
        for part in _chunks(list(ranges)):
            yield self._event(
                LOSS,
                {"producer_id": producer_id, "epoch": epoch, "reason": reason, "ranges": part},
            )

    def end(self, producer_id: int, ended: Sequence[tuple[int, int]], *, is_unclean: bool) -> bytes:
        """Say the last number of each epoch of a process that ended."""
        return self._event(
            END, {"producer_id": producer_id, "ended": list(ended), "unclean": is_unclean}
        )

    def not_logged(
        self, producer_id: int, epoch: int, counts: Iterable[tuple[str, str, str, int]]
    ) -> Iterator[bytes]:
        """Report how many calls the policies did not log since the process began."""
        for part in _chunks(list(counts)):
            yield self._event(SAMPLED, {"producer_id": producer_id, "epoch": epoch, "counts": part})

    def _event(self, action: str, metadata: dict[str, object]) -> bytes:
        now_us = self._now_us()
        moment = datetime.fromtimestamp(now_us // 1_000_000, UTC).replace(
            microsecond=now_us % 1_000_000
        )
        record = {
            "id": identity.mint(now_us, self._tail74()),
            "timestamp": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "tenant_id": self._tenant_id,
            "source": SOURCE,
            "action": action,
            "actor_type": ActorType.SYSTEM.value,
            "metadata": {**metadata, "name": self._name},
        }
        return json.dumps(record, separators=(",", ":")).encode()


def _chunks(items: list[_Item]) -> Iterator[list[_Item]]:
    for start in range(0, len(items), MAX_PARTS):
        yield items[start : start + MAX_PARTS]
