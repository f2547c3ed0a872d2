"""Consecutive events that go to Redis as one entry, and when they go again (pure).

Here: the parcel, and splitting records from disk into such. Not here: which parcels there are
(`client/custody.py`).
Guarantee: the numbers of a parcel have no holes.
"""

from collections.abc import Sequence
from typing import Final

from audit_platform.client.lane import Record
from audit_platform.client.spool_format import SpoolRecord

LONGEST_RESEND_S: Final = 600.0


class Parcel:
    """Consecutive events that Redis has had; without payloads, the disk has these."""

    __slots__ = ("attempts", "first_seq", "last_seq", "payloads", "records", "sent_s", "size_bytes")

    def __init__(
        self,
        first_seq: int,
        payloads: Sequence[bytes],
        records: Sequence[Record] | None,
        *,
        size_bytes: int,
    ) -> None:
        self.first_seq, self.last_seq = first_seq, first_seq + len(payloads) - 1
        self.payloads: Sequence[bytes] | None = payloads
        self.records, self.size_bytes = records, size_bytes
        self.sent_s, self.attempts = 0.0, 0

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
    payloads = [record.payload for record in records]
    return Parcel(records[0].seq, payloads, None, size_bytes=sum(map(len, payloads)))
