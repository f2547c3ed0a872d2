"""Rows into the platform: in bulk through the consumer transaction, a share through the queue.

Here: both ways, and waiting until ingest runs have stored the second. Not here: what the rows are
(`rows.py`), the application that logs through the SDK meanwhile (`../load.py`).
Guarantee: every batch has its ledger row, since the product's own transaction writes it.
"""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

from audit_platform.db.pool import connected
from audit_platform.events import lease as leases
from audit_platform.events.copy_rows import RowStore
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.ledger import BatchContext, new_batch_id
from audit_platform.events.ready_frame import make_ready
from audit_platform.events.stream import Appender, BatchEntry
from audit_platform.retention.lifecycle import ensure_partitions
from tests.acceptance.conftest import Stack
from tests.acceptance.dagster_api import eventually
from tests.acceptance.lifecycle.plan import DAY, Plan
from tests.acceptance.lifecycle.rows import (
    PART_ROWS,
    Part,
    fingerprints,
    frame_of_part,
    lines_between,
    templates,
)
from tests.integration.events.store import frame_of_lines

LOADER: Final = "e2e bulk"
"""Run id of the batches that no run of Dagster stored."""
FIRST_SHARD: Final = 200
"""The platform drains shard 0; these leases are nobody else's."""
WRITERS: Final = 2
SAMPLE_EVERY: Final = 997
MOST_TEMPLATES: Final = 20_000
STORED_S: Final = 180.0
_PER_ENTRY: Final = 500
_SETTLED: Final = (
    "select coalesce(sum(n_new + n_dup + n_late + n_bad), 0) from audit.ingest_batch"
    " where run_id is distinct from %s"
)
_LATE: Final = 'select count(*) from audit.event_late where "timestamp" < %s'


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Rows that the platform has accepted.

    Attributes:
        prints: As `fingerprints` gives them.
        sample: Some whole rows, to make searches of.
    """

    prints: pl.DataFrame
    sample: pl.DataFrame


def store_in_bulk(stack: Stack, plan: Plan) -> Stored:
    """Make the partitions and store `plan.rows` rows, the same number each day."""
    url = stack.settings.database_url_of("maint")
    with connected(url, application="tests") as maint:
        ensure_partitions(maint, [plan.partition(day) for day in range(plan.days)])
    parts = list(_parts(plan))
    made = templates(plan.seed, min(MOST_TEMPLATES, plan.rows))
    with ThreadPoolExecutor(WRITERS) as executor:
        stored = executor.map(
            lambda number: _store_parts(stack, plan, parts[number::WRITERS], made, writer=number),
            range(WRITERS),
        )
        found = [one for part in stored for one in part]
    with connected(stack.platform.plan.admin_url, application="tests") as admin:
        for day in range(plan.days):
            # As autovacuum would have done by then.
            admin.execute(f"analyze audit.{plan.partition(day).name}".encode())
    return together(found)


def together(parts: Sequence[Stored]) -> Stored:
    """All parts as one."""
    return Stored(
        prints=pl.concat([one.prints for one in parts]),
        sample=pl.concat([one.sample for one in parts]),
    )


def send(stack: Stack, plan: Plan, days: Sequence[int], count: int, *, seed: int) -> Stored:
    """Put events of some days into the queue, as a producer without the SDK does."""
    rng = random.Random(seed)
    url = stack.settings.redis_url.get_secret_value()
    share = count // len(days)
    found: list[Stored] = []
    with Appender(url, key_prefix=stack.settings.key_prefix, timeout_ms=60_000) as appender:
        for day in days:
            lines = lines_between(rng, share, plan.midnight(day), plan.midnight(day + 1))
            for start in range(0, share, _PER_ENTRY):
                appender.append_batch(_entry(lines[start : start + _PER_ENTRY]))
            rows = pl.concat(
                frame_of_lines(lines[start : start + _PER_ENTRY]).rows
                for start in range(0, share, _PER_ENTRY)
            )
            found.append(Stored(prints=fingerprints(rows, day=day), sample=rows.head(20)))
    return together(found)


def send_broken(stack: Stack, marker: str, count: int) -> None:
    """Put events into the queue that no table can take."""
    url = stack.settings.redis_url.get_secret_value()
    with Appender(url, key_prefix=stack.settings.key_prefix) as appender:
        for number in range(count):
            appender.append_event(0, f'{{"action":"{marker}","id":"{number}",'.encode())


def settled(stack: Stack) -> int:
    """Events of the queue that found their place so far."""
    ((count,),) = stack.ask(_SETTLED, LOADER)
    return int(count)


def await_settled(stack: Stack, count: int) -> None:
    """Wait until so many have."""
    eventually(
        lambda: settled(stack) >= count, within_s=STORED_S, what=f"{count:,} events of the queue"
    )


def await_late(stack: Stack, plan: Plan, count: int) -> None:
    """Wait until so many rows of the plan's days wait beside their partitions."""
    eventually(
        lambda: late_rows(stack, plan) >= count, within_s=STORED_S, what=f"{count:,} late rows"
    )


def late_rows(stack: Stack, plan: Plan) -> int:
    """Rows of the plan's days that wait beside their partitions."""
    ((count,),) = stack.ask(_LATE, plan.end)
    return int(count)


def _parts(plan: Plan) -> list[Part]:
    per_day = plan.rows // plan.days
    parts: list[Part] = []
    for day in range(plan.days):
        count = plan.rows - per_day * (plan.days - 1) if day == plan.days - 1 else per_day
        pieces = -(-count // PART_ROWS)
        for piece in range(pieces):
            first, end = count * piece // pieces, count * (piece + 1) // pieces
            parts.append(
                Part(
                    day=day,
                    first_no=day * per_day + first,
                    count=end - first,
                    since=plan.midnight(day) + DAY * first / count,
                    span=DAY * (end - first) / count - timedelta(microseconds=1),
                )
            )
    return parts


def _store_parts(
    stack: Stack, plan: Plan, parts: Sequence[Part], made: pl.DataFrame, *, writer: int
) -> list[Stored]:
    settings, shard = stack.settings, FIRST_SHARD + writer
    vault, found = DeadLetterVault.of_settings(settings), list[Stored]()
    with connected(settings.database_url_of("writer"), application=LOADER) as connection:
        store = RowStore(lambda: connection, vault)
        lease = leases.take(connection, shard=shard, run_id=LOADER, ttl_s=3_600, dead_run_id=LOADER)
        assert lease is not None
        for part in parts:
            frame = frame_of_part(part, made, seed=plan.seed)
            context = BatchContext(
                batch_id=new_batch_id(), shard=shard, run_id=LOADER, fence=lease.fence
            )
            counts = store.store(make_ready(frame, batch_id=context.batch_id), context)
            assert counts.n_new == part.count, counts
            found.append(
                Stored(
                    prints=fingerprints(frame.rows, day=part.day),
                    sample=frame.rows.gather_every(SAMPLE_EVERY, offset=part.first_no % 31),
                )
            )
        leases.release(connection, lease)
    return found


def _entry(lines: Sequence[bytes]) -> BatchEntry:
    return BatchEntry(
        shard=0,
        ndjson=b"\n".join(lines),
        count=len(lines),
        received_ms=int(datetime.now(UTC).timestamp() * 1_000),
    )
