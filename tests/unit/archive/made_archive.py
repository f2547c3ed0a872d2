"""An archived day made without PostgreSQL: rows, files by the real writer, a manifest.

Here: what the tests of reading and verifying share. Not here: the export itself
(tests/integration/archive).
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from audit_platform.archive.columns import ARROW_SCHEMA, COLUMNS, SORTED_BY, schema_fingerprint
from audit_platform.archive.local_store import LocalStore
from audit_platform.archive.manifest import (
    FileEntry,
    Group,
    Manifest,
    data_path,
    partition_root,
)
from audit_platform.archive.parquet_file import ParquetFile
from audit_platform.archive.store import ArchiveStore, write_bytes
from audit_platform.events.event import timestamp_us
from audit_platform.events.identity import mint
from audit_platform.integrity.leaf import leaf_of
from audit_platform.integrity.merkle import merkle_root

LO = datetime(2025, 6, 1, tzinfo=UTC)
HI = LO + timedelta(days=1)
TENANTS = ("acme", "globex", "Ümlaut & Söhne")
CLASSES = ("standard", "short")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeArchive:
    """A day as it lies in an archive."""

    store: ArchiveStore
    directory: Path
    manifest: Manifest
    rows: tuple[Row, ...]

    @property
    def data(self) -> bytes:
        return self.manifest.to_json()

    def file(self, number: int = 0) -> Path:
        """Where one of its Parquet files lies."""
        return self.directory / self.manifest.files[number].path

    def with_files(self, change: Callable[[FileEntry], FileEntry]) -> Manifest:
        """The manifest with other entries, as somebody would forge it."""
        return replace(self.manifest, files=tuple(change(one) for one in self.manifest.files))


def make_rows(count: int, *, seed: int = 1) -> tuple[Row, ...]:
    """Rows of one day, of three tenants, every column used somewhere."""
    rng = random.Random(seed)
    step = (HI - LO) / max(count, 1)
    return tuple(_row(number, LO + step * number, rng) for number in range(count))


def _row(number: int, moment: datetime, rng: random.Random) -> Row:
    is_rich = number % 3 == 0
    row: Row = dict.fromkeys(COLUMNS)
    row |= {
        "id": UUID(mint(timestamp_us(moment), rng.getrandbits(74))),
        "timestamp": moment,
        "tenant_id": TENANTS[number % 3],
        "source": "admin" if number % 5 else "api",
        "action": "user.suspend" if number % 5 else "health.check",
        "status": "success",
        "actor_type": "user",
        "metadata": '{"a": 1e400, "b": 12345678901234567890.10}',
        "context": "{}",
        "sampled_rate": rng.choice([1.0, 0.1, 1e-7]),
        "schema_version": 1,
        "batch_id": UUID(int=rng.getrandbits(128)),
        "received_at": moment + timedelta(milliseconds=5),
        "ingested_at": moment + timedelta(seconds=1),
        "entity_id": str(number % 97),
        "entity_type": "user",
        "entity_label": "" if is_rich else None,
        "description": f"row {number} “quoted”\t\\ ünïcödé" if is_rich else None,
        "changes": '{"x":{"old":0.10,"new":null}}' if is_rich else None,
        "bulk_action_id": UUID(int=number) if is_rich else None,
        "bulk_item_no": 2**62 + number if is_rich else None,
        "severity": number % 6 if is_rich else None,
        "producer_id": number if is_rich else None,
        "producer_epoch": 2**40 if is_rich else None,
        "producer_seq": number if is_rich else None,
    }
    return row


def class_of(row: Row) -> str:
    """Retention class of a row."""
    return CLASSES[row["action"] == "health.check"]


def make_archive(
    directory: Path,
    rows: Sequence[Row],
    *,
    rows_per_group: int = 200,
    rows_per_file: int = 10_000,
) -> MadeArchive:
    """Write rows as the export does: a file or more per class, groups and roots as the seal."""
    store = LocalStore(directory)
    entries: list[FileEntry] = []
    for retention_class in sorted(set(map(class_of, rows))):
        chosen = [row for row in rows if class_of(row) == retention_class]
        chosen.sort(key=lambda row: tuple(_sortable(row[name]) for name in SORTED_BY))
        for number, start in enumerate(range(0, len(chosen), rows_per_file)):
            part = chosen[start : start + rows_per_file]
            entries.append(_write(store, part, retention_class, number, rows_per_group))
    groups = groups_of(rows)
    ids = sorted(row["id"] for row in rows)
    manifest = Manifest(
        partition="event_20250601",
        lo=LO,
        hi=HI,
        generation=1,
        n=len(rows),
        min_id=ids[0] if ids else None,
        max_id=ids[-1] if ids else None,
        leaf_digest=digest_of(rows),
        root=partition_root(groups),
        schema_fingerprint=schema_fingerprint(),
        written_at=HI + timedelta(days=2),
        groups=groups,
        files=tuple(sorted(entries, key=lambda entry: entry.path)),
    )
    write_bytes(store, manifest.path, manifest.to_json())
    return MadeArchive(store=store, directory=directory, manifest=manifest, rows=tuple(rows))


def batch_of(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows as a batch with the schema of the files."""
    arrays = [_array([row[field.name] for row in rows], field) for field in ARROW_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=ARROW_SCHEMA)


def groups_of(rows: Sequence[Row]) -> tuple[Group, ...]:
    """Groups as the seal records them, by the definition."""
    keys = {(row["tenant_id"], class_of(row)) for row in rows}
    return tuple(
        Group(
            tenant_id=tenant,
            retention_class=retention_class,
            n=len(leaves),
            root=merkle_root(leaves),
        )
        for tenant, retention_class in sorted(keys, key=lambda key: (key[0].encode(), key[1]))
        if (
            leaves := _leaves(
                [r for r in rows if (r["tenant_id"], class_of(r)) == (tenant, retention_class)]
            )
        )
    )


def digest_of(rows: Sequence[Row]) -> bytes:
    """Flat digest by the definition."""
    return hashlib.sha256(b"".join(_leaves(rows))).digest()


def _leaves(rows: Sequence[Row]) -> list[bytes]:
    return [leaf for _, leaf in sorted((row["id"].bytes, leaf_of(row)) for row in rows)]


def _write(
    store: ArchiveStore, rows: Sequence[Row], retention_class: str, number: int, per_group: int
) -> FileEntry:
    path = data_path(
        lo=LO,
        hi=HI,
        day=LO.date(),
        retention_class=retention_class,
        tenant=None,
        generation=1,
        number=number,
    )
    with store.write(path) as sink:
        file = ParquetFile(sink, labels={})
        for start in range(0, len(rows), per_group):
            file.write(batch_of(rows[start : start + per_group]))
        file.close()
    return file.entry(path=path, retention_class=retention_class, tenant=None)


def _array(values: list[Any], field: pa.Field) -> pa.Array:
    if field.type == pa.uuid():
        raw = [None if value is None else value.bytes for value in values]
        return pa.ExtensionArray.from_storage(field.type, pa.array(raw, pa.binary(16)))
    return pa.array(values, field.type)


def _sortable(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value
