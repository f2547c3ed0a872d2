"""R05, R06, F21: PostgreSQL with a full disk, a failing fsync, an older state: lost 0."""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGINT

import psycopg
import pytest

from audit_platform.client import Durability
from tests.chaos.harness.living_shard import living_shard
from tests.chaos.harness.producing import draining, gaps, numbers, producing
from tests.chaos.harness.services import Services, running_services
from tests.chaos.harness.small_disk import MEBIBYTE, SmallDisk, small_disk
from tests.chaos.harness.syscall_faults import injected
from tests.chaos.harness.traffic import Traffic, seconds_until, started
from tests.integration.events.shard import Shard

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    with running_services() as started_services:
        yield started_services


@pytest.fixture
def shard(services: Services) -> Iterator[Shard]:
    with living_shard(services) as made:
        yield made


def log_of(services: Services) -> str:
    """What PostgreSQL wrote into its log."""
    config = services.postgres.config
    return (config.data_dir / f"postgres-{config.version}.log").read_text(errors="replace")


@contextmanager
def moved_to_small_disk(
    services: Services, directory: Path, size_bytes: int
) -> Iterator[SmallDisk]:
    """Put a directory of the stopped server onto a disk of its own, and back at the end."""
    where = services.postgres.server.where
    with small_disk(services.directory / "small", size_bytes, uid=where.uid or 0) as disk:
        services.postgres.end(SIGINT)
        moved, kept = disk.path / directory.name, directory.with_name(f"{directory.name}.kept")
        shutil.copytree(directory, moved, symlinks=True)
        for path in (moved, *moved.rglob("*")):
            shutil.chown(path, where.uid or 0, where.gid or 0)
        directory.rename(kept)
        directory.symlink_to(moved)
        services.postgres.start()
        try:
            yield disk
        finally:
            disk.free()
            services.postgres.end(SIGINT)
            directory.unlink()
            shutil.rmtree(kept)
            shutil.copytree(moved, directory, symlinks=True)
            for path in (directory, *directory.rglob("*")):
                shutil.chown(path, where.uid or 0, where.gid or 0)
            directory.chmod(0o700)
            services.postgres.start()


def errors_counted(services: Services, pattern: str, *, before: str) -> int:
    """Lines of the server's log since then that match."""
    return len(re.findall(pattern, log_of(services)[len(before) :]))


def test_a_full_data_disk_is_waited_out(services: Services, shard: Shard) -> None:
    """R05: 53100 while the disk of the database is full; everything is stored afterwards."""
    cluster = services.postgres.server.where.cluster
    oid = shard.rows("select oid from pg_database where datname = current_database()")[0][0]
    traffic, before = Traffic(), log_of(services)
    with moved_to_small_disk(services, cluster / "base" / str(oid), 256 * MEBIBYTE) as disk:
        # A little room: without any, PostgreSQL lets nobody in, not even to look.
        disk.fill(leave_bytes=MEBIBYTE)
        with draining(shard):
            traffic.add(shard, batches=10, size=500)
            seconds_until(
                lambda: errors_counted(services, "No space left on device", before=before) > 0
            )
            assert shard.waiting()[0] > 0
            disk.free()
            seconds_until(lambda: len(shard.stored_ids()) == len(traffic.ids))

        seconds_until(lambda: shard.waiting() == (0, 0))
        traffic.check(shard)


def switch_wal(services: Services) -> None:
    """Ask for a new WAL segment, as writing on would in time; the server may die of it."""
    with (
        suppress(psycopg.Error),
        psycopg.connect(services.admin_url, autocommit=True, connect_timeout=5) as connection,
    ):
        connection.execute("create table if not exists public.wal_filler (n int)")
        connection.execute("insert into public.wal_filler values (1)")
        connection.execute("select pg_switch_wal()")


def start_unless_back(services: Services) -> None:
    """Start PostgreSQL if its postmaster gave up, as the supervisor would."""
    process = services.postgres.server.process
    assert process is not None
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=2)
        services.postgres.server.process = None
        services.postgres.start()


def test_a_full_wal_disk_ends_in_panic_and_nothing_is_lost(
    services: Services, shard: Shard
) -> None:
    """R05: PANIC when no WAL segment can be made."""
    cluster = services.postgres.server.where.cluster
    traffic, before = Traffic(), log_of(services)
    with moved_to_small_disk(services, cluster / "pg_wal", 256 * MEBIBYTE) as disk:
        with draining(shard):
            traffic.add(shard, batches=2)
            seconds_until(lambda: len(shard.stored_ids()) == len(traffic.ids))
            disk.fill()

            def is_panicked() -> bool:
                traffic.add(shard)
                switch_wal(services)
                return errors_counted(services, "PANIC:.*No space left", before=before) > 0

            seconds_until(is_panicked)
            disk.free()
            start_unless_back(services)
            seconds_until(lambda: len(shard.stored_ids()) == len(traffic.ids))
        seconds_until(lambda: shard.waiting() == (0, 0))
        traffic.check(shard)


def test_a_failing_fsync_ends_in_panic_and_nothing_is_lost(
    services: Services, shard: Shard, tmp_path: Path
) -> None:
    """R06: EIO for the checkpointer; PostgreSQL does not trust what it wrote and recovers."""
    traffic, before, stop = Traffic(), log_of(services), threading.Event()
    found = shard.rows("select pid from pg_stat_activity where backend_type = 'checkpointer'")
    checkpointer = int(found[0][0])
    with draining(shard):
        producing_thread = started(traffic.add_until, shard, stop)
        seconds_until(lambda: bool(shard.stored_ids()))
        calls, log = "fsync,fdatasync,sync_file_range", tmp_path / "strace.log"
        with injected(checkpointer, calls, "error=EIO", log=log) as injection:
            with suppress(psycopg.Error), psycopg.connect(services.admin_url) as connection:
                connection.autocommit = True
                connection.execute("checkpoint")
            seconds_until(
                lambda: errors_counted(services, "PANIC:.*Input/output error", before=before) > 0
            )
            assert injection.count > 0
        start_unless_back(services)
        stop.set()
        producing_thread.join()
        seconds_until(lambda: len(shard.stored_ids()) == len(traffic.ids))
    seconds_until(lambda: shard.waiting() == (0, 0))
    traffic.check(shard)


def copy_cluster(services: Services, kept: Path) -> None:
    """Keep the state of the stopped server."""
    shutil.copytree(services.postgres.server.where.cluster, kept, symlinks=True)


def put_back(services: Services, kept: Path) -> None:
    """Give the stopped server an older state."""
    where = services.postgres.server.where
    shutil.rmtree(where.cluster)
    shutil.copytree(kept, where.cluster, symlinks=True)
    for path in (where.cluster, *where.cluster.rglob("*")):
        if not path.is_symlink():
            shutil.chown(path, where.uid or os.geteuid(), where.gid or os.getegid())
    where.cluster.chmod(0o700)


@pytest.mark.parametrize("retain_s", [86_400, 0], ids=["retained", "control_without_the_tail"])
def test_an_older_state_of_the_database_gets_durable_events_again(
    services: Services, shard: Shard, tmp_path: Path, retain_s: int
) -> None:
    """F21: what was confirmed after the backup is gone; the day's tail on disk brings it back."""
    kept = services.directory / f"kept-{retain_s}"
    url = shard.settings.redis_url.get_secret_value()
    with producing(
        url,
        shard,
        tmp_path,
        Durability.DURABLE,
        spool_retain_s=retain_s,
        spool_dir=tmp_path / "spool",
    ) as producer:
        producer.log(30)
        with draining(shard):
            producer.check(shard)
        services.postgres.end(SIGINT)
        copy_cluster(services, kept)
        services.postgres.start()
        producer.log(30)
        with draining(shard):
            producer.check(shard)
            seconds_until(lambda: producer.client.stats().unconfirmed == 0)
            if not retain_s:
                seconds_until(lambda: producer.client.stats().spool_bytes == 0)
        services.postgres.end(SIGINT)
        put_back(services, kept)
        services.postgres.start()
        shutil.rmtree(kept)
        assert len(numbers(shard)) == 30

        with draining(shard):
            if retain_s:
                producer.check(shard)
                return
            # One more event tells the database how far the numbers go: the rest is a gap.
            producer.log(1)
            seconds_until(lambda: len(numbers(shard)) == 31)
            seconds_until(lambda: sum(last - first + 1 for first, last in gaps(shard)) == 30)
    assert len(producer.accepted - set(numbers(shard))) == 30
