"""A process that takes the due steps of one partition at given moments, and may die on the way.

Run with `-m`; options as JSON on standard input, the reports as JSON on standard output. `crash`
arms a crash point; `file_bytes` limits the size of files this process may write (RLIMIT_FSIZE), as
a disk that is full in the middle of a file.
"""

import json
import resource
import signal
import sys
from datetime import datetime
from typing import Any

from audit_platform.crash_points import arm
from audit_platform.db.pool import connected
from audit_platform.errors import AuditPlatformError
from audit_platform.retention.advance import advance
from audit_platform.retention.partition_table import read_partition
from tests.integration.retention.lives import context_of


def main() -> None:
    """Take steps; exit status 0 also where one failed: the answer says which."""
    given: dict[str, Any] = json.loads(sys.stdin.read())
    arm(given["crash"])
    if given["file_bytes"] is not None:
        # The signal would end the process; without it the write fails, as on a full disk.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (given["file_bytes"], resource.RLIM_INFINITY))
    context = context_of(
        given["archive_url"],
        given["copy_url"],
        oldest_transaction_s=given["oldest_transaction_s"],
        patience_s=given["patience_s"],
    )
    steps: list[str] = []
    postponed: str | None = None
    error: str | None = None
    with connected(given["url"], application="lifecycle") as conn:
        for moment in given["moments"]:
            row = read_partition(conn, given["name"])
            assert row is not None
            try:
                reports = advance(
                    conn, row, context, now=datetime.fromisoformat(moment), until=None
                )
            except AuditPlatformError as exc:
                error = type(exc).__name__
                break
            steps += [one.step for one in reports]
            postponed = reports[-1].postponed_because if reports else None
    print(  # noqa: T201 - the wire to the test
        json.dumps({"steps": steps, "postponed": postponed, "error": error})
    )


if __name__ == "__main__":
    main()
