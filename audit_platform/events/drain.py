"""Drain of one shard, from settings to summary: the seam that the ingest job calls.

Here: `run_drain`, which takes the lease and builds the edges. Not here: the loop
(`events/drain_loop.py`), reading (`events/intake.py`), storing (`events/copy_rows.py`) and
anything of Dagster.
Guarantee: lease and connections are given back, however the run ends.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from threading import Event
from typing import Final, Literal

from audit_platform.db.pool import connect
from audit_platform.errors import DatabaseError, QueueError
from audit_platform.events import lease as leases
from audit_platform.events.back_off import BackOff
from audit_platform.events.backlog import Inspector, MemoryUse
from audit_platform.events.batch import FlushLimits
from audit_platform.events.copy_rows import RowStore
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.drain_loop import Drain, DrainLimits
from audit_platform.events.frame import FrameResult, to_frame
from audit_platform.events.garbage import rare_collections
from audit_platform.events.intake import Intake
from audit_platform.events.lease import Lease
from audit_platform.events.ledger import new_batch_id
from audit_platform.events.load_gauge import LoadGauge
from audit_platform.events.normalise import FrameLimits
from audit_platform.events.return_path import ReturnPath, ShardStatus
from audit_platform.events.run_state import RunState
from audit_platform.events.stop_signal import stop_on_sigterm
from audit_platform.events.storer import Storer
from audit_platform.events.stream import Consumer
from audit_platform.events.stream_entry import StreamEntry
from audit_platform.events.tally import DrainReport, DrainSummary, EndReason
from audit_platform.events.writer_session import WriterSession
from audit_platform.settings import Settings

LONGEST_BLOCK_S: Final = 0.5


def run_drain(
    settings: Settings,
    *,
    shard: int,
    run_id: str,
    dead_run_id: str | None,
    report: Callable[[DrainReport], None],
) -> DrainSummary:
    """Drain one shard until it is idle, too old, asked to stop, or replaced.

    Args:
        settings: Builds every edge.
        shard: Stream to drain.
        run_id: Written into lease and ledger.
        dead_run_id: Run that Dagster reports as finished: its lease is free at once.
        report: Called about every `observation_interval_s`.

    Raises:
        InvalidSetting: A URL or the dead-letter key is missing.
        AuditPlatformError: What no retry can mend, for example a missing right.
    """
    vault = DeadLetterVault.of_settings(settings)
    stop = Event()
    with ExitStack() as stack:
        stack.enter_context(stop_on_sigterm(stop))
        stack.enter_context(rare_collections())
        session = _session(settings, stack, shard=shard, run_id=run_id)
        taken = _take_lease(
            session, settings, stop, shard=shard, run_id=run_id, dead_run_id=dead_run_id
        )
        if not isinstance(taken, Lease):
            return DrainSummary(ended_because=taken, seconds=0.0)
        stack.enter_context(_released(session, taken))
        consumer, intake = _reading_edges(settings, shard, stack)
        run = RunState(lifetime_s=settings.drain_lifetime_s, stop=stop)

        def obey(level: int) -> None:
            intake.obey(level)
            run.note_level(level)

        stack.enter_context(_shard_status(settings, consumer, obey, stack))
        return_path = ReturnPath(
            connection=session.connection,
            tell=consumer.tell,
            told=consumer.told_fields,
            shard=shard,
            shards=settings.shards,
            clock=time.monotonic,
            clock_ms=_now_ms,
        )
        sessions = [
            _session(settings, stack, shard=shard, run_id=run_id)
            for _ in range(settings.drain_connections)
        ]
        return Drain(
            consumer=consumer,
            intake=intake,
            storers=[
                Storer(
                    consumer=consumer,
                    intake=intake,
                    store=RowStore(one.connection, vault),
                    lease=taken,
                    return_path=return_path,
                    run=run,
                )
                for one in sessions
            ],
            session=session,
            lease=taken,
            limits=DrainLimits(
                idle_s=settings.drain_idle_s,
                observation_interval_s=settings.observation_interval_s,
            ),
            return_path=return_path,
            report=report,
            run=run,
        ).run()


def _session(settings: Settings, stack: ExitStack, *, shard: int, run_id: str) -> WriterSession:
    session = WriterSession(
        lambda: connect(
            settings.database_url_of("writer"),
            application=leases.session_name(shard, run_id),
            answer_timeout_s=settings.postgres_answer_s,
        )
    )
    stack.callback(session.close)
    return session


def _take_lease(
    session: WriterSession,
    settings: Settings,
    stop: Event,
    *,
    shard: int,
    run_id: str,
    dead_run_id: str | None,
) -> Lease | EndReason:
    back_off, started_s = BackOff(stop), time.monotonic()
    while not stop.is_set():
        remaining_s = settings.drain_lifetime_s - (time.monotonic() - started_s)
        if remaining_s <= 0:
            return EndReason.LIFETIME
        try:
            taken = leases.take(
                session.connection(),
                shard=shard,
                run_id=run_id,
                ttl_s=settings.lease_ttl_s,
                dead_run_id=dead_run_id,
            )
        except DatabaseError as exc:
            if not exc.retryable:
                raise
            back_off.wait(longest_s=remaining_s)
            continue
        return taken or EndReason.LEASE_HELD
    return EndReason.STOP


@contextmanager
def _released(session: WriterSession, lease: Lease) -> Iterator[None]:
    try:
        yield
    finally:
        # It expires by itself; an error here must not hide the reason for the end.
        with suppress(DatabaseError):
            leases.release(session.connection(), lease)


def _reading_edges(settings: Settings, shard: int, stack: ExitStack) -> tuple[Consumer, Intake]:
    consumer = stack.enter_context(_consumer(settings, shard, "consumer"))
    # The consumer's Redis user may not create groups (delivery design, section 6).
    keeper = stack.enter_context(_consumer(settings, shard, "janitor"))
    limits = FrameLimits(
        max_event_bytes=settings.max_event_bytes,
        max_json_depth=settings.max_json_depth,
        max_json_keys=settings.max_json_keys,
        future_tolerance_s=settings.future_tolerance_s,
    )

    def decode(entries: Sequence[StreamEntry]) -> FrameResult:
        return to_frame(entries, stream=consumer.stream, now=datetime.now(UTC), limits=limits)

    intake = Intake(
        consumer,
        ensure_group=keeper.ensure_group,
        decode=decode,
        new_batch_id=new_batch_id,
        limits=FlushLimits(
            rows=settings.drain_batch_rows,
            bytes_=settings.drain_batch_bytes,
            age_s=settings.drain_interval_ms / 1000,
        ),
        quiet_block_ms=_quiet_block_ms(settings),
        clock=time.monotonic,
    )
    return consumer, intake


def _shard_status(
    settings: Settings, consumer: Consumer, obey: Callable[[int], None], stack: ExitStack
) -> ShardStatus:
    # The consumer's Redis user has no INFO.
    inspector = stack.enter_context(
        Inspector(settings.redis_url_of("janitor"), key_prefix=settings.key_prefix)
    )

    def memory() -> MemoryUse:
        try:
            return inspector.memory()
        except QueueError as exc:
            if exc.retryable:
                raise
            # A server that does not show its memory: the level follows from the age alone.
            return MemoryUse(used_bytes=0, limit_bytes=0)

    gauge = LoadGauge(oldest_ms=consumer.oldest_ms, memory=memory, clock_ms=_now_ms)
    return ShardStatus(consumer, gauge, obey=obey, clock_ms=_now_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _consumer(settings: Settings, shard: int, user: Literal["consumer", "janitor"]) -> Consumer:
    return Consumer(settings.redis_url_of(user), key_prefix=settings.key_prefix, shard=shard)


def _quiet_block_ms(settings: Settings) -> int:
    """Half a second at most, and short enough that an idle run ends about when it should."""
    return max(1, int(min(LONGEST_BLOCK_S, settings.drain_idle_s / 2) * 1000))
