"""Processes that take the steps of one day's life, and what must hold whenever one of them died.

Here: starting `lifecycle_process.py`, killing it at a point, what a reader and both copies show.
Not here: which faults there are (`test_lifecycle_kills.py`).
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from signal import SIGKILL
from threading import Event
from typing import Any, Final

from audit_platform.archive.store import open_store
from audit_platform.db.pool import connected
from audit_platform.retention.partition_table import PartitionRow
from tests.conftest import Database
from tests.integration.retention.companion import ROOT
from tests.integration.retention.lives import (
    Life,
    cold_ids,
    count_hot,
    leftovers,
    reading,
    visible_ids,
)

END_S: Final = 120.0


def start(
    database: Database,
    life: Life,
    *,
    crash: str | None = None,
    moments: Sequence[datetime] | None = None,
    file_bytes: int | None = None,
    patience_s: float = 60,
) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.harness.lifecycle_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    options = {
        "url": database.maint_url,
        "name": life.name,
        "archive_url": life.archive.as_uri(),
        "copy_url": life.copy.as_uri(),
        "moments": [moment.isoformat() for moment in moments or life.moments],
        "crash": crash,
        "file_bytes": file_bytes,
        "oldest_transaction_s": 600,
        "patience_s": patience_s,
    }
    assert process.stdin is not None
    process.stdin.write(json.dumps(options))
    process.stdin.close()
    process.stdin = None
    return process


def run(database: Database, life: Life, **options: Any) -> dict[str, Any]:
    """Run a process to its end; what it said."""
    process = start(database, life, **options)
    output, errors = process.communicate(timeout=END_S)
    assert process.returncode == 0, errors
    # Retries are logged before it.
    return json.loads(output.splitlines()[-1])


def kill_at(database: Database, life: Life, point: str, **options: Any) -> None:
    """Run a process that kills itself at a point; its exit status is the proof."""
    process = start(database, life, crash=point, **options)
    _, errors = process.communicate(timeout=END_S)
    assert process.returncode == -SIGKILL, errors


def seen_once(database: Database, life: Life) -> None:
    """No row is lost, none is visible twice."""
    assert visible_ids(database, life) == list(life.ids)


@contextmanager
def blocked_detach(database: Database, life: Life) -> Iterator[None]:
    """A reader that keeps every detach between its two transactions."""
    with reading(database) as reader:
        assert count_hot(reader, life) == len(life.ids)
        yield
        assert count_hot(reader, life) == len(life.ids), "nothing vanished for it"


def in_both_copies(life: Life, row: PartitionRow) -> None:
    """Both copies hold every row once, and nothing besides the files of the record."""
    paths = [entry.path for entry in row.files]
    for place in (life.archive, life.copy):
        store = open_store(place.as_uri())
        assert sorted(cold_ids(store, paths)) == list(life.ids)
        data = [path for path in store.list("cold") if path.endswith(".parquet")]
        assert sorted(data) == sorted(paths)
    assert leftovers(life) == []


def met(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> bool:
    """Whether a condition came true while a process lived; it may take long to begin."""
    deadline = time.monotonic() + END_S
    pause = Event()
    while process.poll() is None and time.monotonic() < deadline:
        if condition():
            return True
        pause.wait(0.01)
    return False


def is_anybody_working(database: Database) -> bool:
    with connected(database.admin_url, application="test look") as conn:
        row = conn.execute(
            """select exists (select from pg_stat_activity where datname = current_database()
               and application_name like '%lifecycle')"""
        ).fetchone()
    return row == (True,)
