"""Export of sealed partitions: every value as stored, every row once, nothing half done."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit_platform.archive.columns import ARCHIVED, ARROW_SCHEMA, COLUMNS, ColumnType
from audit_platform.archive.export import _select
from audit_platform.archive.manifest import Manifest
from audit_platform.archive.store import ArchiveStore, open_store, read_bytes
from audit_platform.db.pool import Connection
from audit_platform.retention.partition_table import read_groups
from tests.integration.archive.exporting import all_rows, export, table_of
from tests.integration.archive.rows import (
    archived_texts,
    evil_rows,
    many_rows,
    put_rows,
    stored_texts,
)
from tests.integration.retention.sealing import DAY, record_of, seal_day

pytestmark = pytest.mark.integration


def test_every_value_comes_back_as_it_was_stored(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore
) -> None:
    put_rows(admin, evil_rows())
    seal_day(maint)

    report = export(maint, store)

    rows = all_rows(store, report)
    real = COLUMNS.index("sampled_rate")
    stored, archived = stored_texts(admin), archived_texts(rows)
    for one, other in zip(stored, archived, strict=True):
        assert one[:real] == other[:real]
        assert one[real + 1 :] == other[real + 1 :]
    spelled = [
        admin.execute("select %s::float8::real::text", [value]).fetchone()
        for value in rows.column("sampled_rate").to_pylist()
    ]
    assert [text[0] for text in spelled if text] == [one[real] for one in stored]
    assert len(stored) == report.rows == len(evil_rows())
    assert rows.schema.equals(ARROW_SCHEMA)


def test_rows_are_in_the_order_of_tenant_time_and_id_by_bytes(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore
) -> None:
    put_rows(admin, many_rows(500))
    seal_day(maint)

    report = export(maint, store)

    rows = all_rows(store, report)
    keys = list(
        zip(
            (tenant.encode() for tenant in rows.column("tenant_id").to_pylist()),
            rows.column("timestamp").to_pylist(),
            rows.column("id").to_pylist(),
            strict=True,
        )
    )
    assert keys == sorted(keys)
    assert keys[0][0] == b"Acme"
    assert len(keys) == 500


def test_order_does_not_depend_on_the_collation_of_the_database(
    maint: Connection, admin: "psycopg.Connection[Any]"
) -> None:
    put_rows(admin, many_rows(100))
    seal_day(maint)
    record = record_of(maint)

    found = [
        admin.execute(_select(record, is_sorted_by_bytes=is_sorted)).fetchall()
        for is_sorted in (True, False)
    ]

    assert found[0] == found[1]


def test_manifest_describes_files_groups_and_seal(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore
) -> None:
    put_rows(admin, many_rows(500))
    seal_day(maint)

    report = export(maint, store, file_bytes=1, rows_per_group=200)

    record = record_of(maint)
    manifest = Manifest.from_json(read_bytes(store, report.manifest_path))
    assert report.manifest_sha256.hex() == store.sha256(report.manifest_path)
    assert (manifest.n, manifest.root, manifest.leaf_digest) == (
        500,
        record.root,
        record.leaf_digest,
    )
    assert (manifest.min_id, manifest.max_id) == (record.min_id, record.max_id)
    assert manifest.groups == read_groups(maint, DAY.name, 1)
    assert manifest.files == report.files
    assert [entry.rows for entry in report.files] == [200, 200, 100]
    assert sum(entry.bytes for entry in report.files) == report.bytes
    for entry in report.files:
        assert store.sha256(entry.path) == entry.sha256
        assert store.size(entry.path) == entry.bytes


def test_classes_of_the_seal_and_tenants_with_own_rules_get_own_files(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore
) -> None:
    put_rows(admin, many_rows(600))
    seal_day(maint, class_of=lambda _, action: "short" if action == "health.check" else "standard")

    report = export(maint, store, own={("acme", "short"): "acme"})

    found = {
        (entry.retention_class, entry.tenant): {
            (tenant, action == "health.check")
            for tenant, action in zip(
                table_of(store, entry.path).column("tenant_id").to_pylist(),
                table_of(store, entry.path).column("action").to_pylist(),
                strict=True,
            )
        }
        for entry in report.files
    }
    others = {"zeta", "Ümlaut", "Acme"}
    assert found == {
        ("short", "acme"): {("acme", True)},
        ("short", None): {(tenant, True) for tenant in others},
        ("standard", None): {(tenant, False) for tenant in others | {"acme"}},
    }
    assert sum(entry.rows for entry in report.files) == 600


def test_filters_of_a_file_find_what_it_holds(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore
) -> None:
    put_rows(admin, many_rows(400))
    seal_day(maint)

    (entry,) = export(maint, store).files

    assert entry.filters is not None
    assert entry.filters.tenants.might_contain("Ümlaut")
    assert not entry.filters.tenants.might_contain("globex")
    held = {(row["tenant_id"], row["entity_id"], row["user_id"]) for row in many_rows(400)}
    assert all(entry.filters.entities.might_contain(t, "user", e) for t, e, _ in held)
    assert all(entry.filters.users.might_contain(t, u) for t, _, u in held)
    assert not entry.filters.entities.might_contain("acme", "user", "50")


def test_both_copies_are_equal(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore, tmp_path: Path
) -> None:
    put_rows(admin, many_rows(300))
    seal_day(maint)
    copy_store = open_store((tmp_path / "copy").as_uri())

    export(maint, store, copy_store, file_bytes=1)

    paths = list(store.list("cold"))
    assert len(paths) == 4
    assert list(copy_store.list("cold")) == paths
    assert [copy_store.sha256(path) for path in paths] == [store.sha256(path) for path in paths]


def test_repeat_gives_the_same_bytes(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore
) -> None:
    put_rows(admin, many_rows(300))
    seal_day(maint)

    first = export(maint, store)
    second = export(maint, store)

    assert second == first


def test_empty_partition_has_a_manifest_and_no_file(maint: Connection, store: ArchiveStore) -> None:
    seal_day(maint)

    report = export(maint, store)

    assert not report.files
    manifest = Manifest.from_json(read_bytes(store, report.manifest_path))
    assert (manifest.n, manifest.groups, manifest.files) == (0, (), ())


def test_archived_columns_are_those_of_the_table(admin: "psycopg.Connection[Any]") -> None:
    """A column that a migration adds must be archived, or the decision noted."""
    found = admin.execute(
        "select attname, format_type(atttypid, atttypmod), attnotnull from pg_attribute"
        " where attrelid = 'audit.event'::regclass and attnum > 0 and not attisdropped"
    ).fetchall()
    names = {
        ColumnType.UUID: "uuid",
        ColumnType.MOMENT: "timestamp with time zone",
        ColumnType.JSON: "json",
        ColumnType.INT64: "bigint",
        ColumnType.INT32: "integer",
        ColumnType.INT16: "smallint",
        ColumnType.REAL: "real",
    }
    wanted = {one.name: (names.get(one.type), one.is_required) for one in ARCHIVED}

    assert {name for name, _, _ in found} == {*COLUMNS, "leaf_hash"}
    for name, kind, is_required in found:
        if name == "leaf_hash":
            continue
        kind_wanted, required_wanted = wanted[name]
        assert is_required is required_wanted, name
        if kind_wanted is None:
            assert kind in {"text", "audit.event_status", "audit.actor_type"}, name
        else:
            assert kind == kind_wanted, name
