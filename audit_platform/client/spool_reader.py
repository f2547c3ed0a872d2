"""Reading across segments: one ascending sequence out of several files.

Here: the merge. Not here: reading one file (`client/spool_segment.py`).
Guarantees: each number comes once. A file is opened only when its first number is due, so that a
read costs what it returns, not what the spool holds.
"""

import heapq
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing

from audit_platform.client.spool_format import SpoolRecord
from audit_platform.client.spool_segment import Segment


def read_merged(
    segments: Iterable[Segment], first: int, last: int, *, max_records: int, max_bytes: int
) -> list[SpoolRecord]:
    """Read records from `first` to `last`, up to a limit; at least one if there is one.

    Raises:
        SegmentDamaged: A segment is damaged.
        OSError: A file cannot be read.
    """
    records: list[SpoolRecord] = []
    size = 0
    with ExitStack() as stack:
        for record in _merged(segments, first, last, stack):
            if records and record.seq == records[-1].seq:
                continue
            size += len(record.payload)
            if records and (len(records) >= max_records or size > max_bytes):
                break
            records.append(record)
    return records


def _merged(
    segments: Iterable[Segment], first: int, last: int, stack: ExitStack
) -> Iterator[SpoolRecord]:
    # Last comes first: `pop` takes the segment whose turn is next.
    waiting = sorted(
        (
            (-max(span[0], first), number, segment)
            for number, segment in enumerate(segments)
            if (span := segment.span) is not None and span[0] <= last and span[1] >= first
        ),
        key=lambda one: one[:2],
    )
    heads: list[tuple[int, int, SpoolRecord, Iterator[SpoolRecord]]] = []
    while waiting or heads:
        while waiting and (not heads or -waiting[-1][0] <= heads[0][0]):
            _, number, segment = waiting.pop()
            blocks = segment.blocks(first, last)
            source = segment.read(blocks, first, last)
            stack.enter_context(closing(source))
            record = next(source, None)
            if record is not None:
                heapq.heappush(heads, (record.seq, number, record, source))
        if not heads:
            continue
        _, number, record, source = heapq.heappop(heads)
        yield record
        # Mostly one segment is alone for a long stretch: no heap until another one is due.
        until = min(heads[0][0] if heads else last + 1, -waiting[-1][0] if waiting else last + 1)
        for record in source:
            if record.seq >= until:
                heapq.heappush(heads, (record.seq, number, record, source))
                break
            yield record
