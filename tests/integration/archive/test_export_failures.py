"""Exports that fail or are killed: nothing half done, and a repeat ends well."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_platform.archive.local_store import LocalStore
from audit_platform.archive.store import ArchiveSink, ArchiveStore, open_store
from audit_platform.db.pool import Connection, connected
from audit_platform.errors import (
    ArchiveFull,
    ArchiveMismatch,
    ArchiveReadOnly,
    DatabaseUnavailable,
)
from tests.chaos.harness.small_disk import MEBIBYTE, small_disk
from tests.conftest import Database
from tests.integration.archive.exporting import export, files_below
from tests.integration.archive.rows import many_rows, put_rows, row_at
from tests.integration.retention.sealing import DAY, record_of, seal_day

pytestmark = pytest.mark.integration

LARGE, LARGE_ROWS = 20_000, 2_000

# Exports the day of the tests, and kills itself at a named point.
KILLED = """
import sys
from audit_platform import crash_points
from audit_platform.archive.store import open_store
from audit_platform.db.pool import connected
from tests.integration.archive.exporting import export

crash_points.arm(sys.argv[1])
with connected(sys.argv[2], application="killed export") as conn:
    export(conn, open_store(sys.argv[3]), open_store(sys.argv[4]), file_bytes=1)
print("not killed")
"""


@pytest.mark.parametrize("point", ["S_TMP_WRITTEN", "S_RENAMED", "S_SECOND_COPY"])
def test_killed_export_is_finished_by_a_repeat(
    database: Database,
    maint: Connection,
    admin: "psycopg.Connection[Any]",
    tmp_path: Path,
    point: str,
) -> None:
    put_rows(admin, many_rows(300))
    seal_day(maint)
    places = [(tmp_path / name).as_uri() for name in ("first", "second")]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, point, database.maint_url, *places],
        check=False,
        cwd=Path(__file__).parents[3],
        timeout=100,
    )

    first, second = (open_store(place) for place in places)
    report = export(maint, first, second, file_bytes=1)

    assert killed.returncode == -signal.SIGKILL
    paths = sorted([report.manifest_path, *(entry.path for entry in report.files)])
    assert len(paths) == 4
    for store in (first, second):
        assert list(store.list("cold")) == paths
        assert [store.sha256(entry.path) for entry in report.files] == [
            entry.sha256 for entry in report.files
        ]
    names = sorted(path.rpartition("/")[2] for path in [*paths, *paths])
    assert files_below(tmp_path) == names


class EndingSessions(LocalStore):
    """An archive in which the sessions of the export end when the first file is begun."""

    def __init__(self, directory: Path, database: Database, application: str) -> None:
        super().__init__(directory)
        self._database, self._application = database, application
        self.ended = 0

    @contextmanager
    def write(self, path: str) -> Iterator[ArchiveSink]:
        with psycopg.connect(self._database.admin_url) as admin:
            self.ended += admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where pid <>"
                " pg_backend_pid() and datname = current_database() and application_name like %s",
                [f"%{self._application}"],
            ).rowcount
        with super().write(path) as sink:
            yield sink


def test_export_whose_connections_break_leaves_nothing_and_a_repeat_succeeds(
    database: Database,
    maint: Connection,
    admin: "psycopg.Connection[Any]",
    tmp_path: Path,
) -> None:
    # More than the two batches that are read ahead.
    large = json.dumps({"text": "x" * LARGE})
    step = (DAY.hi - DAY.lo) / LARGE_ROWS
    put_rows(
        admin,
        [row_at(DAY.lo + step * number, number, metadata=large) for number in range(LARGE_ROWS)],
    )
    seal_day(maint)
    place = tmp_path / "archive"
    with connected(database.maint_url, application="broken export") as conn:
        breaking = EndingSessions(place, database, "broken export")
        with pytest.raises(DatabaseUnavailable):
            export(conn, breaking)
    assert breaking.ended > 0
    assert files_below(tmp_path) == []
    assert record_of(maint).state == "sealed"

    report = export(maint, open_store(place.as_uri()))

    assert report.rows == LARGE_ROWS


@pytest.mark.parametrize(
    "change",
    [
        "delete from audit.{table} where id = (select min(id::text)::uuid from audit.{table})",
        "delete from audit.{table} where tenant_id = 'zeta'",
        "truncate audit.{table}",
    ],
)
def test_rows_that_are_not_those_of_the_seal_are_not_archived(
    maint: Connection,
    admin: "psycopg.Connection[Any]",
    store: ArchiveStore,
    tmp_path: Path,
    change: str,
) -> None:
    put_rows(admin, many_rows(100))
    seal_day(maint)
    admin.execute("set session_replication_role = replica")
    if change.startswith("truncate"):
        admin.execute(f"alter table audit.{DAY.name} disable trigger all".encode())
    admin.execute(change.format(table=DAY.name).encode())

    with pytest.raises(ArchiveMismatch, match=r"rows, its seal says 100"):
        export(maint, store)

    assert not files_below(tmp_path)


def test_groups_that_do_not_give_the_root_are_refused(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore, tmp_path: Path
) -> None:
    put_rows(admin, many_rows(100))
    seal_day(maint)
    admin.execute("update audit.partition_group set n = n - 1 where tenant_id = 'zeta'")

    with pytest.raises(ArchiveMismatch, match="groups"):
        export(maint, store)

    assert not files_below(tmp_path)


def test_partition_without_a_root_is_refused(maint: Connection, store: ArchiveStore) -> None:
    with pytest.raises(ArchiveMismatch, match="no root"):
        export(maint, store)


@pytest.mark.parametrize("is_copy", [False, True])
def test_full_disk_leaves_nothing_and_a_repeat_succeeds(
    maint: Connection,
    admin: "psycopg.Connection[Any]",
    tmp_path: Path,
    *,
    is_copy: bool,
) -> None:
    put_rows(admin, many_rows(400))
    seal_day(maint)
    with small_disk(tmp_path / "disk", MEBIBYTE) as disk:
        stores = [
            open_store((tmp_path / "roomy").as_uri()),
            open_store((disk.path / "archive").as_uri()),
        ]
        first, second = stores if is_copy else stores[::-1]
        disk.fill(leave_bytes=20_000)

        with pytest.raises(ArchiveFull, match="Free space"):
            export(maint, first, second, rows_per_group=50)
        left = files_below(tmp_path)
        disk.free()
        report = export(maint, first, second, rows_per_group=50)

        assert left == ["ballast"]
        assert report.rows == 400
        assert list(first.list("cold")) == list(second.list("cold"))


def test_read_only_archive_is_refused_and_nothing_changes(
    maint: Connection, admin: "psycopg.Connection[Any]", tmp_path: Path
) -> None:
    put_rows(admin, many_rows(100))
    seal_day(maint)
    with small_disk(tmp_path / "disk", MEBIBYTE) as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)

        with pytest.raises(ArchiveReadOnly, match="writable"):
            export(maint, open_store((disk.path / "archive").as_uri()))

    assert record_of(maint).state == "sealed"
