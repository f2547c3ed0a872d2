"""Brings the partitions of a benchmark into the archive, as fast as two processes do.

Here: seal, export, the records, the detach. Left out: cold indexes, which no search of ours reads,
and verification, since the rows that `growth.py` fills have leaves that nobody computed. Searches
look at neither.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from audit_platform.archive.export import export_partition
from audit_platform.db.pool import Connection, connected
from audit_platform.retention.detach import detach
from audit_platform.retention.partition_table import (
    mark_exported,
    mark_indexed,
    mark_verified,
    read_groups,
    read_partition,
)
from audit_platform.retention.seal import seal
from benchmarks.archive_steps import FILE_BYTES, ROWS_PER_GROUP, RULES, context_of, maint_url
from benchmarks.stack import Stack

PROCESSES: Final = 2
_CHILD: Final = "from benchmarks.archived_days import archive_given; archive_given()"


def archive_days(stack: Stack, names: Sequence[str], url: str, *, now: datetime) -> None:
    """Archive and detach partitions.

    Args:
        stack: Its services.
        names: Partitions.
        url: Of the archive.
        now: Aware; so late that all of them are due.
    """
    children = [
        subprocess.Popen((sys.executable, "-c", _CHILD), stdin=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    for number, child in enumerate(children):
        given: dict[str, Any] = {
            "names": names[number::PROCESSES],
            "url": url,
            "maint_url": maint_url(stack),
            "now": now.isoformat(),
        }
        assert child.stdin is not None  # noqa: S101 - a pipe, as asked for
        child.stdin.write(json.dumps(given))
        child.stdin.close()
    codes = [child.wait() for child in children]
    if any(codes):
        raise RuntimeError("a day was not archived: the figures would mean nothing")
    # One after the other: a detach locks the parent against other detaches.
    with connected(maint_url(stack), application="benchmark") as conn:
        for name in names:
            result = detach(conn, name, now=now)
            if result.postponed_because is not None:
                raise RuntimeError(f"{name}: {result.postponed_because}")


def archive_given() -> None:
    """Archive what standard input names. Runs in the child."""
    given: dict[str, Any] = json.load(sys.stdin)
    with connected(given["maint_url"], application="benchmark") as conn:
        for name in given["names"]:
            _archive(conn, name, given["url"], datetime.fromisoformat(given["now"]))


def _archive(conn: Connection, name: str, url: str, now: datetime) -> None:
    context = context_of(url)
    seal(conn, name, rules=RULES, class_of=context.classes.class_of, now=now)
    row = read_partition(conn, name)
    assert row is not None  # noqa: S101 - it was sealed just now
    mark_indexed(conn, name, generation=row.generation, now=now)
    written = export_partition(
        conn,
        row,
        context.store,
        None,
        groups=read_groups(conn, name, row.generation),
        file_tenant=context.classes.file_tenant,
        rows_per_group=ROWS_PER_GROUP,
        file_bytes=FILE_BYTES,
        now=now,
    )
    mark_exported(
        conn,
        name,
        generation=row.generation,
        files=written.files,
        manifest_sha256=written.manifest_sha256,
        now=now,
    )
    mark_verified(
        conn,
        name,
        generation=row.generation,
        manifest_sha256=written.manifest_sha256,
        verified_by="nobody: a benchmark",
        now=now,
    )
