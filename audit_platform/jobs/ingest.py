"""Job `ingest`: one drain run of one shard.

Here: the op around `events/drain.py`, its config, its tags, its observations. Not here: when a run
starts (`sensors/stream_backlog.py`), anything that touches an event.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import dagster as dg
from pydantic import Field

from audit_platform import crash_points
from audit_platform.assets.audit_event import AUDIT_EVENT
from audit_platform.events.drain import run_drain
from audit_platform.events.tally import DrainReport, DrainSummary
from audit_platform.failures import dagster_failures, is_logged
from audit_platform.jobs.coordinator import INGEST_LANE, LANE_TAG
from audit_platform.jobs.observation import ObservationWindow
from audit_platform.resources import SettingsResource

INGEST_JOB: Final = "ingest"
DRAIN_OP: Final = "drain_shard"
SHARD_TAG: Final = "audit/shard"
MAX_RUNTIME_TAG: Final = "dagster/max_runtime"
MAX_RUNTIME_MARGIN_S: Final = 120
"""Over the lifetime of a drain: time for its last batch; then run monitoring ends the run."""
DEFAULT_MAX_RUNTIME_S: Final = 720

_TEXT: Final = """
Moves events of one shard from Redis to PostgreSQL until it is idle (30 s) or old (600 s).

The sensor `stream_backlog` launches it. A launch by hand does no harm: a run that finds the lease
of its shard held ends at once. Progress is on the page of the asset `audit_event`.
"""


class DrainConfig(dg.Config):
    """What one run drains."""

    shard: int = Field(default=0, ge=0, le=255, description="Stream audit:{shard}:events.")
    dead_run_id: str | None = Field(
        default=None,
        description="Finished run whose lease may be taken over at once; the sensor sets it.",
    )
    idle_s: float | None = Field(
        default=None,
        ge=0.1,
        description="End after this time without events; default: AUDIT_DRAIN_IDLE_S (30). "
        "The sensor sets it where events come one by one.",
    )


class Observer:
    """Turns reports of a drain into observations of the asset `audit_event`."""

    def __init__(
        self,
        log_event: Callable[[dg.AssetObservation], None],
        *,
        shard: int,
        clock: Callable[[], float],
    ) -> None:
        """Begin the first window.

        Args:
            log_event: Of the running op.
            shard: Named in each observation.
            clock: Monotonic seconds.
        """
        self._log_event, self._shard, self._clock = log_event, shard, clock
        self._window = ObservationWindow(clock())

    def report(self, report: DrainReport) -> None:
        """Take a report; observe if it is time."""
        self._window.add(report)
        if self._window.is_due(self._clock()):
            self._observe()

    def finish(self) -> None:
        """Observe what was not yet, if anything happened."""
        if self._window.has_news:
            self._observe()

    def _observe(self) -> None:
        now_s = self._clock()
        metadata: dict[str, Any] = {**self._window.numbers(now_s), "shard": str(self._shard)}
        if self._window.dead_by_reason:
            metadata["dead letters by reason"] = dict(self._window.dead_by_reason)
        observation = dg.AssetObservation(asset_key=AUDIT_EVENT, metadata=metadata)
        if is_logged(self._log_event, observation):
            self._window = ObservationWindow(now_s)


@dg.op(name=DRAIN_OP, description="Read, decode, store, acknowledge; until idle or old.")
def drain_shard(
    context: dg.OpExecutionContext, config: DrainConfig, settings: SettingsResource
) -> None:
    """Drain one shard and show the totals."""
    observer = Observer(context.log_event, shard=config.shard, clock=time.monotonic)
    with dagster_failures():
        values = settings.load()
        if config.idle_s is not None:
            values = values.model_copy(update={"drain_idle_s": config.idle_s})
        crash_points.arm(values.crash)
        try:
            summary = run_drain(
                values,
                shard=config.shard,
                run_id=context.run.run_id,
                dead_run_id=config.dead_run_id,
                report=observer.report,
            )
        finally:
            observer.finish()
    context.add_output_metadata(_totals(summary))


@dg.job(
    name=INGEST_JOB,
    description=_TEXT,
    executor_def=dg.in_process_executor,
    tags={
        LANE_TAG: INGEST_LANE,
        MAX_RUNTIME_TAG: str(DEFAULT_MAX_RUNTIME_S),
    },
)
def ingest() -> None:
    """Drain one shard."""
    drain_shard()


def _totals(summary: DrainSummary) -> dict[str, dg.MetadataValue]:
    return {
        "ended because": dg.MetadataValue.text(summary.ended_because.value),
        "seconds": dg.MetadataValue.float(round(summary.seconds, 1)),
        "rows": dg.MetadataValue.int(summary.rows),
        "batches": dg.MetadataValue.int(summary.batches),
        "bytes": dg.MetadataValue.int(summary.bytes_),
        "duplicates": dg.MetadataValue.int(summary.duplicates),
        "late": dg.MetadataValue.int(summary.late),
        "dead letters": dg.MetadataValue.int(summary.dead_letters),
        "dead letters by reason": dg.MetadataValue.json(dict(summary.dead_by_reason)),
        "redis lost": dg.MetadataValue.int(summary.redis_lost),
    }
