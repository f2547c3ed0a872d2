"""A frame made ready to be stored: the id of its batch, and its rows as COPY text.

Here: what the reader thread can do before the transaction begins, so that PostgreSQL does not wait
for it. Not here: the transaction (`events/copy_rows.py`).
Guarantee: the text holds the rows in the order of the frame, so that a line that PostgreSQL names
is the row of that number.
"""

from dataclasses import dataclass
from typing import Final

import polars as pl

from audit_platform.events.copy_text import copy_text
from audit_platform.events.frame import EVENT_SCHEMA, FrameResult

COLUMNS: Final = (*EVENT_SCHEMA, "batch_id")
"""What COPY writes; `ingested_at` is the default of the column, the time of the transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyFrame:
    """A frame and its batch id; without `copy_data` the text is made when it is stored."""

    frame: FrameResult
    batch_id: str
    copy_data: bytes | None = None


def make_ready(frame: FrameResult, *, batch_id: str) -> ReadyFrame:
    """Write the rows of a frame as COPY text."""
    data = copy_text(with_batch_id(frame.rows, batch_id), COLUMNS)
    return ReadyFrame(frame=frame, batch_id=batch_id, copy_data=data)


def with_batch_id(rows: pl.DataFrame, batch_id: str) -> pl.DataFrame:
    """Add the column that all rows of a batch share."""
    return rows.with_columns(pl.lit(batch_id).alias("batch_id"))
