"""The manifest: its JSON form, strictness, roots, paths."""

import hashlib
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from audit_platform.archive.manifest import (
    FileEntry,
    FileFilters,
    Group,
    Manifest,
    belongs_to,
    data_path,
    dates_of,
    group_record,
    manifest_path,
    partition_root,
)
from audit_platform.archive.match_filter import MatchFilterBuilder, match_key
from audit_platform.errors import ArchiveDamaged

LO = datetime(2025, 8, 28, tzinfo=UTC)
HI = LO + timedelta(days=1)
ROOT = bytes(range(32))


def filters_of(*tenants: str) -> FileFilters:
    builder = MatchFilterBuilder()
    builder.add(match_key(tenant) for tenant in tenants)
    made = builder.build()
    return FileFilters(tenants=made, entities=made, users=made)


def entry_of(**override: Any) -> FileEntry:
    fields: dict[str, Any] = {
        "path": "cold/date=2025-08-28/standard.all.g1.0000.parquet",
        "sha256": "ab" * 32,
        "bytes": 1_234,
        "rows": 7,
        "retention_class": "standard",
        "tenant": None,
        "min_timestamp": LO,
        "max_timestamp": LO + timedelta(microseconds=1),
        "min_id": UUID(int=1),
        "max_id": UUID(int=2),
        "filters": filters_of("acme"),
    }
    return FileEntry(**(fields | override))


def group_of(tenant: str, retention_class: str = "standard", n: int = 7) -> Group:
    return Group(tenant_id=tenant, retention_class=retention_class, n=n, root=ROOT)


def manifest_of(**override: Any) -> Manifest:
    fields: dict[str, Any] = {
        "partition": "event_20250828",
        "lo": LO,
        "hi": HI,
        "generation": 1,
        "n": 7,
        "min_id": UUID(int=1),
        "max_id": UUID(int=2),
        "leaf_digest": ROOT,
        "root": ROOT,
        "schema_fingerprint": "cd" * 32,
        "written_at": HI,
        "groups": (group_of("acme"), group_of('Ümlaut, "quoted"\n')),
        "files": (entry_of(), entry_of(tenant="acme", expiring_at=HI)),
    }
    return Manifest(**(fields | override))


def changed(**override: Any) -> bytes:
    """A manifest with fields of its JSON replaced."""
    return json.dumps(json.loads(manifest_of().to_json()) | override).encode()


def test_manifest_comes_back_equal() -> None:
    manifest = manifest_of()

    assert Manifest.from_json(manifest.to_json()) == manifest


def test_manifest_of_an_empty_partition_comes_back_equal() -> None:
    manifest = manifest_of(n=0, min_id=None, max_id=None, groups=(), files=())

    assert Manifest.from_json(manifest.to_json()) == manifest


def test_equal_manifests_have_equal_bytes() -> None:
    manifest = manifest_of()

    assert Manifest.from_json(manifest.to_json()).to_json() == manifest.to_json()


def test_entry_of_the_partition_table_has_no_filters() -> None:
    row = entry_of(tenant="acme").to_row()

    assert "filters" not in row
    assert FileEntry.from_json(row) == entry_of(tenant="acme", filters=None)


def test_shared_file_is_spelled_with_a_star() -> None:
    """The SQL of holds and expiry compares the tenant with `*`."""
    assert entry_of(tenant=None).to_row()["tenant"] == "*"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ({"n": "7"}, "n"),
        ({"n": True}, "n"),
        ({"n": -1}, "n"),
        ({"n": 7.0}, "n"),
        ({"root": "ab"}, "root"),
        ({"root": "AB" * 32}, "root"),
        ({"min_id": "1"}, "min_id"),
        ({"lo": "2025-08-28"}, "lo"),
        ({"lo": "2025-13-28T00:00:00.000000Z"}, "lo"),
        ({"partition": ""}, "partition"),
        ({"groups": {}}, "groups"),
        ({"files": [{}]}, "tenant"),
        ({"files": ["x"]}, "object"),
        ({"compression": "zstd"}, "compression"),
        ({"format_version": 2}, "format version 2"),
        ({"format_version": None}, "format_version"),
    ],
)
def test_another_form_is_refused_by_name(override: dict[str, Any], named: str) -> None:
    with pytest.raises(ArchiveDamaged, match=named):
        Manifest.from_json(changed(**override))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe{}"])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ArchiveDamaged):
        Manifest.from_json(data)


def test_moments_keep_their_microseconds() -> None:
    moment = datetime(2025, 8, 28, 23, 59, 59, 999_999, tzinfo=UTC)

    found = FileEntry.from_json(entry_of(max_timestamp=moment).to_json())

    assert found.max_timestamp == moment


def test_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        entry_of(min_timestamp=LO.replace(tzinfo=None)).to_json()


def test_group_record_has_the_documented_bytes() -> None:
    record = group_record("Ü", "standard", 12, bytes(32))

    assert record == "2:Ü,8:standard,2:12,64:".encode() + b"0" * 64


def test_partition_root_does_not_depend_on_the_order_of_groups() -> None:
    groups = [group_of("b"), group_of("a", "short"), group_of("a", "long"), group_of("Z")]

    assert partition_root(groups) == partition_root(groups[::-1])


def test_partition_root_sorts_by_bytes_and_hashes_records_as_leaves() -> None:
    groups = [group_of("ä"), group_of("z")]

    leaves = [
        hashlib.sha256(b"\x00" + group_record(g.tenant_id, g.retention_class, g.n, g.root)).digest()
        for g in (groups[1], groups[0])
    ]

    assert partition_root(groups) == hashlib.sha256(b"\x01" + leaves[0] + leaves[1]).digest()


def test_partition_root_of_nothing_is_the_empty_hash() -> None:
    assert partition_root([]) == hashlib.sha256().digest()


@pytest.mark.parametrize(
    "other",
    [group_of("a", n=8), group_of("b"), group_of("a", "short")],
    ids=["n", "tenant", "class"],
)
def test_partition_root_covers_every_part_of_a_group(other: Group) -> None:
    assert partition_root([group_of("a")]) != partition_root([other])


def test_groups_of_a_file_are_those_whose_rows_it_may_hold() -> None:
    own, shared = entry_of(tenant="acme"), entry_of()
    groups = (group_of("acme"), group_of("globex"), group_of("acme", "short"))
    manifest = manifest_of(groups=groups, files=(own, shared))

    assert manifest.groups_of(own) == (groups[0],)
    assert manifest.groups_of(shared) == (groups[1],)


def path_of(lo: datetime, hi: datetime, **override: Any) -> str:
    fields: dict[str, Any] = {
        "day": lo.date(),
        "retention_class": "standard",
        "tenant": None,
        "generation": 1,
        "number": 0,
    }
    return data_path(lo=lo, hi=hi, **(fields | override))


def test_paths_of_a_day_are_those_of_the_design() -> None:
    own = hashlib.sha256(b"acme").hexdigest()[:16]

    assert path_of(LO, HI) == "cold/date=2025-08-28/standard.all.g1.0000.parquet"
    assert path_of(LO, HI, tenant="acme", generation=3, number=12) == (
        f"cold/date=2025-08-28/standard.{own}.g3.0012.parquet"
    )
    assert manifest_path(LO, HI, 1) == "cold/date=2025-08-28/manifest.g1.json"


def test_hours_of_a_day_have_different_paths() -> None:
    first = (LO, LO + timedelta(hours=1))
    second = (LO + timedelta(hours=1), LO + timedelta(hours=2))

    assert path_of(*first) == "cold/date=2025-08-28/h00.standard.all.g1.0000.parquet"
    assert path_of(*second) != path_of(*first)
    assert manifest_path(*second, 1) == "cold/date=2025-08-28/h01.manifest.g1.json"


def test_path_holds_nothing_of_a_hostile_tenant() -> None:
    path = path_of(LO, HI, tenant="../../etc/passwd\n")

    assert path.count("/") == 2
    assert ".." not in path


def test_dates_of_a_range_leave_out_its_end() -> None:
    assert dates_of(LO, HI) == [date(2025, 8, 28)]
    assert dates_of(LO, LO + timedelta(weeks=1))[-1] == date(2025, 9, 3)
    assert dates_of(LO + timedelta(hours=23), HI) == [date(2025, 8, 28)]


def test_partition_knows_its_own_paths_only() -> None:
    hour = (LO + timedelta(hours=13), LO + timedelta(hours=14))
    paths = {
        "file": path_of(LO, HI),
        "own file": path_of(LO, HI, tenant="acme", number=1_000),
        "manifest": manifest_path(LO, HI, 1),
        "next generation": path_of(LO, HI, generation=2),
        "its manifest": manifest_path(LO, HI, 2),
        "another day": path_of(LO + timedelta(days=1), HI + timedelta(days=1)),
        "an hour": path_of(*hour),
        "manifest of an hour": manifest_path(*hour, 1),
        "somebody's": "cold/date=2025-08-28/README.md",
    }

    of_day = {name for name, path in paths.items() if belongs_to(path, lo=LO, hi=HI, generation=1)}
    of_hour = {
        name
        for name, path in paths.items()
        if belongs_to(path, lo=hour[0], hi=hour[1], generation=1)
    }

    assert of_day == {"file", "own file", "manifest"}
    assert of_hour == {"an hour", "manifest of an hour"}
