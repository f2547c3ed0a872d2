"""Export of sealed partitions: every value as stored, every row once, nothing half done."""

import io
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit_platform.archive.columns import ARCHIVED, ARROW_SCHEMA, COLUMNS, ColumnType
from audit_platform.archive.export import ExportReport, _select, export_partition
from audit_platform.archive.manifest import Manifest
from audit_platform.archive.store import ArchiveStore, open_store, read_bytes
from audit_platform.db.pool import Connection, connected
from audit_platform.errors import ArchiveFull, ArchiveMismatch, ArchiveReadOnly
from audit_platform.events.event import timestamp_us
from audit_platform.events.identity import mint
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import PartitionBounds, bounds_for
from audit_platform.retention.partition_table import PartitionRow, read_groups
from tests.chaos.harness.small_disk import MEBIBYTE, small_disk
from tests.conftest import Database
from tests.integration.retention.sealing import DAY, record_of, seal_day

pytestmark = pytest.mark.integration

NOW = DAY.hi + timedelta(hours=50)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Row = dict[str, Any]

EVIL_TEXTS = (
    "",
    "\\N",
    "\\.",
    "tab\tnewline\nreturn\rquote\"'comma,",
    "ünïcödé 日本語 🎉 \u202e \u200b",
    "=cmd|' /C calc'!A0",
    "x" * 2_000,
)
EVIL_JSON = (
    '{"n": 1e400}',
    '{"n": 9007199254740993, "d": 1.10, "e": 0.1000000000000000055}',
    '{"b":  1,   "a": [ ], "b": 2}',
    '{"t": "\\u00fc ü \\n"}',
    "[]",
    "null",
    '"text"',
    "1.0",
)


@pytest.fixture
def maint(database: Database) -> Iterator[Connection]:
    with connected(database.maint_url, application="test") as conn:
        ensure_partitions(conn, [DAY])
        yield conn


@pytest.fixture
def admin(database: Database) -> "Iterator[psycopg.Connection[Any]]":
    with psycopg.connect(database.admin_url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def store(tmp_path: Path) -> ArchiveStore:
    return open_store((tmp_path / "archive").as_uri())


def row_at(moment: datetime, number: int, **override: Any) -> Row:
    """A row as PostgreSQL takes it; the leaf is any 32 bytes, since an export leaves it out."""
    made: Row = {
        "id": mint(timestamp_us(moment), number),
        "timestamp": moment,
        "tenant_id": "acme",
        "source": "app",
        "action": "user.login",
        "actor_type": "user",
        "batch_id": uuid4(),
        "received_at": moment + timedelta(milliseconds=3),
        "ingested_at": moment + timedelta(milliseconds=5),
        "leaf_hash": number.to_bytes(32, "big"),
    }
    return made | override


def evil_rows() -> list[Row]:
    """Every type at its limits, every column filled somewhere and NULL elsewhere."""
    first, last = DAY.lo, DAY.hi - timedelta(microseconds=1)
    rows = [row_at(first, 1), row_at(last, 2), row_at(last, 3, tenant_id="Ümlaut & Söhne")]
    for number, text in enumerate(EVIL_TEXTS, 10):
        moment = first + timedelta(minutes=number)
        texts = dict.fromkeys(
            ("entity_type", "entity_id", "entity_label", "user_id", "user_label"), text[:50]
        )
        others = dict.fromkeys(("impersonator_id", "correlation_id", "trace_id"), text[:32])
        rows.append(
            row_at(
                moment,
                number,
                **texts,
                **others,
                tenant_id=text[:50] or "t",
                source=text[:50] or "s",
                action=text[:50] or "a",
                description=text,
            )
        )
    for number, text in enumerate(EVIL_JSON, 40):
        json = dict.fromkeys(("changes", "metadata", "context"), text)
        rows.append(row_at(first + timedelta(hours=number - 39), number, **json))
    numbers = (-(2**63), -1, 0, 2**53 + 1, 2**63 - 1)
    for number, value in enumerate(numbers, 60):
        rows.append(
            row_at(
                first + timedelta(hours=10, microseconds=number),
                number,
                bulk_action_id=UUID(int=number),
                bulk_item_no=value,
                producer_epoch=value,
                producer_seq=value,
                producer_id=(2**31 - 1) - number,
                severity=number % 6,
                schema_version=32_767 - number,
                sampled_rate=(0.1, 1e-6, 16_777_216.0, 1.17549435e-38, 3.4028235e38)[number - 60],
                status=("success", "failure", "denied", "skipped", "pending")[number - 60],
                actor_type=("admin", "service", "api_key", "anonymous", "bulk_action")[number - 60],
            )
        )
    return rows


def put_rows(
    admin: "psycopg.Connection[Any]", rows: Sequence[Row], *, table: str = DAY.name
) -> None:
    for row in rows:
        names = ", ".join(f'"{name}"' for name in row)
        values = ", ".join(f"%({name})s" for name in row)
        admin.execute(f"insert into audit.{table} ({names}) values ({values})".encode(), row)


def stored_texts(admin: "psycopg.Connection[Any]", table: str = DAY.name) -> list[list[str | None]]:
    """All rows in the words of PostgreSQL, in the order of the files."""
    columns = ", ".join(
        f'(extract(epoch from "{one.name}") * 1000000)::bigint::text'
        if one.type is ColumnType.MOMENT
        else f'"{one.name}"::text'
        for one in ARCHIVED
    )
    order = 'tenant_id collate "C", "timestamp", id'
    found = admin.execute(
        f"select {columns} from only audit.{table} order by {order}".encode()
    ).fetchall()
    return [list(one) for one in found]


def archived_texts(rows: pa.Table) -> list[list[str | None]]:
    """The same words from the files alone."""
    columns = [
        [_text(value, column.type) for value in rows.column(column.name).to_pylist()]
        for column in ARCHIVED
    ]
    return [list(one) for one in zip(*columns, strict=True)]


def _text(value: Any, kind: ColumnType) -> str | None:
    if value is None:
        return None
    if kind is ColumnType.MOMENT:
        return str((value - EPOCH) // timedelta(microseconds=1))
    if kind is ColumnType.UUID:
        return str(value if isinstance(value, UUID) else UUID(bytes=value))
    return str(value)


def table_of(store: ArchiveStore, path: str) -> pa.Table:
    return pq.read_table(io.BytesIO(read_bytes(store, path)))


def all_rows(store: ArchiveStore, report: ExportReport) -> pa.Table:
    return pa.concat_tables([table_of(store, entry.path) for entry in report.files])


def export(
    conn: Connection,
    store: ArchiveStore,
    copy_store: ArchiveStore | None = None,
    *,
    bounds: PartitionBounds = DAY,
    row: PartitionRow | None = None,
    own: Mapping[tuple[str, str], str] | None = None,
    rows_per_group: int = 100,
    file_bytes: int = 1 << 30,
) -> ExportReport:
    record = row or record_of(conn, bounds)
    own_files = own or {}
    return export_partition(
        conn,
        record,
        store,
        copy_store,
        groups=read_groups(conn, record.name, record.generation),
        file_tenant=lambda tenant, cls: own_files.get((tenant, cls)),
        rows_per_group=rows_per_group,
        file_bytes=file_bytes,
        now=NOW,
    )


def files_below(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*") if path.is_file())


def many_rows(count: int, *, bounds: PartitionBounds = DAY) -> list[Row]:
    """Rows spread over the partition and four tenants, in no order of the key."""
    step = (bounds.hi - bounds.lo) / count
    return [
        row_at(
            bounds.lo + step * number,
            number,
            tenant_id=("zeta", "acme", "Ümlaut", "Acme")[number % 4],
            action=("user.login", "user.pay", "health.check")[number % 3],
            entity_type="user",
            entity_id=str(number % 50),
            user_id=str(number % 7),
        )
        for number in range(count)
    ]


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


def test_week_is_archived_by_date(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore
) -> None:
    week = bounds_for(datetime(2025, 5, 7, tzinfo=UTC), "week")
    ensure_partitions(maint, [week])
    put_rows(admin, many_rows(700, bounds=week), table=week.name)
    seal_day(maint, bounds=week)

    report = export(maint, store, bounds=week)

    days = [week.lo.date() + timedelta(days=number) for number in range(7)]
    assert [entry.path for entry in report.files] == [
        f"cold/date={day}/standard.all.g1.0000.parquet" for day in days
    ]
    assert report.manifest_path == f"cold/date={week.lo.date()}/manifest.g1.json"
    for day, entry in zip(days, report.files, strict=True):
        moments = table_of(store, entry.path).column("timestamp").to_pylist()
        assert {moment.date() for moment in moments} == {day}
        assert len(moments) == 100
    stored = [str(row["id"]) for row in many_rows(700, bounds=week)]
    archived = [str(_uuid(value)) for value in all_rows(store, report).column("id").to_pylist()]
    assert sorted(archived) == sorted(stored)


def test_hours_of_a_date_share_its_directory(
    maint: Connection, admin: "psycopg.Connection[Any]", store: ArchiveStore
) -> None:
    start = datetime(2025, 5, 20, 22, tzinfo=UTC)
    hours = [bounds_for(start + timedelta(hours=number), "hour") for number in range(2)]
    ensure_partitions(maint, hours)
    for hour in hours:
        put_rows(admin, many_rows(20, bounds=hour), table=hour.name)
        seal_day(maint, bounds=hour)

    for hour in [*hours, hours[0]]:
        export(maint, store, bounds=hour)

    directory = f"cold/date={date(2025, 5, 20)}"
    assert list(store.list("cold")) == [
        f"{directory}/h22.manifest.g1.json",
        f"{directory}/h22.standard.all.g1.0000.parquet",
        f"{directory}/h23.manifest.g1.json",
        f"{directory}/h23.standard.all.g1.0000.parquet",
    ]


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


def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(bytes=value)
