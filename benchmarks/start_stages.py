"""Where the time of one start goes: from `log()` in a quiet platform to a row others see.

Here: moments of one start, from our ledger, Dagster's event log and the kernel, and the stages
between them. Not here: making starts (`idle_start.py`).
"""

import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

import psutil

from audit_platform.db.pool import Connection

MOMENTS: Final = (
    "logged",
    "queued",
    "requested",
    "process",
    "instance",
    "defined",
    "op",
    "leased",
    "committed",
    "visible",
)
"""In this order; the stage named after each begins at the one before it.

logged: `log()` returned. queued: Redis took the entry. requested: the sensor saw it and its request
became a run. process: the kernel started the worker. instance: it had imported Dagster and opened
its storage. defined: it had loaded our definitions and began the run.
op: the drain's op began. leased: it took the shard. committed: clock of the database in the
transaction. visible: another connection saw the row.
"""
_PID = re.compile(r"Started process for run \(pid: (\d+)\)")
EVENTS: Final = (
    "select dagster_event_type, extract(epoch from timestamp at time zone 'UTC'), event "
    "from event_logs where run_id = %s order by id"
)
BATCH: Final = (
    "select b.run_id, split_part(b.first_entry, '-', 1)::float8 / 1000, "
    "extract(epoch from b.committed_at)::float8 "
    "from audit.event e join audit.ingest_batch b using (batch_id) where e.entity_id = %s"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start: its moments in seconds since 1970, and the CPU time of its worker until then."""

    run_id: str
    moments: Mapping[str, float]
    worker_cpu_s: float

    @property
    def total_s(self) -> float:
        """From the return of `log()` to the row."""
        return self.moments["visible"] - self.moments["logged"]

    def stages(self) -> dict[str, float]:
        """Seconds of each stage, by the moment that ends it; a moment nobody saw is left out."""
        known = [name for name in MOMENTS if name in self.moments]
        return {
            after: self.moments[after] - self.moments[before] for before, after in pairwise(known)
        }


def gather_start(
    audit: Connection,
    dagster: Connection,
    *,
    entity_id: str,
    logged: float,
    visible: float,
    leased: float | None,
) -> Start:
    """Put together what is known about the start that stored an event; call it at once.

    Args:
        audit: Administrator of the audit database.
        dagster: Dagster's database.
        entity_id: Of the event.
        logged: When `log()` returned.
        visible: When another connection saw the row.
        leased: When somebody saw the lease of the run; None when nobody looked.
    """
    row = audit.execute(BATCH.encode(), [entity_id]).fetchone()
    if row is None:
        raise RuntimeError(f"event {entity_id} was seen and is gone")
    run_id, queued, committed = row
    seen = {"logged": logged, "queued": queued, "committed": committed, "visible": visible}
    if leased is not None:
        seen["leased"] = leased
    worker_cpu_s = 0.0
    for kind, moment, event in dagster.execute(EVENTS.encode(), [run_id]).fetchall():
        seen.setdefault("requested", float(moment))
        found = _NAMES.get(kind)
        if found is not None:
            seen.setdefault(found, float(moment))
        if match := _PID.search(event):
            seen.setdefault("instance", float(moment))
            with suppress(psutil.Error, OSError):
                worker = psutil.Process(int(match[1]))
                seen["process"] = _started_at(worker.pid)
                worker_cpu_s = sum(worker.cpu_times()[:2])
    return Start(run_id=run_id, moments=seen, worker_cpu_s=worker_cpu_s)


_NAMES: Final = {"PIPELINE_START": "defined", "STEP_START": "op"}


def _started_at(pid: int) -> float:
    """Start of a process, to 10 ms; psutil's own figure hangs on a boot time in whole seconds."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    since_boot_s = ticks / os.sysconf("SC_CLK_TCK")
    return moment_now() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot_s)


def moment_now() -> float:
    """Seconds since 1970."""
    return datetime.now(UTC).timestamp()
