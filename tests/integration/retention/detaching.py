"""A verified day, and detaches of it that are under way or stuck.

Here: what the tests of detach and of the border share.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from audit_platform.db.pool import Connection, connected
from audit_platform.retention.detach import Attachment, DetachResult, detach, read_attachment
from audit_platform.retention.partition_states import State, Step
from tests.conftest import Database
from tests.integration.retention.lives import (
    LONG_AGO,
    Life,
    begin_life,
    live,
    reading,
    row_of,
)

ROWS = 300
NEXT_DAY = LONG_AGO + timedelta(days=1)


def verified(database: Database, maint: Connection, place: Path, **options: Any) -> Life:
    made = begin_life(database, place, rows=ROWS, **options)
    live(maint, made, now=made.sealing, until=Step.VERIFY)
    assert row_of(maint, made).state is State.VERIFIED
    return made


def detach_beside(database: Database, life: Life, **options: float) -> "Future[DetachResult]":
    """Detach in a thread and a session of its own."""
    future: Future[DetachResult] = Future()

    def run() -> None:
        try:
            with connected(database.maint_url, application="detach beside") as conn:
                future.set_result(detach(conn, life.name, now=life.detaching, **options))
        except BaseException as exc:  # noqa: BLE001 - raised by future.result()
            future.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    return future


@contextmanager
def half_detached(database: Database, conn: Connection, life: Life) -> Iterator[Any]:
    """A detach that a reader stopped between its two transactions; yields that reader."""
    with reading(database) as reader:
        # Its snapshot is older than the detach; it has not touched the partition itself.
        reader.execute("select state from audit.partition where name = %s", [life.name])
        result = detach(conn, life.name, now=life.detaching, patience_s=0.1)
        assert result.state is State.DETACH_STARTED
        assert result.postponed_because
        assert read_attachment(conn, life.name) is Attachment.PENDING
        yield reader


def is_waiting_for(admin: Connection, table: str) -> bool:
    row = admin.execute(
        """select exists (select from pg_locks
           where relation = %s::regclass and not granted)""",
        [table],
    ).fetchone()
    return row == (True,)
