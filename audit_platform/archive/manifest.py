"""What an archived partition consists of: its files, groups and roots, as JSON (pure).

Here: the manifest and its parts, their JSON form, the bytes a group contributes to the partition
root, the paths of files. Not here: writing and reading files (`archive/store.py`), what the filters
mean (`archive/match_filter.py`), whether files agree with the manifest (`archive/verify.py`).
Guarantee: `from_json(to_json())` gives an equal object; a form that is not exactly this one is
refused with the name of the field.

Paths, below the URL of the archive:

    cold/date=2025-08-28/standard.all.g1.0000.parquet                class, all tenants
    cold/date=2025-08-28/standard.9f2c41d07b55e6aa.g1.0000.parquet   a tenant with a rule of its own
    cold/date=2025-08-28/manifest.g1.json
    cold/date=2025-08-28/h13.standard.all.g1.0000.parquet            an hourly partition

The directory is the UTC date of the rows, whatever the partition's size; the manifest of a week or
a month lies with its first date. All hours of a day share one directory: hence the `h13.`.

Group record, the leaf of one tenant and class under the partition root, UTF-8:

    <bytes>:<tenant>,<bytes>:<class>,<bytes>:<n in decimal>,64:<root in lower-case hexadecimal>

Source: storage design, section 5; security design, section 6.

Length: one document with all its parts; in several modules nobody would see its form.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from audit_platform.archive.json_fields import Fields, format_moment
from audit_platform.archive.match_filter import MatchFilter
from audit_platform.errors import ArchiveDamaged
from audit_platform.integrity.merkle import merkle_root

FORMAT_VERSION: Final = 1
ALL_TENANTS: Final = "*"
"""How JSON and SQL spell the tenant of a file that several tenants share."""
DIRECTORY: Final = "cold"
_DAY: Final = timedelta(days=1)
_LEAF_PREFIX: Final = b"\x00"
_TENANT_DIGEST_BYTES: Final = 8
_NAME_PARTS: Final = len(("class", "owner", "generation", "number", "suffix"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What a partition holds of one tenant in one retention class.

    Attributes:
        root: Merkle root over its leaves in the order of (id, leaf); 32 bytes.
    """

    tenant_id: str
    retention_class: str
    n: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFilters:
    """What a file may hold: where a filter says no, the file need not be opened.

    Attributes:
        tenants: Over (tenant,).
        entities: Over (tenant, entity type, entity id), and over (tenant, entity type).
        users: Over (tenant, user id).
    """

    tenants: MatchFilter
    entities: MatchFilter
    users: MatchFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One Parquet file.

    Attributes:
        path: Below the URL of the archive.
        sha256: Of its bytes, lower-case hexadecimal.
        tenant: The one tenant whose rows it holds; None if several share it.
        min_timestamp: Of its rows; so are the three that follow.
        filters: None in `audit.partition.files`, which every search reads; the manifest has them.
        expiring_at: When its deletion began; readers leave it alone from then on.
        expired_at: When both copies were gone.
    """

    path: str
    sha256: str
    bytes: int
    rows: int
    retention_class: str
    tenant: str | None
    min_timestamp: datetime
    max_timestamp: datetime
    min_id: UUID
    max_id: UUID
    filters: FileFilters | None = None
    expiring_at: datetime | None = None
    expired_at: datetime | None = None

    def to_row(self) -> dict[str, Any]:
        """The entry as `audit.partition.files` keeps it: without filters."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "rows": self.rows,
            "class": self.retention_class,
            "tenant": ALL_TENANTS if self.tenant is None else self.tenant,
            "min_timestamp": format_moment(self.min_timestamp),
            "max_timestamp": format_moment(self.max_timestamp),
            "min_id": str(self.min_id),
            "max_id": str(self.max_id),
            "expiring_at": self.expiring_at and format_moment(self.expiring_at),
            "expired_at": self.expired_at and format_moment(self.expired_at),
        }

    def to_json(self) -> dict[str, Any]:
        """The entry as the manifest keeps it."""
        return {**self.to_row(), "filters": self.filters and _filters_json(self.filters)}

    @classmethod
    def from_json(cls, value: object) -> "FileEntry":
        """Read what `to_row` or `to_json` gave.

        Raises:
            ArchiveDamaged: A field is missing, unknown or of another form; names it.
        """
        fields = Fields(value, where="file entry")
        tenant = fields.text("tenant")
        entry = cls(
            path=fields.text("path"),
            sha256=fields.digest("sha256").hex(),
            bytes=fields.count("bytes"),
            rows=fields.count("rows"),
            retention_class=fields.text("class"),
            tenant=None if tenant == ALL_TENANTS else tenant,
            min_timestamp=fields.moment("min_timestamp"),
            max_timestamp=fields.moment("max_timestamp"),
            min_id=fields.uuid("min_id"),
            max_id=fields.uuid("max_id"),
            filters=_filters_from(fields.optional("filters")),
            expiring_at=fields.optional_moment("expiring_at"),
            expired_at=fields.optional_moment("expired_at"),
        )
        fields.refuse_others()
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All that verification needs besides the files themselves.

    Attributes:
        n: Rows, in all files together; so are ids, digest and root.
        min_id: None where n is 0.
        leaf_digest: SHA-256 over all leaves in the order of (id, leaf).
        root: `partition_root(groups)`.
        schema_fingerprint: `archive/columns.py::schema_fingerprint` of the writer.
        groups: In the order of (tenant, class), by bytes.
        files: In the order of their paths.
    """

    partition: str
    lo: datetime
    hi: datetime
    generation: int
    n: int
    min_id: UUID | None
    max_id: UUID | None
    leaf_digest: bytes
    root: bytes
    schema_fingerprint: str
    written_at: datetime
    groups: tuple[Group, ...]
    files: tuple[FileEntry, ...]
    format_version: int = field(default=FORMAT_VERSION)

    @property
    def path(self) -> str:
        """Where it lies, below the URL of the archive."""
        return manifest_path(self.lo, self.hi, self.generation)

    def groups_of(self, entry: FileEntry) -> tuple[Group, ...]:
        """Groups whose rows lie in this file, or in another one of the same class and tenant."""
        own = {
            (file.tenant, file.retention_class) for file in self.files if file.tenant is not None
        }
        return tuple(
            group
            for group in self.groups
            if group.retention_class == entry.retention_class
            and (
                group.tenant_id == entry.tenant
                if entry.tenant is not None
                else (group.tenant_id, group.retention_class) not in own
            )
        )

    def to_json(self) -> bytes:
        """UTF-8, one line per file and group, so that people can read and compare it."""
        head = {
            "format_version": self.format_version,
            "partition": self.partition,
            "lo": format_moment(self.lo),
            "hi": format_moment(self.hi),
            "generation": self.generation,
            "n": self.n,
            "min_id": self.min_id and str(self.min_id),
            "max_id": self.max_id and str(self.max_id),
            "leaf_digest": self.leaf_digest.hex(),
            "root": self.root.hex(),
            "schema_fingerprint": self.schema_fingerprint,
            "written_at": format_moment(self.written_at),
        }
        lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
        lines.append(_listed("groups", [_group_json(group) for group in self.groups]))
        lines.append(_listed("files", [entry.to_json() for entry in self.files]))
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Read what `to_json` gave.

        Raises:
            ArchiveDamaged: Not JSON, another format version, or a field that is missing, unknown or
                of another form.
        """
        try:
            fields = Fields(json.loads(data), where="manifest")
        except ValueError as exc:
            message = "a manifest is not JSON: take the second copy, then verify again"
            raise ArchiveDamaged(message) from exc
        version = fields.count("format_version")
        if version != FORMAT_VERSION:
            message = (
                f"a manifest has format version {version}, this program reads {FORMAT_VERSION}: "
                "use the release that wrote it, or a later one"
            )
            raise ArchiveDamaged(message, format_version=version)
        manifest = cls(
            format_version=version,
            partition=fields.text("partition"),
            lo=fields.moment("lo"),
            hi=fields.moment("hi"),
            generation=fields.count("generation"),
            n=fields.count("n"),
            min_id=fields.optional_uuid("min_id"),
            max_id=fields.optional_uuid("max_id"),
            leaf_digest=fields.digest("leaf_digest"),
            root=fields.digest("root"),
            schema_fingerprint=fields.text("schema_fingerprint"),
            written_at=fields.moment("written_at"),
            groups=tuple(_group_from(value) for value in fields.items("groups")),
            files=tuple(FileEntry.from_json(value) for value in fields.items("files")),
        )
        fields.refuse_others()
        return manifest


def group_record(tenant: str, retention_class: str, n: int, root: bytes) -> bytes:
    """The bytes that stand for one group under the partition root; see the module docstring."""
    parts = (tenant.encode(), retention_class.encode(), str(n).encode(), root.hex().encode())
    return b",".join(b"%d:%b" % (len(part), part) for part in parts)


def partition_root(groups: Iterable[Group]) -> bytes:
    """Merkle root over the group records, sorted by the bytes of (tenant, class).

    Returns:
        32 bytes; SHA-256 of nothing for a partition without rows.
    """
    ordered = sorted(groups, key=lambda g: (g.tenant_id.encode(), g.retention_class.encode()))
    records = (group_record(g.tenant_id, g.retention_class, g.n, g.root) for g in ordered)
    return merkle_root([hashlib.sha256(_LEAF_PREFIX + record).digest() for record in records])


def dates_of(lo: datetime, hi: datetime) -> list[date]:
    """UTC dates that a range touches, in order."""
    first, last = lo.astimezone(UTC).date(), (hi - timedelta(microseconds=1)).astimezone(UTC).date()
    return [first + _DAY * number for number in range((last - first).days + 1)]


def directory_of(day: date) -> str:
    """Directory of the files of a UTC date."""
    return f"{DIRECTORY}/date={day.isoformat()}"


def data_path(
    *,
    lo: datetime,
    hi: datetime,
    day: date,
    retention_class: str,
    tenant: str | None,
    generation: int,
    number: int,
) -> str:
    """Path of one Parquet file; holds nothing that a producer chose."""
    if tenant is None:
        owner = "all"
    else:
        owner = hashlib.sha256(tenant.encode()).digest()[:_TENANT_DIGEST_BYTES].hex()
    name = f"{_hour(lo, hi)}{retention_class}.{owner}.g{generation}.{number:04d}.parquet"
    return f"{directory_of(day)}/{name}"


def manifest_path(lo: datetime, hi: datetime, generation: int) -> str:
    """Path of the manifest of a partition."""
    name = f"{_hour(lo, hi)}manifest.g{generation}.json"
    return f"{directory_of(lo.astimezone(UTC).date())}/{name}"


def belongs_to(path: str, *, lo: datetime, hi: datetime, generation: int) -> bool:
    """Whether a path is the manifest or a file of this partition and generation.

    Files of other hours, other generations and of people in the same directories are not.
    """
    if path == manifest_path(lo, hi, generation):
        return True
    directory, _, name = path.rpartition("/")
    hour = _hour(lo, hi)
    parts = name.removeprefix(hour).split(".")
    return (
        directory in {directory_of(day) for day in dates_of(lo, hi)}
        and name.startswith(hour)
        and len(parts) == _NAME_PARTS
        and parts[2] == f"g{generation}"
        and parts[3].isdecimal()
        and parts[4] == "parquet"
    )


def _hour(lo: datetime, hi: datetime) -> str:
    return f"h{lo.astimezone(UTC):%H}." if hi - lo < _DAY else ""


def _listed(name: str, values: Sequence[Mapping[str, Any]]) -> str:
    lines = [json.dumps(value, separators=(",", ":")) for value in values]
    inside = "\n" + ",\n".join(lines) + "\n" if lines else ""
    return f"{json.dumps(name)}: [{inside}]"


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "tenant": group.tenant_id,
        "class": group.retention_class,
        "n": group.n,
        "root": group.root.hex(),
    }


def _group_from(value: object) -> Group:
    fields = Fields(value, where="group")
    group = Group(
        tenant_id=fields.text("tenant"),
        retention_class=fields.text("class"),
        n=fields.count("n"),
        root=fields.digest("root"),
    )
    fields.refuse_others()
    return group


def _filters_json(filters: FileFilters) -> dict[str, Any]:
    return {
        "tenants": filters.tenants.to_json(),
        "entities": filters.entities.to_json(),
        "users": filters.users.to_json(),
    }


def _filters_from(value: object) -> FileFilters | None:
    if value is None:
        return None
    fields = Fields(value, where="filters")
    filters = FileFilters(
        tenants=MatchFilter.from_json(fields.optional("tenants")),
        entities=MatchFilter.from_json(fields.optional("entities")),
        users=MatchFilter.from_json(fields.optional("users")),
    )
    fields.refuse_others()
    return filters
