"""Watermarks: which numbers of a producer the database accounts for, as producers read it.

Here: the question to the ledger, folding the ledger, and the value of one field. Not here: when it
is asked and published (`events/return_path.py`), reading the value (`client/coverage.py`).
Guarantee: a value never confirms a number that is not committed; where it has to leave something
out, it confirms less.

Source: delivery design, section 5.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from audit_platform.crash_points import crash
from audit_platform.db.pool import Connection, transaction, translated
from audit_platform.db.queries import load_queries

MAX_GAPS: Final = 100
RECENT: Final = timedelta(hours=1)
MAX_RECENT: Final = 10_000
_FOLD_TIMEOUT: Final = "20s"

Epoch = tuple[int, int]
"""Producer and its epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """What is known of one epoch: everything from 1 to `max_seq` is accounted for, but `gaps`.

    Attributes:
        producer_id: Producer.
        epoch: Run of its process.
        watermark: Up to here there is no gap.
        max_seq: Highest number that this value speaks of.
        gaps: First and last of each run of missing numbers, ascending, at most `MAX_GAPS`.
    """

    producer_id: int
    epoch: int
    watermark: int
    max_seq: int
    gaps: tuple[tuple[int, int], ...]

    @property
    def field(self) -> str:
        """Name of its field in the hash of the shard."""
        return f"{self.producer_id}:{self.epoch}"

    def value(self, *, at_ms: int) -> str:
        """Write it as producers read it."""
        parts = {
            "watermark": self.watermark,
            "max": self.max_seq,
            "gaps": self.gaps,
            "at_ms": at_ms,
        }
        return json.dumps(parts, separators=(",", ":"))


def read_watermarks(connection: Connection, epochs: Iterable[Epoch]) -> list[Watermark]:
    """Ask the ledger about some epochs; one of which it knows nothing has nothing confirmed.

    Raises:
        DatabaseUnavailable: No answer.
    """
    pairs = sorted(set(epochs))
    if not pairs:
        return []
    parameters = {
        "producer_ids": [producer_id for producer_id, _ in pairs],
        "epochs": [epoch for _, epoch in pairs],
        # One more than is published tells where the published part ends.
        "gap_limit": MAX_GAPS + 1,
    }
    with translated():
        rows = connection.execute(load_queries("events")["read_watermarks"], parameters).fetchall()
    return [
        _watermark(producer_id, epoch, watermark, max_seq, list(zip(firsts, lasts, strict=True)))
        for producer_id, epoch, watermark, max_seq, firsts, lasts in rows
    ]


def _watermark(
    producer_id: int, epoch: int, watermark: int, max_seq: int, gaps: list[tuple[int, int]]
) -> Watermark:
    if len(gaps) > MAX_GAPS:
        max_seq = gaps[MAX_GAPS][0] - 1
    return Watermark(
        producer_id=producer_id,
        epoch=epoch,
        watermark=watermark,
        max_seq=max_seq,
        gaps=tuple(gaps[:MAX_GAPS]),
    )


def read_identity(connection: Connection) -> str:
    """Name the server and its history: another name after a recovery to an earlier point."""
    with translated():
        row = connection.execute(load_queries("events")["read_identity"]).fetchone()
    return str(row[0]) if row else ""


def recent_epochs(connection: Connection) -> set[Epoch]:
    """List the epochs that were heard of in the last hour of the ledger."""
    parameters = {"longest_s": RECENT.total_seconds(), "most": MAX_RECENT}
    with translated():
        rows = connection.execute(load_queries("events")["list_recent_epochs"], parameters)
        return {(producer_id, epoch) for producer_id, epoch in rows.fetchall()}


def fold_ranges(connection: Connection) -> int | None:
    """Fold the ledger's ranges into one row per epoch; no answer about a number changes.

    Returns:
        How many ranges were folded; None while another session folds.

    Raises:
        DatabaseUnavailable: No answer; it is folded or not, the next fold does the rest.
    """
    with transaction(connection):
        connection.execute(f"set local statement_timeout = '{_FOLD_TIMEOUT}'")
        row = connection.execute(load_queries("events")["fold_ranges"]).fetchone()
        crash("L_FOLD")
    return row[0] if row else None
