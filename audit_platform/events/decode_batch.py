"""Decodes a batch so that no entry can stop a shard.

Here: isolating entries on which the decoder itself fails. Not here: bad events, which
`events/frame.py` returns as rejects; an error out of it is a fault of the platform.
Guarantee: every entry is in exactly one of the frames; a failing one is kept with all its fields.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from audit_platform.events.frame import FrameResult
from audit_platform.events.lines import pack_fields
from audit_platform.events.reject import Reject, RejectReason
from audit_platform.events.stream_entry import StreamEntry

Decode = Callable[[Sequence[StreamEntry]], FrameResult]

_logger = logging.getLogger(__name__)


def decode_batch(entries: Sequence[StreamEntry], decode: Decode) -> tuple[FrameResult, ...]:
    """Decode entries into one frame, or into several when the decoder fails on some of them.

    Without this, one such entry would end each run that reads it, and it is read first by each.

    Args:
        entries: At least one.
        decode: Entries to a frame; gives a frame without rows for none.
    """
    try:
        return (decode(entries),)
    except Exception as exc:  # noqa: BLE001 - any error of the decoder; counted and logged
        # The text of the error might hold a payload; its type does not.
        kind = type(exc).__name__
    if len(entries) == 1:
        _logger.error("the decoder failed with %s on entry %s", kind, entries[0].entry_id)
        return (_undecoded(entries[0], decode([]), kind),)
    middle = len(entries) // 2
    return decode_batch(entries[:middle], decode) + decode_batch(entries[middle:], decode)


def _undecoded(entry: StreamEntry, empty: FrameResult, kind: str) -> FrameResult:
    reject = Reject(
        entry_id=entry.entry_id,
        line_no=0,
        reason=RejectReason.DECODER_FAILED,
        detail=f"entry: the decoder failed with {kind}; replay it after an upgrade",
        raw=pack_fields(entry.fields),
    )
    return replace(
        empty, rejects=(reject,), n_read=1, first_entry=entry.entry_id, last_entry=entry.entry_id
    )
