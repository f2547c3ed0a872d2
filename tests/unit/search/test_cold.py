"""Searches in files on a disk: what is opened, what is found, what is read once only."""

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_platform.archive.manifest import manifest_path
from audit_platform.archive.store import ArchiveStore, open_store
from audit_platform.events.event import EventStatus
from audit_platform.search.border import ArchivedPartition
from audit_platform.search.cold import Archive
from audit_platform.search.hot import ArchiveUse
from audit_platform.search.query import EventQuery
from tests.archiving import write_partition
from tests.unit.search.archived_day import (
    LAST,
    SPAN,
    TENANTS,
    day_rows,
    key_of,
    newest_first,
    position_of,
    search_day,
)


@pytest.fixture
def store(tmp_path: Path) -> ArchiveStore:
    return open_store((tmp_path / "first").as_uri())


def test_rows_come_back_as_they_were_stored_newest_first(store: ArchiveStore) -> None:
    rows = day_rows()
    partition = write_partition(store, rows, SPAN)

    found, use = search_day(Archive([store.url]), partition, EventQuery())

    assert found == newest_first(rows)
    assert (use.opened, use.groups_read, use.groups_skipped) == (1, 12, 0)


def test_row_groups_of_other_tenants_are_not_read(store: ArchiveStore) -> None:
    rows = day_rows()
    partition = write_partition(store, rows, SPAN)

    found, use = search_day(Archive([store.url]), partition, EventQuery(tenant_id="acme"))

    assert found == newest_first([row for row in rows if row["tenant_id"] == "acme"])
    assert use.groups_read <= 5
    assert use.groups_skipped == 12 - use.groups_read


def test_status_may_be_a_member_of_its_enumeration(store: ArchiveStore) -> None:
    rows = day_rows(20)
    rows[7]["status"] = "denied"
    partition = write_partition(store, rows, SPAN)

    found, _ = search_day(Archive([store.url]), partition, EventQuery(status=EventStatus.DENIED))

    assert [row["id"] for row in found] == [rows[7]["id"]]


def test_page_ends_the_reading_of_a_tenant(store: ArchiveStore) -> None:
    partition = write_partition(store, day_rows(), SPAN)

    _, use = search_day(Archive([store.url]), partition, EventQuery(tenant_id="acme"), wanted=3)

    assert use.groups_read <= 2


def test_file_without_the_entity_or_user_is_not_opened(store: ArchiveStore) -> None:
    partition = write_partition(store, day_rows(), SPAN)
    archive = Archive([store.url])
    absent = [
        EventQuery(tenant_id="acme", entity_type="order", entity_id="99"),
        EventQuery(tenant_id="acme", entity_type="invoice"),
        EventQuery(tenant_id="acme", user_id="nobody"),
        EventQuery(tenant_id="nobody", entity_type="order", entity_id="1"),
    ]

    uses = [search_day(archive, partition, query)[1] for query in absent]
    found, use = search_day(
        archive, partition, EventQuery(tenant_id="acme", entity_type="order", entity_id="3")
    )

    assert uses == [ArchiveUse(skipped=1)] * len(absent)
    assert use.opened == 1
    assert {row["entity_id"] for row in found} == {"3"}


def test_filters_are_read_once_for_many_searches(store: ArchiveStore, tmp_path: Path) -> None:
    partition = write_partition(store, day_rows(), SPAN)
    archive = Archive([store.url])
    query = EventQuery(tenant_id="acme", user_id="nobody")
    search_day(archive, partition, query)

    (tmp_path / "first" / manifest_path(SPAN.lo, SPAN.hi, 1)).unlink()
    _, use = search_day(archive, partition, query)

    assert use == ArchiveUse(skipped=1)


@pytest.mark.parametrize("content", [None, b"{", b'{"format_version": 1}'])
def test_bad_manifest_rules_nothing_out(
    store: ArchiveStore, tmp_path: Path, content: bytes | None
) -> None:
    partition = write_partition(store, day_rows(), SPAN)
    manifest = tmp_path / "first" / manifest_path(SPAN.lo, SPAN.hi, 1)
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content)

    found, use = search_day(
        Archive([store.url]), partition, EventQuery(tenant_id="acme", user_id="u3")
    )

    assert use.opened == 1
    assert found


def test_file_of_another_tenant_or_time_is_not_opened(store: ArchiveStore) -> None:
    partition = write_partition(
        store, day_rows(), SPAN, file_tenant=lambda tenant, _: tenant if tenant == "acme" else None
    )
    archive = Archive([store.url])

    _, other = search_day(archive, partition, EventQuery(tenant_id="globex"))
    _, own = search_day(archive, partition, EventQuery(tenant_id="acme"))
    late = LAST - timedelta(minutes=1)
    rows, later = archive.search(partition, EventQuery(), since=late, until=LAST, wanted=5)

    assert (other.opened, other.skipped) == (1, 1)
    assert (own.opened, own.skipped, own.groups_read) == (1, 1, 4)
    assert (list(rows), later.opened, later.skipped) == ([], 0, 2)


def test_file_without_the_tenant_is_not_opened_though_its_statistics_allow_it(
    store: ArchiveStore,
) -> None:
    partition = write_partition(store, day_rows(), SPAN)
    between = EventQuery(tenant_id="bravo")

    found, use = search_day(Archive([store.url]), partition, between)

    assert TENANTS[0] < "bravo" < TENANTS[1]
    assert (found, use) == ([], ArchiveUse(skipped=1))


def test_rows_of_others_stay_in_a_file_that_names_the_wrong_tenant(store: ArchiveStore) -> None:
    """The entry chooses files; what leaves them, the rows themselves decide."""
    partition = write_partition(store, day_rows(), SPAN)
    lying = replace(partition, files=tuple(replace(one, tenant="acme") for one in partition.files))

    found, use = search_day(Archive([store.url]), lying, EventQuery(tenant_id="acme"))

    assert use.opened == 1
    assert {row["tenant_id"] for row in found} == {"acme"}


def test_expired_file_is_left_alone_from_the_beginning_of_its_deletion(
    store: ArchiveStore,
) -> None:
    rows = day_rows()
    partition = write_partition(
        store, rows, SPAN, class_of=lambda _, action: action.replace(".", "_")
    )
    expiring, kept = partition.files
    gone = replace(expiring, expiring_at=SPAN.hi)
    partition = replace(partition, files=(gone, kept))

    found, use = search_day(Archive([store.url]), partition, EventQuery())

    assert (use.opened, use.skipped, use.expired) == (1, 0, 1)
    assert found == newest_first([row for row in rows if row["action"] == "order.delete"])


def test_pages_after_the_second_read_nothing_again(store: ArchiveStore) -> None:
    rows = newest_first(day_rows())
    partition = write_partition(store, rows, SPAN)
    archive = Archive([store.url])
    query, found, uses = EventQuery(), list[dict[str, Any]](), list[ArchiveUse]()

    while len(found) < len(rows):
        page, use = search_day(archive, partition, query, wanted=7)
        found += page
        uses.append(use)
        query = replace(query, after=position_of(page[-1]))

    assert found == rows
    assert [use.opened for use in uses] == [1, 1] + [0] * (len(uses) - 2)


def test_rows_read_ahead_are_not_those_of_another_query(store: ArchiveStore) -> None:
    rows = newest_first(day_rows())
    partition = write_partition(store, rows, SPAN)
    archive = Archive([store.url])
    for after in (None, position_of(rows[6]), position_of(rows[13])):
        search_day(archive, partition, EventQuery(after=after), wanted=7)

    acme, _ = search_day(archive, partition, EventQuery(tenant_id="acme"), wanted=7)
    again, _ = search_day(archive, partition, EventQuery(), wanted=7)

    assert acme == [row for row in rows if row["tenant_id"] == "acme"][:7]
    assert again == rows[:7]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_walk_through_a_partition_gives_what_a_list_gives(
    store: ArchiveStore, many_groups: ArchivedPartition, data: st.DataObject
) -> None:
    """Any order of queries, ranges and positions against one archive and its rows read ahead."""
    rows, partition = newest_first(_ROWS), many_groups
    archive = Archive([store.url])
    for _ in range(data.draw(st.integers(1, 6))):
        tenant = data.draw(st.sampled_from([None, "acme", "Ünï"]))
        after = data.draw(st.sampled_from([None, *rows[::17]]))
        since = data.draw(st.sampled_from([SPAN.lo, rows[70]["timestamp"]]))
        until = data.draw(st.sampled_from([LAST, rows[20]["timestamp"]]))
        wanted = data.draw(st.sampled_from([1, 7, 200]))
        position = None if after is None else position_of(after)
        query = EventQuery(tenant_id=tenant, after=position)

        found, _ = archive.search(partition, query, since=since, until=until, wanted=wanted)

        expected = [
            row
            for row in rows
            if tenant in {None, row["tenant_id"]}
            and since <= row["timestamp"] <= until
            and (after is None or key_of(row) < key_of(after))
        ]
        assert [row["id"] for row in found] == [row["id"] for row in expected[:wanted]]


_ROWS = random.Random(5).sample(day_rows(), k=120)


@pytest.fixture
def many_groups(store: ArchiveStore) -> ArchivedPartition:
    """A partition of many row groups, the same for all examples of a test."""
    return write_partition(store, sorted(_ROWS, key=key_of), SPAN, rows_per_group=9)
