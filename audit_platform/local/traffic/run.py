"""One run of the demo's traffic against a running platform: start, follow, settle, report.

Here: the order of a run and its figures. Not here: their display (`cli/demo.py`), the producers
(`traffic_process.py`), the comparison (`traffic_balance.py`).
Guarantee: `settle` returns only when the queue is empty, so that its report misses nothing.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from audit_platform.db.pool import Connection, connect
from audit_platform.errors import AuditPlatformError
from audit_platform.events.backlog import Backlog
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.local.traffic.balance import Balance, compare
from audit_platform.local.traffic.found import (
    Found,
    Lag,
    Ledger,
    measure_lag,
    read_found,
    read_ledger,
)
from audit_platform.local.traffic.history import Accepted, read_history
from audit_platform.local.traffic.plan import TrafficPlan, jobs_of, live_jobs
from audit_platform.local.traffic.process import Producers, Queue
from audit_platform.settings import Settings

_STOP_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a run is, in events, each counted once; imports included."""

    accepted: int
    settled: int
    is_done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Figures of a settled run.

    Attributes:
        accepted: What the producers noted.
        imported_count: Events from files.
        events_per_s: Settled events of the traffic over the time from its start to its last
            commit; 0 without any.
    """

    accepted: Accepted
    imported_count: int
    ledger: Ledger
    dead_by_reason: Mapping[str, int]
    lag: Lag
    balance: Balance
    events_per_s: float


class TrafficRun:
    """The traffic of one demo; use it as a context manager."""

    def __init__(self, plan: TrafficPlan, settings: Settings, history_dir: Path) -> None:
        """Connect; nothing is produced yet.

        Args:
            plan: Who produces how much.
            settings: Of the running platform, with its URLs and keys.
            history_dir: Empty; the producers write into it.
        """
        self._plan = plan
        self._history_dir = history_dir
        self._queue = _queue(settings)
        self._backlog = Backlog(settings.redis_url_of("sensor"), key_prefix=settings.key_prefix)
        self._vault = _vault(settings)
        self._owner: Connection = connect(
            settings.database_url_of("maint"), application="demo", role="audit_owner"
        )
        self._producers = Producers(jobs_of(plan, self._queue, history_dir))
        self._started_at = datetime.now(UTC)
        self._settled_before = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._producers.stop(_STOP_S)
        self._backlog.close()
        self._owner.close()

    def start(self) -> None:
        """Start the producers."""
        self._settled_before = read_ledger(self._owner).settled_count
        self._started_at = datetime.now(UTC)
        self._producers.start()

    def position(self) -> Position:
        """Look how far the run is.

        Raises:
            AuditPlatformError: A producer failed.
        """
        is_producing = self._producers.is_running
        accepted = self._producers.accepted_count
        settled = read_ledger(self._owner).settled_count - self._settled_before
        self._producers.check()
        return Position(
            accepted=accepted,
            # A broken or late event that was sent twice is in the ledger twice.
            settled=min(settled, accepted),
            is_done=not is_producing and self._is_empty(),
        )

    def report(self, imported: AbstractSet[str]) -> Report:
        """Compare by sets of ids; call it once `position` says that all is done.

        Args:
            imported: Ids of the events that files brought.
        """
        accepted = read_history(self._history_dir)
        found = read_found(self._owner, self._vault)
        ledger = read_ledger(self._owner)
        return Report(
            accepted=accepted,
            imported_count=len(imported),
            ledger=ledger,
            dead_by_reason=found.dead_by_reason,
            lag=measure_lag(self._owner, since=self._started_at),
            balance=_balance(accepted, imported, found),
            events_per_s=self._rate(ledger),
        )

    def _rate(self, ledger: Ledger) -> float:
        if ledger.last_commit_at is None or ledger.last_commit_at <= self._started_at:
            return 0.0
        seconds = (ledger.last_commit_at - self._started_at).total_seconds()
        return (ledger.settled_count - self._settled_before) / seconds

    def _is_empty(self) -> bool:
        return all(self._backlog.state(shard).length == 0 for shard in range(self._queue.shards))


@contextmanager
def live_traffic(settings: Settings, history_dir: Path) -> Iterator[None]:
    """Let one application log a few events a second while the block runs."""
    producers = Producers(live_jobs(_queue(settings), history_dir))
    producers.start()
    try:
        yield
    finally:
        producers.stop(_STOP_S)


def _queue(settings: Settings) -> Queue:
    return Queue(
        redis_url=settings.redis_url.get_secret_value(),
        key_prefix=settings.key_prefix,
        shards=settings.shards,
    )


def _balance(accepted: Accepted, imported: AbstractSet[str], found: Found) -> Balance:
    return compare(accepted.keys | imported, stored=found.stored, late=found.late, dead=found.dead)


def _vault(settings: Settings) -> DeadLetterVault:
    if settings.dead_letter_key is None:
        raise AuditPlatformError("The platform has no dead-letter key. Start it again.")
    return DeadLetterVault.of_base64(settings.dead_letter_key.get_secret_value())
