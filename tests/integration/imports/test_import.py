"""Imports of files through queue and drain into PostgreSQL: counts, repeats, kills, refusals."""

import gzip
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import psycopg
import pytest

from audit_platform.cli.import_session import ImportSession, import_session
from audit_platform.errors import UnreadableFile
from audit_platform.events.stream import Consumer
from audit_platform.imports.edges import ImportOptions
from audit_platform.imports.report import FileOutcome, FileReport
from audit_platform.settings import Settings
from tests.conftest import Database, RedisSpace
from tests.integration.imports.draining import draining
from tests.integration.imports.prepared import Heard, prepare, rows_of

pytestmark = pytest.mark.integration


def _import(
    settings: Settings,
    path: Path,
    heard: Heard | None = None,
    *,
    again: bool = False,
    wait: bool = True,
) -> FileReport:
    with import_session(settings) as session:
        moving = prepare(session, path, heard)
        return moving.run(ImportOptions(is_repeat=again, is_waiting=wait))


def _ndjson(path: Path, count: int, *, start: int = 0) -> Path:
    lines = [
        json.dumps(
            {"action": "a.b", "time": f"2025-03-{1 + n % 3:02d}T10:00:00Z", "id": f"x-{n}", "n": n}
        )
        for n in range(start, start + count)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_history_gets_its_partitions_and_every_event_is_stored(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    path = _ndjson(tmp_path / "history.ndjson", 2_500)

    with draining(settings):
        report = _import(settings, path)

    assert (report.outcome, report.records, report.sent) == (FileOutcome.STORED, 2_500, 2_500)
    assert (report.new, report.duplicates, report.late, report.dead) == (2_500, 0, 0, 0)
    assert len(rows_of(database)) == 2_500


def test_same_file_twice_adds_nothing_and_says_so(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    path = _ndjson(tmp_path / "once.ndjson", 10)
    copy = tmp_path / "copy.ndjson"
    copy.write_bytes(path.read_bytes())
    with draining(settings):
        _import(settings, path)
        second = _import(settings, copy)
        again = _import(settings, copy, again=True)

    assert second.outcome is FileOutcome.ALREADY_IMPORTED
    assert (again.new, again.duplicates) == (0, 10)
    assert len(rows_of(database)) == 10


def test_overlapping_files_store_each_event_once(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    first, second = _ndjson(tmp_path / "a.ndjson", 30), _ndjson(tmp_path / "b.ndjson", 30, start=20)

    with draining(settings):
        _import(settings, first)
        report = _import(settings, second)

    assert (report.new, report.duplicates) == (20, 10)
    assert len(rows_of(database)) == 50


def test_bad_rows_are_named_and_the_others_stored(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(
        b'{"action":"ok","time":"2025-03-01T00:00:00Z"}\n'
        b"not json\n"
        b'{"action":"x","time":"2025-03-01T00:00:00Z","a":1,"a":2}\n'
        b'\n{"time":"2025-03-01T00:00:00Z"}\n'
        b'{"action":"x","time":"2025-03-01T00:00:00"}\n'
        b'{"action":"x","time":"2025-03-01T00:00:00Z","t":"\\u0000"}\n'
        b'{"action":"ok","time":"2025-03-01T00:00:01Z"}\n'
    )
    heard = Heard()

    with draining(settings):
        report = _import(settings, path, heard)

    assert (report.records, report.rejected, report.new) == (7, 5, 2)
    assert [one.record.line for one in heard.rejections] == [2, 3, 5, 6, 7]
    assert [one.problem.field for one in heard.rejections] == ["record", "a", "action", "time", "t"]


def test_what_the_ingest_job_refuses_is_reported_as_dead(
    settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "future.ndjson"
    path.write_text('{"action":"x","time":"2199-03-01T00:00:00Z"}\n')

    with draining(settings):
        report = _import(settings, path)

    assert (report.sent, report.dead, report.new, report.duplicates) == (1, 1, 0, 0)


def test_csv_and_parquet_give_the_same_events(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    rows = pl.DataFrame(
        {
            "external_id": ["e-1", "e-2"],
            "createdAt": ["2025-03-01T10:00:00Z", "2025-03-01T11:00:00Z"],
            "actionType": ["user.login", "user.logout"],
            "adminId": ["7", None],
            "accountId": ["acme", "acme"],
            "colour": ["=red", "blå"],
        }
    )
    rows.write_csv(tmp_path / "a.csv")
    rows.write_parquet(tmp_path / "a.parquet")

    with draining(settings):
        from_csv = _import(settings, tmp_path / "a.csv")
        from_parquet = _import(settings, tmp_path / "a.parquet")

    assert (from_csv.new, from_parquet.new, from_parquet.duplicates) == (2, 0, 2)
    first, second = rows_of(database)
    assert (first["tenant_id"], first["actor_type"], first["user_id"]) == ("acme", "admin", "7")
    assert (second["actor_type"], second["user_id"]) == ("user", None)
    assert json.loads(second["metadata"]) == {"colour": "blå"}


def test_events_that_the_queue_lost_are_sent_again(
    settings: Settings, database: Database, redis_space: RedisSpace, tmp_path: Path
) -> None:
    path = _ndjson(tmp_path / "lost.ndjson", 1_500)
    _import(settings, path, wait=False)
    redis_space.cli("DEL", f"{redis_space.prefix}:{{0}}:events")

    with draining(settings):
        report = _import(settings, path)

    assert (report.new, report.duplicates) == (1_500, 0)
    assert len(rows_of(database)) == 1_500


_KILLED_HALFWAY = """
import os, signal, sys
from pathlib import Path
from audit_platform.cli.import_session import import_session
from audit_platform.settings import load_settings

def on_progress(progress):
    if progress.records > 2_000:
        os.kill(os.getpid(), signal.SIGKILL)

with import_session(load_settings()) as session:
    session.prepare(Path(sys.argv[1]), file_format=None, mapping=None,
        on_progress=on_progress, on_rejection=print).send(is_repeat=False)
"""


def test_killed_import_continues_with_its_epoch(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    path = _ndjson(tmp_path / "killed.ndjson", 5_000)
    urls = {
        f"AUDIT_{name.upper()}": getattr(settings, name).get_secret_value()
        for name in ("maint_url", "redis_url", "redis_sensor_url")
    }
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_HALFWAY, str(path)],
        env=os.environ | urls | {"AUDIT_KEY_PREFIX": settings.key_prefix},
        check=False,
    )
    with psycopg.connect(database.admin_url) as connection:
        state = connection.execute("select epoch, sent, state from audit.import_file").fetchone()

    with draining(settings):
        report = _import(settings, path)

    assert killed.returncode == -signal.SIGKILL
    assert state is not None
    assert 0 < state[1] < 5_000
    rows = rows_of(database)
    assert (report.new, report.duplicates, len(rows)) == (5_000, 0, 5_000)
    assert {row["producer_epoch"] for row in rows} == {state[0]}
    assert sorted(row["producer_seq"] for row in rows) == list(range(1, 5_001))


def test_two_processes_do_not_import_one_file_at_once(settings: Settings, tmp_path: Path) -> None:
    path = _ndjson(tmp_path / "busy.ndjson", 1)
    refused: list[str] = []

    def import_inside(_: object) -> None:
        with pytest.raises(UnreadableFile, match="another process") as caught:
            _import(settings, path, wait=False)
        refused.append(caught.value.message)

    with import_session(settings) as session:
        session.prepare(
            path, file_format=None, mapping=None, on_progress=import_inside, on_rejection=print
        ).send(is_repeat=False)

    assert refused


def test_queue_is_not_filled_beyond_its_bound(
    settings: Settings, redis_space: RedisSpace, tmp_path: Path
) -> None:
    """An import waits for the drain instead of filling the memory of Redis."""
    path = _ndjson(tmp_path / "many.ndjson", 9_000)
    lengths: list[int] = []
    with (
        Consumer(redis_space.url("consumer"), key_prefix=redis_space.prefix, shard=0) as consumer,
        import_session(settings) as session,
        draining(settings),
    ):
        narrow = ImportSession(edges=replace(session.edges, max_backlog_entries=3))
        report = narrow.prepare(
            path,
            file_format=None,
            mapping=None,
            on_progress=lambda _: lengths.append(consumer.length()),
            on_rejection=print,
        ).run(ImportOptions())

    assert max(lengths) <= 3
    assert report.new == 9_000


def test_cut_off_file_keeps_what_was_read_and_says_where_it_ends(
    settings: Settings, tmp_path: Path
) -> None:
    whole = _ndjson(tmp_path / "whole.ndjson", 3_000).read_bytes()
    path = tmp_path / "cut.ndjson.gz"
    path.write_bytes(gzip.compress(whole)[:-500])

    with pytest.raises(UnreadableFile, match=r"damaged after record [\d,]+"):
        _import(settings, path)
