"""Restores in processes of their own that kill themselves at a point.

Here: what such a process does. Not here: starting it (`retention/deadly.py::killed`), what must
hold after it (`tests/chaos/test_restore_kills.py`).
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from audit_platform.archive.store import open_store
from audit_platform.crash_points import arm
from audit_platform.db.pool import Connection, connected
from audit_platform.retention.drill import drill_partition
from audit_platform.retention.partition_table import read_partition
from audit_platform.retention.removed_table import remove_restored
from audit_platform.retention.restore import restore_day


class Act(StrEnum):
    """What `audit-platform restore` is asked for."""

    BESIDE = "beside"
    ATTACH = "attach"
    REMOVE = "remove"
    DRILL = "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call of it; can be sent to another process."""

    act: Act
    maint_url: str
    archive_url: str
    partition: str
    now: datetime


def act(conn: Connection, asked: Asked) -> None:
    """Do what is asked, as the command and the job do."""
    store = open_store(asked.archive_url)
    if asked.act is Act.DRILL:
        report = drill_partition(conn, asked.partition, store, now=asked.now)
        assert report is not None
        assert report.mismatches == 0, report.detail
        return
    row = read_partition(conn, asked.partition)
    assert row is not None
    if asked.act is Act.REMOVE:
        remove_restored(conn, row, now=asked.now)
    else:
        restore_day(conn, row, store, attach=asked.act is Act.ATTACH, now=asked.now)


def act_and_die(asked: Asked, point: str) -> None:
    """Do the same, and die by SIGKILL at a point."""
    arm(point)
    with connected(asked.maint_url, application="doomed") as conn:
        act(conn, asked)
