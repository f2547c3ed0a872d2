"""Finds what producers say about themselves among the rows of a frame.

Here: which rows are such reports, and taking those out that do not hold. Not here: what a report
says (`events/control_events.py`) and when it counts (`events/ledger.py`).
Guarantee: a batch without reports costs two comparisons of columns, no Python per row.
"""

from typing import Final

import polars as pl

from audit_platform.events.control_events import PREFIX, SOURCE, Report, read_report
from audit_platform.events.lines import Lines
from audit_platform.events.reject import Reject, Unstorable

_COLUMNS: Final = ("action", "metadata", "producer_id", "line_index")


def take_reports(
    rows: pl.DataFrame, lines: Lines
) -> tuple[pl.DataFrame, tuple[Report, ...], list[Reject]]:
    """Read reports; their events stay rows, unless they do not hold.

    Args:
        rows: With the stamp of their entries.
        lines: Where the rows came from.

    Returns:
        The rows without reports that do not hold, the reports, and the rejects.
    """
    is_report = (rows["source"] == SOURCE) & rows["action"].str.starts_with(PREFIX)
    if not is_report.any():
        return rows, (), []
    reports: list[Report] = []
    refused: dict[int, Reject] = {}
    for action, metadata, producer_id, index in rows.filter(is_report).select(_COLUMNS).iter_rows():
        try:
            report = read_report(action, metadata, producer_id=producer_id, line_index=index)
        except Unstorable as verdict:
            refused[index] = lines.reject(index, verdict.reason, verdict.detail)
        else:
            reports += [report] if report else []
    kept = rows.filter(~pl.col("line_index").is_in(list(refused))) if refused else rows
    return kept, tuple(reports), [refused[index] for index in sorted(refused)]
