"""The life of a day beside readers that count it and writers at full rate; what they saw.

Here: what the test of readers at the border and its benchmark share. Readers and writers are
processes of their own.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_platform.db.pool import Connection
from audit_platform.retention.late_rows import MergeReport
from audit_platform.retention.partition_states import Step
from audit_platform.retention.partition_table import PartitionRow
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.integration.retention.companion import beside
from tests.integration.retention.creation import until
from tests.integration.retention.lives import TENANTS, Life, begin_life, live, row_of
from tests.integration.retention.merging import DAY, Merging

QUIET_S = 3.0
"""Writers alone, before the maintenance begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What readers and writers report of one life, and of the second one after a late event."""

    first: Sequence[Step]
    merged: MergeReport
    second: Sequence[Step]
    row: PartitionRow
    seen: Sequence[dict[str, Any]]
    wrote: Sequence[dict[str, Any]]
    began_at: float
    ended_at: float

    @property
    def hz(self) -> float:
        """Counts a second of the slower reader."""
        return min(one["hz"] for one in self.seen)

    @property
    def longest_read_s(self) -> float:
        """Longest time that one count took."""
        return max(one["longest_s"] for one in self.seen)

    @property
    def wrong_changes(self) -> int:
        """Changes of a count beside the one late event that each reader has to see."""
        return sum(len(one["changes"]) - 2 + one["twice"] for one in self.seen)

    @property
    def quiet_s(self) -> float:
        """Longest wait of a batch before the maintenance."""
        return max(wait_s for at, wait_s in self._waits() if at < self.began_at)

    @property
    def busy_s(self) -> float:
        """Longest wait of a batch during the maintenance."""
        return max(self.busy_waits_s)

    @property
    def busy_waits_s(self) -> list[float]:
        """Waits of all batches during the maintenance."""
        return [wait_s for at, wait_s in self._waits() if self.began_at <= at <= self.ended_at]

    @property
    def stored(self) -> int:
        """Rows that the writers stored."""
        return sum(one["stored"] for one in self.wrote)

    def text(self) -> str:
        """Some lines for people."""
        took_s = self.ended_at - self.began_at
        return (
            f"\nseal to drop, twice, in {took_s:.1f} s; {self.stored:,} rows in "
            f"{len(self._waits()):,} batches stored meanwhile, longest wait "
            f"{self.busy_s * 1000:.0f} ms (before: {self.quiet_s * 1000:.0f} ms), "
            f"load {os.getloadavg()[0]:.1f}\n" + "\n".join(map(json.dumps, self.seen))
        )

    def _waits(self) -> list[tuple[float, float]]:
        return [(at, wait_s) for one in self.wrote for at, wait_s in one["waits"]]


def watch_life(
    database: Database, maint: Connection, settings: Settings, place: Path, *, rows: int
) -> Watched:
    """Let a day live to its drop, let an event come late, and let it live once more."""
    life = begin_life(database, place, rows=rows)
    merging = Merging(conn=maint, database=database, settings=settings, life=life)
    with ExitStack() as stack:
        readers = [
            stack.enter_context(beside("border_reader", **_reader(database, life, tenant=tenant)))
            for tenant in (None, TENANTS[0])
        ]
        writers = [
            stack.enter_context(beside("steady_writer", url=database.writer_url, shard=shard))
            for shard in (1, 2)
        ]
        _wait(QUIET_S)
        began_at = time.time()
        first = [one.step for moment in life.moments for one in live(maint, life, now=moment)]
        merging.store(merging.late_events(1))
        (merged,) = merging.merge(now=life.dropping + DAY)
        second = [
            one.step
            for days in (2, 10)
            for one in live(maint, life, now=life.dropping + days * DAY)
        ]
        ended_at = time.time()
        _wait(QUIET_S / 3)
        return Watched(
            first=first,
            merged=merged,
            second=second,
            row=row_of(maint, life),
            seen=[reader.end() for reader in readers],
            wrote=[writer.end() for writer in writers],
            began_at=began_at,
            ended_at=ended_at,
        )


def _reader(database: Database, life: Life, *, tenant: str | None) -> dict[str, object]:
    return {
        "url": database.maint_url if tenant is None else database.reader_url,
        "role": "audit_owner" if tenant is None else None,
        "archive_url": life.archive.as_uri(),
        "lo": life.bounds.lo.isoformat(),
        "hi": life.bounds.hi.isoformat(),
        "tenant": tenant,
    }


def _wait(seconds: float) -> None:
    """Let the programs beside this one run: their time is what is measured."""
    deadline = time.monotonic() + seconds
    until(lambda: time.monotonic() > deadline, what="time passes")
