"""The interval of partitions changes while rows are there: no gap, no overlap, none refused."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise, permutations

import pytest

from audit_platform.db.pool import Connection, connected
from audit_platform.retention.lifecycle import (
    ensure_ahead,
    ensure_partitions,
    read_partitions,
    read_runway,
)
from audit_platform.retention.partition import DAY, HOUR, PartitionInterval, bounds_for, interval_of
from tests.conftest import Database
from tests.integration.retention.creation import DEADLINE_S, FAR, insert
from tests.integration.retention.sealing import put, record_of, seal_day

pytestmark = pytest.mark.integration

NOW = FAR + timedelta(days=9, hours=13)
INTERVALS = tuple(PartitionInterval)


@pytest.mark.parametrize(("before", "after"), list(permutations(INTERVALS, 2)))
def test_change_of_the_interval_leaves_no_moment_without_a_partition(
    database: Database, maint: Connection, *, before: PartitionInterval, after: PartitionInterval
) -> None:
    ensure_ahead(maint, now=NOW, ahead=3, interval=before)

    report = ensure_ahead(maint, now=NOW + HOUR, ahead=3, interval=after)

    known = [one.bounds for one in read_partitions(maint) if one.bounds.lo.year >= FAR.year]
    assert all(one.hi == other.lo for one, other in pairwise(known))
    assert report.latest_hi is not None
    assert report.latest_hi >= bounds_for(NOW, after).hi
    with connected(database.writer_url, application="test") as writer:
        moment = known[0].lo
        while moment < known[-1].hi:
            insert(writer, moment)
            moment += timedelta(hours=7)
    assert ensure_ahead(maint, now=NOW + HOUR, ahead=3, interval=after).created == ()


def test_partitions_of_both_intervals_are_sealed_with_their_own_rows(
    maint: Connection, admin: Connection
) -> None:
    ensure_partitions(maint, [bounds_for(FAR, "hour")])
    ensure_partitions(maint, [bounds_for(FAR, "week"), bounds_for(FAR + DAY, "hour")])
    mine = [
        one.bounds for one in read_partitions(maint) if one.bounds.overlaps(bounds_for(FAR, "week"))
    ]
    for bounds in mine:
        put(admin, bounds.lo)
        put(admin, bounds.hi - timedelta(microseconds=1))

    for bounds in mine:
        assert seal_day(maint, bounds=bounds).n == 2, bounds.name
    assert [interval_of(bounds) for bounds in mine].count(PartitionInterval.HOUR) == 24
    assert len(mine) == 24 + 6
    assert all(record_of(maint, bounds).root for bounds in mine)


def test_two_processes_with_different_intervals_create_disjoint_partitions(
    database: Database, maint: Connection
) -> None:
    """While a setting is rolled out, one process still has the old one: neither may fail."""
    start = threading.Barrier(len(INTERVALS))

    def create(interval: PartitionInterval) -> None:
        with connected(database.maint_url, application="creator") as conn:
            start.wait(DEADLINE_S)
            ensure_ahead(conn, now=NOW, ahead=3, interval=interval)

    with ThreadPoolExecutor(len(INTERVALS)) as threads:
        for running in [threads.submit(create, interval) for interval in INTERVALS]:
            running.result(DEADLINE_S)

    known = [one for one in read_partitions(maint) if one.bounds.lo.year >= FAR.year]
    assert all(one.bounds.hi <= other.bounds.lo for one, other in pairwise(known))
    assert all(one.takes_rows for one in known)
    assert read_runway(maint, now=NOW).latest_hi == latest(NOW)


def latest(now: datetime) -> datetime:
    """End of the fourth month, which the coarsest process wants."""
    return bounds_for(now + timedelta(days=92), "month").hi
