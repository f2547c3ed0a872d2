"""Dagster's run queue, past which ingest runs go: events wait for them.

Here: who waits in the queue. Not here: the limits of the queue (`local/dagster.yaml`, which names
this class), when an ingest run is due (`sensors/`).
Guarantee: every other run waits in the queue, under its limits; ingest runs are limited by their
sensor and by the lease to one per shard. Daemon and webserver load this module, so it imports
nothing of ours.
"""

from typing import Final

import dagster as dg

LANE_TAG: Final = "audit/lane"
INGEST_LANE: Final = "ingest"


class IngestFirstCoordinator(dg.QueuedRunCoordinator):
    """Launches ingest runs at once and queues all others.

    The queue is looked at once a second, which was up to 1.1 s of a start from idle; and a queue
    that is full of other runs would hold events back.
    """

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        """Launch or queue a run that was just created; blocks until the process of a launch lives.

        Raises:
            Exception: The code server does not answer; the run is reported failed then, and the
                sensor requests another one.
        """
        run = context.dagster_run
        is_new = run.status is dg.DagsterRunStatus.NOT_STARTED
        if is_new and run.tags.get(LANE_TAG) == INGEST_LANE:
            return self._instance.launch_run(run.run_id, context.workspace)
        return super().submit_run(context)
