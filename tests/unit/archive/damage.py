"""Damage to a made archive, by accident or by somebody who knows the format.

Here: what the tests of verification do to files and manifests. Not here: the archive itself
(`made_archive.py`).
"""

import hashlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from audit_platform.archive.columns import ARROW_SCHEMA
from audit_platform.archive.manifest import FileEntry, Manifest
from audit_platform.archive.read import read_rows
from audit_platform.archive.verify_report import Kind, VerifyReport
from audit_platform.errors import ArchiveDamaged
from tests.unit.archive.made_archive import (
    MadeArchive,
    Row,
    batch_of,
    class_of,
)


def kinds(report: VerifyReport) -> set[Kind]:
    return {one.kind for one in report.mismatches}


def forged(archive: MadeArchive, number: int = 0) -> Manifest:
    """The manifest of somebody who changed a file and its entry: size, hash and rows are right."""

    def change(entry: FileEntry) -> FileEntry:
        if entry.path != archive.manifest.files[number].path:
            return entry
        data = archive.file(number).read_bytes()
        try:
            rows = pq.read_metadata(archive.file(number)).num_rows
        except (OSError, ValueError, pa.ArrowException):
            rows = entry.rows
        return replace(entry, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), rows=rows)

    return archive.with_files(change)


def rewrite(archive: MadeArchive, rows: list[Row], number: int = 0) -> Manifest:
    """Write other rows into a file, and a manifest that agrees with the file alone."""
    with pq.ParquetWriter(archive.file(number), ARROW_SCHEMA, store_schema=False) as writer:
        writer.write_batch(batch_of(rows))
    return forged(archive, number)


def rows_in(archive: MadeArchive, number: int = 0) -> list[Row]:
    """Rows of one file, in its order."""
    wanted = archive.manifest.files[number].retention_class
    chosen = [row for row in archive.rows if class_of(row) == wanted]
    return sorted(chosen, key=lambda r: (r["tenant_id"].encode(), r["timestamp"], r["id"].bytes))


class flipped:  # noqa: N801 - reads as a statement
    """One random bit of one random byte of a file turned over, for one block."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self._path = path
        self._data = path.read_bytes()
        self._offset = rng.randrange(len(self._data))
        self._bit = 1 << rng.randrange(8)

    def __enter__(self) -> None:
        changed = bytearray(self._data)
        changed[self._offset] ^= self._bit
        self._path.write_bytes(changed)

    def __exit__(self, *_: object) -> None:
        self._path.write_bytes(self._data)


def contents(archive: MadeArchive, manifest: Manifest) -> list[dict[str, Any]] | None:
    try:
        batches = list(read_rows(archive.store, manifest.files))
    except ArchiveDamaged:
        return None
    return [row for batch in batches for row in batch.to_pylist()]
