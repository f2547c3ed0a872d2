"""Late rows of a day, and the services that merge and delete work with.

Here: what the tests of late rows, former generations and cold deletion share, on top of `lives.py`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audit_platform.db.pool import Connection
from audit_platform.events.act_log import ActLog, opened_act_log
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.event import ActorType
from audit_platform.events.ledger import BatchCounts
from audit_platform.events.stream import Appender
from audit_platform.retention.late_rows import LateMerge, MergeReport, merge_late
from audit_platform.retention.old_generations import OldFiles, Settled, settle_generations
from audit_platform.retention.partition_states import State
from audit_platform.retention.reopen import Reopening, reopen
from audit_platform.settings import Settings
from tests.conftest import KEY, Database
from tests.factories import event
from tests.integration.events.store import frame_of, open_writer
from tests.integration.retention.lives import Life, live, row_of

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merging:
    """One day whose rows come late."""

    conn: Connection
    database: Database
    settings: Settings
    life: Life

    def store(self, events: Sequence[dict[str, Any]]) -> BatchCounts:
        """Store events as the ingest job does."""
        return store(self.database, events)

    def late_events(self, count: int, **fields: Any) -> list[dict[str, Any]]:
        """Make events of the day."""
        lo = self.life.bounds.lo
        return [
            event(timestamp=lo + timedelta(hours=12, milliseconds=number), **fields)
            for number in range(count)
        ]

    def bring_to(self, state: State) -> None:
        """Let the day live until a state."""
        moments = {
            State.VERIFIED: (self.life.sealing,),
            State.DETACHED: (self.life.sealing, self.life.detaching),
            State.DROPPED: self.life.moments,
        }
        for moment in moments[state]:
            live(self.conn, self.life, now=moment)
        assert row_of(self.conn, self.life).state is state

    def merge(self, *, now: datetime | None = None, **options: Any) -> list[MergeReport]:
        """Merge what is late."""
        with opened_act_log(self.settings) as log:
            return self.merge_with(log, now=now, **options)

    def merge_with(
        self, log: ActLog, *, now: datetime | None = None, **options: Any
    ) -> list[MergeReport]:
        """Merge what is late, with a log of the test's own."""
        merge = LateMerge(
            store=self.life.context().store,
            log=log,
            vault=DeadLetterVault.of_base64(KEY),
            interval="day",
            **options,
        )
        return merge_late(self.conn, merge, now=now or self.life.dropping + DAY)

    def reopen(self, *, now: datetime) -> None:
        """Open the day again, as a merge does before it moves rows."""
        with opened_act_log(self.settings) as log:
            reopening = Reopening(
                actor="test", actor_type=ActorType.ADMIN, reason="it is a test", log=log
            )
            reopen(self.conn, row_of(self.conn, self.life), reopening, now=now)

    def settle(self, *, now: datetime) -> list[Settled]:
        """Prove and delete former generations."""
        with opened_act_log(self.settings) as log:
            return self.settle_with(log, now=now)

    def settle_with(self, log: ActLog, *, now: datetime) -> list[Settled]:
        """Prove and delete former generations, with a log of the test's own."""
        context = self.life.context()
        old = OldFiles(
            store=context.store, copy_store=context.copy_store, log=log, keep=timedelta(days=1)
        )
        return settle_generations(self.conn, old, now=now)

    def paths(self) -> set[str]:
        """Files of the archive, the second copy included."""
        roots = (self.life.archive, self.life.copy)
        found = [
            {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
            for root in roots
        ]
        assert found[0] == found[1], "both copies have the same files"
        return found[0]


def store(database: Database, events: Sequence[dict[str, Any]]) -> BatchCounts:
    """Store events as the ingest job does."""
    writer = open_writer(database.writer_url)
    try:
        return writer.save(frame_of(list(events)))
    finally:
        writer.connection.close()


@contextmanager
def unheard_log() -> Iterator[ActLog]:
    """A log whose Redis is not there."""
    with Appender("redis://127.0.0.1:1/0", key_prefix="none", timeout_ms=200) as appender:
        yield ActLog(appender, tenant_id="platform", shards=1)
