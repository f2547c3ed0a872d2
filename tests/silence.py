"""Lets the owner of every lease look silent for a while: tests of kills without killing."""

import time
from threading import Event

from audit_platform.db.pool import connected
from audit_platform.events.lease import SILENT_S
from tests.conftest import Database

AGE = "update audit.drain_lease set updated_at = updated_at - make_interval(secs => %s)"
UP = "select extract(epoch from clock_timestamp() - pg_postmaster_start_time())"


def fall_silent(database: Database) -> None:
    """Age the last renewal; waits for a server that has only just started, as the queries do."""
    deadline, pause = time.monotonic() + 3 * SILENT_S, Event()
    with connected(database.admin_url, application="test") as admin:
        admin.execute(AGE.encode(), [SILENT_S + 1])
        while (row := admin.execute(UP.encode()).fetchone()) and row[0] <= SILENT_S:
            assert time.monotonic() < deadline
            pause.wait(0.2)
