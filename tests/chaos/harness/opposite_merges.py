"""Two writers that merge the same new rows at once, one in reverse order; counts deadlocks (P08).

Run as a process: `is_sorted` false takes the sort out of the merge's statement, in this process.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import Final

import polars as pl
from psycopg import sql

from audit_platform.db.pool import connected, transaction
from audit_platform.errors import LockNotAvailable
from audit_platform.events import merge_rows
from audit_platform.events.frame import FrameResult, to_frame
from audit_platform.events.ledger import new_batch_id
from audit_platform.events.merge_rows import ROW_NO, Merge
from audit_platform.events.normalise import FrameLimits
from audit_platform.events.ready_frame import COLUMNS, with_batch_id
from audit_platform.events.split_rows import read_ranges, split_rows
from audit_platform.events.stream_entry import StreamEntry
from tests.factories import event, wire

DEADLOCK: Final = "40P01"
LIMITS: Final = FrameLimits(
    max_event_bytes=65_536, max_json_depth=32, max_json_keys=256, future_tolerance_s=300
)


def main() -> None:
    """Read what to do from standard input; print the count as JSON."""
    config = json.load(sys.stdin)
    if not config["is_sorted"]:
        _take_out_the_sort()
    deadlocks = 0
    for _ in range(config["rounds"]):
        deadlocks += _round(config["url"], _rows(config["rows"]))
    print(json.dumps({"deadlocks": deadlocks}))  # noqa: T201


def _take_out_the_sort() -> None:
    whole = merge_rows._INSERT_OPEN.as_string()
    unsorted = whole.replace(" order by {key_order}", " order by s.row_no")
    if unsorted == whole:
        raise AssertionError("the statement has changed: this control controls nothing")
    merge_rows._INSERT_OPEN = sql.SQL(unsorted)  # pyright: ignore[reportArgumentType]


def _rows(count: int) -> pl.DataFrame:
    entries = [
        StreamEntry(entry_id=f"1-{number}", fields={b"event": wire(event())})
        for number in range(count)
    ]
    frame: FrameResult = to_frame(entries, stream="test", now=datetime.now(UTC), limits=LIMITS)
    return with_batch_id(frame.rows, new_batch_id())


def _round(url: str, rows: pl.DataFrame) -> int:
    both = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        merges = [pool.submit(_merge, url, part, both) for part in (rows, rows.reverse())]
        return sum(merge.result() for merge in merges)


def _merge(url: str, rows: pl.DataFrame, both: Barrier) -> int:
    """Merge until it succeeds; returns the number of deadlocks."""
    deadlocks = 0
    both.wait()
    with connected(url, application="merge") as connection:
        while True:
            try:
                with transaction(connection):
                    split = split_rows(rows.with_row_index(ROW_NO), read_ranges(connection))
                    Merge(connection, COLUMNS).load(split, row_count=rows.height)
            except LockNotAvailable as exc:
                deadlocks += exc.sqlstate == DEADLOCK
            else:
                return deadlocks


if __name__ == "__main__":
    main()
