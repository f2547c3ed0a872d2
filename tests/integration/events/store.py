"""A store with its own connection and lease, and frames to store."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg

from audit_platform.db.pool import Connection, connect
from audit_platform.events import lease as leases
from audit_platform.events.copy_rows import RowStore, TransactionLimits
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.frame import FrameResult, to_frame
from audit_platform.events.ledger import BatchContext, BatchCounts
from audit_platform.events.normalise import FrameLimits
from audit_platform.events.ready_frame import make_ready
from audit_platform.events.stream_entry import StreamEntry
from tests.conftest import KEY
from tests.factories import wire

LIMITS = FrameLimits(
    max_event_bytes=65_536, max_json_depth=32, max_json_keys=256, future_tolerance_s=300
)


class CountingCursor(psycopg.Cursor[Any]):
    """Counts COPY commands of its connection."""

    copies = 0

    def copy(self, *arguments: Any, **options: Any) -> Any:
        type(self).copies += 1
        return super().copy(*arguments, **options)


@dataclass(slots=True, kw_only=True)
class Writer:
    """A store with its own connection and lease."""

    store: RowStore
    connection: Connection
    fence: int
    cursor: type[CountingCursor]
    shard: int = 0

    def save(self, frame: FrameResult, *, batch_id: str | None = None) -> BatchCounts:
        context = BatchContext(
            batch_id=batch_id or str(uuid4()), shard=self.shard, run_id="run-1", fence=self.fence
        )
        return self.store.store(make_ready(frame, batch_id=context.batch_id), context)


def frame_of_lines(lines: Sequence[bytes], **fields: bytes) -> FrameResult:
    now = datetime.now(UTC)
    milliseconds = int(now.timestamp() * 1000)
    batch = {b"v": b"1", b"n": str(len(lines)).encode(), b"events": b"\n".join(lines)}
    batch[b"t"] = str(milliseconds).encode()
    batch |= {name.encode(): value for name, value in fields.items()}
    entry = StreamEntry(entry_id=f"{milliseconds}-0", fields=batch)
    return to_frame([entry], stream="audit:{0}:events", now=now, limits=LIMITS)


def frame_of(events: Sequence[dict[str, Any]], **fields: bytes) -> FrameResult:
    return frame_of_lines([wire(one) for one in events], **fields)


def open_writer(url: str, *, limits: TransactionLimits | None = None, shard: int = 0) -> Writer:
    """Connect as the writer, take the lease of the shard (from an earlier one), make a store."""
    connection = connect(url, application="store test")
    cursor = type("Counting", (CountingCursor,), {"copies": 0})
    connection.cursor_factory = cursor
    lease = leases.take(connection, shard=shard, run_id="run-1", ttl_s=30, dead_run_id=None)
    assert lease is not None
    return Writer(
        store=RowStore(lambda: connection, DeadLetterVault.of_base64(KEY), limits),
        connection=connection,
        fence=lease.fence,
        cursor=cursor,
        shard=shard,
    )
