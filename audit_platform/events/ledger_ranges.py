"""What a batch tells the ledger about the numbers of its producers.

Here: which numbers arrived, which of them were set aside, and which reports count. Not here: the
statements (`events/ledger.py`), the form of a report (`events/control_events.py`).
Guarantee: a report counts only when its event is kept: stored, late, or there already. Writing the
ranges of a batch again, or of its redelivery, changes no answer.
"""

from collections.abc import Iterable, Iterator, Sequence

from audit_platform.events.control_events import MAX_SEQ, LedgerRange, RangeKind, Report
from audit_platform.events.frame import LINE_INDEX, FrameResult
from audit_platform.events.lines import SeqRange
from audit_platform.events.merge_rows import Loaded
from audit_platform.events.reject import Reject


def ledger_ranges(
    frame: FrameResult, loaded: Loaded, rejects: Sequence[Reject], reports: Iterable[Report]
) -> list[LedgerRange]:
    """List what is known about numbers after this batch.

    Args:
        frame: What was read.
        loaded: What became of the rows.
        rejects: All that became dead letters.
        reports: Those that count, see `kept_reports`.
    """
    ranges = [_range(one, RangeKind.GOT) for one in frame.ranges]
    if rejects:
        ranges += _dead(frame, rejects)
    if loaded.late_rows:
        ranges += _late(frame, loaded.late_rows)
    for report in reports:
        ranges += report.ranges
    return ranges


def kept_reports(frame: FrameResult, loaded: Loaded) -> list[Report]:
    """List the reports whose events are kept, wherever."""
    if not frame.reports:
        return []
    indexes = frame.rows[LINE_INDEX].to_list()
    for row_no in (*loaded.collided, *(refusal.row_no for refusal in loaded.refused)):
        indexes[row_no] = None
    kept = set(indexes)
    return [report for report in frame.reports if report.line_index in kept]


def _dead(frame: FrameResult, rejects: Sequence[Reject]) -> Iterator[LedgerRange]:
    stamps = {origin.entry_id: origin.stamp for origin in frame.lines.origins}
    for reject in rejects:
        stamp = stamps.get(reject.entry_id)
        # Number 0 is the entry itself; its lines were taken, or are among the unread ones.
        if stamp is not None and reject.line_no > 0:
            seq = min(stamp.first_seq + reject.line_no - 1, MAX_SEQ)
            yield LedgerRange(stamp.producer_id, stamp.epoch, RangeKind.DEAD, None, seq, seq)
    for unread in frame.lines.unread:
        yield _range(unread, RangeKind.DEAD)


def _late(frame: FrameResult, row_nos: Sequence[int]) -> Iterator[LedgerRange]:
    columns = ("producer_id", "producer_epoch", "producer_seq")
    for producer_id, epoch, seq in frame.rows[list(row_nos)].select(columns).iter_rows():
        if producer_id is not None:
            yield LedgerRange(
                producer_id, epoch, RangeKind.LATE, None, min(seq, MAX_SEQ), min(seq, MAX_SEQ)
            )


def _range(one: SeqRange, kind: RangeKind) -> LedgerRange:
    first_seq, last_seq = min(one.first_seq, MAX_SEQ), min(one.last_seq, MAX_SEQ)
    return LedgerRange(one.producer_id, one.epoch, kind, None, first_seq, last_seq)
