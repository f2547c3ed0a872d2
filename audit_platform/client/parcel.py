"""Consecutive events that go to Redis as one entry, and when they go again (pure).

Here: the parcel, and splitting records from disk into such. Not here: which parcels there are
(`client/custody.py`).
Guarantee: the numbers of a parcel have no holes.
"""

from collections.abc import Collection, Sequence
from typing import Final

from audit_platform.client.spool_format import SpoolRecord

LONGEST_RESEND_S: Final = 600.0


class Parcel:
    """Consecutive events that go to Redis as one entry; without its lines, the disk has these."""

    __slots__ = (
        *("attempts", "first_seq", "is_from_disk", "last_seq", "lines", "sent_s", "size_bytes"),
        "spooled",
    )

    def __init__(
        self,
        first_seq: int,
        payloads: Sequence[bytes],
        *,
        is_from_disk: bool = False,
        spooled: Collection[int] = (),
    ) -> None:
        """Put events together.

        Args:
            first_seq: Number of the first.
            payloads: Their bytes.
            is_from_disk: Whether the disk has them all.
            spooled: Numbers of those that the disk has, for events from memory.
        """
        self.first_seq, self.last_seq = first_seq, first_seq + len(payloads) - 1
        # One object instead of a thousand: no garbage collection walks through what waits.
        self.lines: bytes | None = b"\n".join(payloads)
        self.size_bytes, self.is_from_disk, self.spooled = len(self.lines), is_from_disk, spooled
        self.sent_s, self.attempts = 0.0, 0

    def unwritten(self) -> list[SpoolRecord]:
        """Give the events that the disk does not have."""
        payloads = () if self.lines is None else self.lines.split(b"\n")
        return [
            SpoolRecord(seq, payload)
            for seq, payload in enumerate(payloads, self.first_seq)
            if seq not in self.spooled
        ]

    @property
    def count(self) -> int:
        """Number of events."""
        return self.last_seq - self.first_seq + 1

    def due_s(self, after_s: float) -> float:
        """Moment to send it again: the pause doubles with each attempt, up to ten minutes."""
        pause_s = after_s * 2.0 ** min(self.attempts - 1, 20)
        return self.sent_s + min(pause_s, max(LONGEST_RESEND_S, after_s))


def consecutive(records: Sequence[SpoolRecord]) -> list[list[SpoolRecord]]:
    """Split ascending records where a number is missing."""
    runs: list[list[SpoolRecord]] = []
    for record in records:
        if runs and runs[-1][-1].seq + 1 == record.seq:
            runs[-1].append(record)
        else:
            runs.append([record])
    return runs


def parcel_of(records: Sequence[SpoolRecord]) -> Parcel:
    """Make a parcel of consecutive records."""
    return Parcel(records[0].seq, [record.payload for record in records], is_from_disk=True)
