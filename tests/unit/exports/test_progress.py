"""The checkpoint comes back as it was written, or not at all; pages stay of one size in memory."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.errors import UnreadableFile
from audit_platform.exports.manifest import read_manifest
from audit_platform.exports.progress import (
    FIRST_PAGE_ROWS,
    LEAST_PAGE_ROWS,
    MOST_PAGE_ROWS,
    PAGE_BYTES,
    Checkpoint,
    ExportedFile,
    memory_of,
    next_page_rows,
    share_done,
)
from audit_platform.search.query import EventQuery, Position
from tests.unit.exports.rows import row

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
FILE = ExportedFile(
    path="a/events.0000.csv",
    sha256="0" * 64,
    size_bytes=12,
    rows=3,
    newest="2026-11-22T11:00:00.000001Z",
    oldest=None,
)
CHECKPOINT = Checkpoint(
    digest="d" * 64,
    moment=NOW,
    since=NOW - timedelta(days=1),
    until=NOW,
    files=(FILE,),
    position=Position(timestamp=NOW, tenant_id="a\u202e\n", event_id="0" * 36),
    has_more=True,
)


@pytest.mark.parametrize(
    "checkpoint",
    [CHECKPOINT, Checkpoint(digest="d", moment=NOW, since=None, until=NOW, is_last=True)],
)
def test_checkpoint_comes_back_as_it_was_written(checkpoint: Checkpoint) -> None:
    assert Checkpoint.from_json(checkpoint.to_json()) == checkpoint


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"digest": ...},
        {"until": "no moment"},
        {"files": [{"path": "a"}]},
        {"position": {"timestamp": "x"}},
        {"files": 7},
    ],
)
def test_damaged_checkpoint_is_refused(change: dict[str, Any]) -> None:
    record: dict[str, Any] = json.loads(CHECKPOINT.to_json()) | change
    record = {name: value for name, value in record.items() if value is not ...}

    with pytest.raises(UnreadableFile):
        Checkpoint.from_json(json.dumps(record).encode())


@given(st.binary(max_size=40))
def test_any_bytes_are_a_checkpoint_or_refused(content: bytes) -> None:
    with pytest.raises(UnreadableFile):
        Checkpoint.from_json(content)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_manifest_or_refused(content: bytes) -> None:
    with pytest.raises(UnreadableFile):
        read_manifest(content, path="a/manifest.json", sha256="")


def test_resumed_query_starts_after_the_last_file_with_the_moments_of_the_first_attempt() -> None:
    asked = EventQuery(since=NOW, tenant_id="acme")

    resumed = CHECKPOINT.resumed(asked)

    assert resumed.after == CHECKPOINT.position
    assert (resumed.since, resumed.until) == (CHECKPOINT.since, CHECKPOINT.until)
    assert resumed.tenant_id == "acme"


@given(st.integers(1, 10_000), st.integers(1, 70_000))
def test_page_asks_for_what_fits_into_memory(rows: int, each: int) -> None:
    wanted = next_page_rows(rows, rows * each)

    assert LEAST_PAGE_ROWS <= wanted <= MOST_PAGE_ROWS
    assert wanted == LEAST_PAGE_ROWS or wanted * each <= PAGE_BYTES


def test_first_page_is_small_because_nothing_is_known() -> None:
    assert next_page_rows(0, 0) == FIRST_PAGE_ROWS


def test_memory_of_an_event_follows_its_texts() -> None:
    assert memory_of(row(metadata="x" * 50_000)) - memory_of(row(metadata="")) == 50_000


def test_share_is_known_where_the_period_has_a_beginning() -> None:
    query = EventQuery(since=NOW - timedelta(hours=10), until=NOW)

    assert share_done(query, NOW - timedelta(hours=4)) == pytest.approx(0.4)
    assert share_done(query, NOW - timedelta(hours=11)) == 1.0
    assert share_done(query, None) is None
    assert share_done(EventQuery(until=NOW), NOW) is None
