"""Searches in files on a disk: what is opened, what is found, what is read once only."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_platform.archive.manifest import manifest_path
from audit_platform.archive.store import ArchiveStore, open_store
from audit_platform.errors import ArchiveDamaged, ArchiveMissing
from audit_platform.search.border import ArchivedPartition, Span
from audit_platform.search.cold import Archive
from audit_platform.search.hot import ArchiveUse
from audit_platform.search.query import EventQuery, Position
from tests.archiving import DAY, stored_row, write_partition

SPAN = Span(name="event_20260305", lo=DAY, hi=DAY + timedelta(days=1), generation=1)
LAST = SPAN.hi - timedelta(microseconds=1)
TENANTS = ("acme", "globex", "Ünï")


def _rows(count: int = 120) -> list[dict[str, Any]]:
    """Rows of three tenants over a day, newest last; some share a microsecond."""
    return [
        stored_row(
            DAY + timedelta(minutes=10 * (number // 2)),
            tenant_id=TENANTS[number % 3],
            entity_id=str(number % 11),
            user_id=f"u{number % 7}",
            action=f"order.{'create' if number % 2 else 'delete'}",
            description=f"Ärger {number}",
            metadata=f'{{"n":{number}}}',
            sampled_rate=0.1,
        )
        for number in range(count)
    ]


@pytest.fixture
def store(tmp_path: Path) -> ArchiveStore:
    return open_store((tmp_path / "first").as_uri())


@pytest.fixture
def copy_store(tmp_path: Path) -> ArchiveStore:
    return open_store((tmp_path / "second").as_uri())


def _search(
    archive: Archive, partition: ArchivedPartition, query: EventQuery, *, wanted: int = 1_000
) -> tuple[list[dict[str, Any]], ArchiveUse]:
    rows, use = archive.search(partition, query, since=SPAN.lo, until=LAST, wanted=wanted)
    return [dict(row) for row in rows], use


def _newest_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=_key, reverse=True)


def _key(row: dict[str, Any]) -> tuple[datetime, bytes, bytes]:
    return row["timestamp"], row["tenant_id"].encode(), row["id"].bytes


def _after(row: dict[str, Any]) -> Position:
    return Position(timestamp=row["timestamp"], tenant_id=row["tenant_id"], event_id=str(row["id"]))


def test_rows_come_back_as_they_were_stored_newest_first(store: ArchiveStore) -> None:
    rows = _rows()
    partition = write_partition(store, rows, SPAN)

    found, use = _search(Archive([store.url]), partition, EventQuery())

    assert found == _newest_first(rows)
    assert (use.opened, use.groups_read, use.groups_skipped) == (1, 12, 0)


def test_row_groups_of_other_tenants_are_not_read(store: ArchiveStore) -> None:
    rows = _rows()
    partition = write_partition(store, rows, SPAN)

    found, use = _search(Archive([store.url]), partition, EventQuery(tenant_id="acme"))

    assert found == _newest_first([row for row in rows if row["tenant_id"] == "acme"])
    assert use.groups_read <= 5
    assert use.groups_skipped == 12 - use.groups_read


def test_page_ends_the_reading_of_a_tenant(store: ArchiveStore) -> None:
    partition = write_partition(store, _rows(), SPAN)

    _, use = _search(Archive([store.url]), partition, EventQuery(tenant_id="acme"), wanted=3)

    assert use.groups_read <= 2


def test_file_without_the_entity_or_user_is_not_opened(store: ArchiveStore) -> None:
    partition = write_partition(store, _rows(), SPAN)
    archive = Archive([store.url])
    absent = [
        EventQuery(tenant_id="acme", entity_type="order", entity_id="99"),
        EventQuery(tenant_id="acme", entity_type="invoice"),
        EventQuery(tenant_id="acme", user_id="nobody"),
        EventQuery(tenant_id="nobody", entity_type="order", entity_id="1"),
    ]

    uses = [_search(archive, partition, query)[1] for query in absent]
    found, use = _search(
        archive, partition, EventQuery(tenant_id="acme", entity_type="order", entity_id="3")
    )

    assert uses == [ArchiveUse(skipped=1)] * len(absent)
    assert use.opened == 1
    assert {row["entity_id"] for row in found} == {"3"}


def test_filters_are_read_once_for_many_searches(store: ArchiveStore, tmp_path: Path) -> None:
    partition = write_partition(store, _rows(), SPAN)
    archive = Archive([store.url])
    query = EventQuery(tenant_id="acme", user_id="nobody")
    _search(archive, partition, query)

    (tmp_path / "first" / manifest_path(SPAN.lo, SPAN.hi, 1)).unlink()
    _, use = _search(archive, partition, query)

    assert use == ArchiveUse(skipped=1)


@pytest.mark.parametrize("content", [None, b"{", b'{"format_version": 1}'])
def test_bad_manifest_rules_nothing_out(
    store: ArchiveStore, tmp_path: Path, content: bytes | None
) -> None:
    partition = write_partition(store, _rows(), SPAN)
    manifest = tmp_path / "first" / manifest_path(SPAN.lo, SPAN.hi, 1)
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content)

    found, use = _search(
        Archive([store.url]), partition, EventQuery(tenant_id="acme", user_id="u3")
    )

    assert use.opened == 1
    assert found


def test_file_of_another_tenant_or_time_is_not_opened(store: ArchiveStore) -> None:
    partition = write_partition(
        store, _rows(), SPAN, file_tenant=lambda tenant, _: tenant if tenant == "acme" else None
    )
    archive = Archive([store.url])

    _, other = _search(archive, partition, EventQuery(tenant_id="globex"))
    _, own = _search(archive, partition, EventQuery(tenant_id="acme"))
    late = LAST - timedelta(minutes=1)
    rows, later = archive.search(partition, EventQuery(), since=late, until=LAST, wanted=5)

    assert (other.opened, other.skipped) == (1, 1)
    # Rows of acme lie in its own file, or were there before it had a rule.
    assert (own.opened, own.groups_read) == (2, 4)
    assert (list(rows), later.opened, later.skipped) == ([], 0, 2)


def test_expired_file_is_left_alone_from_the_beginning_of_its_deletion(
    store: ArchiveStore,
) -> None:
    rows = _rows()
    partition = write_partition(
        store, rows, SPAN, class_of=lambda _, action: action.replace(".", "_")
    )
    expiring, kept = partition.files
    gone = replace(expiring, expiring_at=SPAN.hi)
    partition = replace(partition, files=(gone, kept))

    found, use = _search(Archive([store.url]), partition, EventQuery())

    assert (use.opened, use.skipped, use.expired) == (1, 0, 1)
    assert found == _newest_first([row for row in rows if row["action"] == "order.delete"])


def _spoil(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "page":
        data[len(data) // 3] ^= 1
        path.write_bytes(data)
    elif how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["missing", "truncated", "page", "empty"])
def test_second_copy_answers_for_a_bad_first_one(
    store: ArchiveStore, copy_store: ArchiveStore, tmp_path: Path, how: str
) -> None:
    rows = _rows()
    partition = write_partition(store, rows, SPAN, copy_store=copy_store)
    _spoil(tmp_path / "first" / partition.files[0].path, how)

    found, _ = _search(Archive([store.url, copy_store.url]), partition, EventQuery())

    assert found == _newest_first(rows)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("missing", ArchiveMissing),
        ("truncated", ArchiveDamaged),
        ("page", ArchiveDamaged),
        ("empty", ArchiveDamaged),
    ],
)
def test_bad_file_without_a_good_copy_is_an_error_that_names_it(
    store: ArchiveStore, copy_store: ArchiveStore, tmp_path: Path, how: str, error: type[Exception]
) -> None:
    partition = write_partition(store, _rows(), SPAN, copy_store=copy_store)
    for place in ("first", "second"):
        _spoil(tmp_path / place / partition.files[0].path, how)

    with pytest.raises(error, match=r"standard\.all\.g1\.0000\.parquet"):
        _search(Archive([store.url, copy_store.url]), partition, EventQuery())


def test_another_file_under_the_name_is_found_out(store: ArchiveStore) -> None:
    partition = write_partition(store, _rows(120), SPAN)
    write_partition(store, _rows(110), SPAN)

    with pytest.raises(ArchiveDamaged, match="110 rows"):
        _search(Archive([store.url]), partition, EventQuery())


def test_pages_after_the_second_read_nothing_again(store: ArchiveStore) -> None:
    rows = _newest_first(_rows())
    partition = write_partition(store, rows, SPAN)
    archive = Archive([store.url])
    query, found, uses = EventQuery(), list[dict[str, Any]](), list[ArchiveUse]()

    while len(found) < len(rows):
        page, use = _search(archive, partition, query, wanted=7)
        found += page
        uses.append(use)
        query = replace(query, after=_after(page[-1]))

    assert found == rows
    assert [use.opened for use in uses] == [1, 1] + [0] * (len(uses) - 2)


def test_rows_read_ahead_are_not_those_of_another_query(store: ArchiveStore) -> None:
    rows = _newest_first(_rows())
    partition = write_partition(store, rows, SPAN)
    archive = Archive([store.url])
    for after in (None, _after(rows[6]), _after(rows[13])):
        _search(archive, partition, EventQuery(after=after), wanted=7)

    acme, _ = _search(archive, partition, EventQuery(tenant_id="acme"), wanted=7)
    again, _ = _search(archive, partition, EventQuery(), wanted=7)

    assert acme == [row for row in rows if row["tenant_id"] == "acme"][:7]
    assert again == rows[:7]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_walk_through_a_partition_gives_what_a_list_gives(
    store: ArchiveStore, data: st.DataObject
) -> None:
    """Any order of queries, ranges and positions against one archive and its rows read ahead."""
    rows = _newest_first(_ROWS)
    partition = _written(store)
    archive = Archive([store.url])
    for _ in range(data.draw(st.integers(1, 6))):
        tenant = data.draw(st.sampled_from([None, "acme", "Ünï"]))
        after = data.draw(st.sampled_from([None, *rows[::17]]))
        since = data.draw(st.sampled_from([SPAN.lo, rows[70]["timestamp"]]))
        until = data.draw(st.sampled_from([LAST, rows[20]["timestamp"]]))
        wanted = data.draw(st.sampled_from([1, 7, 200]))
        position = None if after is None else _after(after)
        query = EventQuery(tenant_id=tenant, after=position)

        found, _ = archive.search(partition, query, since=since, until=until, wanted=wanted)

        expected = [
            row
            for row in rows
            if tenant in {None, row["tenant_id"]}
            and since <= row["timestamp"] <= until
            and (after is None or _key(row) < _key(after))
        ]
        assert [row["id"] for row in found] == [row["id"] for row in expected[:wanted]]


_ROWS = random.Random(5).sample(_rows(), k=120)


def _written(store: ArchiveStore) -> ArchivedPartition:
    """The same files for all examples of a test."""
    return write_partition(store, sorted(_ROWS, key=_key), SPAN, rows_per_group=9)
