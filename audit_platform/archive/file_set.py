"""The files of one export: rows go to the file of their date, class and tenant.

Here: which files are open, collecting row groups, beginning the next file, the second copy,
cleaning up after a failure or a kill. Not here: reading the rows (`archive/export.py`), one file
(`archive/parquet_file.py`), paths (`archive/manifest.py`).
Guarantees: memory is bounded by `PENDING_BYTES` of collected rows, one row group being encoded and
the filters, however many classes there are; a failed export removes the files it wrote, and one
after a killed export those that are left of it.
"""

import hashlib
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from types import TracebackType
from typing import Final, Self

import pyarrow as pa

from audit_platform.archive.columns import schema_fingerprint
from audit_platform.archive.manifest import (
    FileEntry,
    Manifest,
    belongs_to,
    data_path,
    dates_of,
    directory_of,
)
from audit_platform.archive.parquet_file import ParquetFile
from audit_platform.archive.routes import FileKey
from audit_platform.archive.store import ArchiveSink, ArchiveStore, copy_file, write_bytes
from audit_platform.crash_points import crash
from audit_platform.errors import ArchiveError

GROUP_BYTES: Final = 64 << 20
"""A row group ends here, too: 100,000 events of 64 KiB would be 6 GB."""
PENDING_BYTES: Final = 128 << 20
"""Rows of all open files that wait for their row group; beyond it the fullest file writes one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """What is exported, and how large its parts are.

    Attributes:
        name: Table without schema.
        lo: Its range, first moment; so is `hi`, exclusive.
        rows_per_group: Rows of a full row group.
        file_bytes: A file that is so large is the last but the next one.
    """

    name: str
    lo: datetime
    hi: datetime
    generation: int
    rows_per_group: int
    file_bytes: int

    def owns(self, path: str) -> bool:
        """Whether a path is one of this partition and generation, the manifest included."""
        return belongs_to(path, lo=self.lo, hi=self.hi, generation=self.generation)


@dataclass(slots=True, kw_only=True)
class _Open:
    """A file between its first row group and its footer."""

    path: str
    context: AbstractContextManager[ArchiveSink]
    sink: ArchiveSink
    parquet: ParquetFile


@dataclass(slots=True, kw_only=True)
class _Output:
    """The files of one key: the open one, and rows that wait."""

    key: FileKey
    pending: list[pa.RecordBatch] = field(default_factory=list[pa.RecordBatch])
    pending_rows: int = 0
    pending_bytes: int = 0
    number: int = 0
    file: _Open | None = None

    def put(self, rows: pa.RecordBatch) -> None:
        """Let rows wait."""
        self.pending.append(rows)
        self.pending_rows += rows.num_rows
        self.pending_bytes += rows.nbytes

    def take(self, count: int) -> list[pa.RecordBatch]:
        """Take the first rows, without copying them; at least `count` wait."""
        taken, self.pending = self.pending, []
        surplus = self.pending_rows - count
        self.pending_rows = self.pending_bytes = 0
        if surplus:
            last = taken.pop()
            taken.append(last.slice(0, last.num_rows - surplus))
            self.put(last.slice(last.num_rows - surplus))
        return taken


class FileSet:
    """Writes the files of one export; use it as a context, which cleans up after an error."""

    def __init__(
        self, store: ArchiveStore, copy_store: ArchiveStore | None, plan: ExportPlan
    ) -> None:
        """Prepare; nothing is written yet.

        Args:
            store: Takes each file first.
            copy_store: Takes a copy of each finished file; None keeps one copy.
            plan: What is exported.
        """
        self._store, self._copy_store, self._plan = store, copy_store, plan
        self._outputs: dict[FileKey, _Output] = {}
        self._entries: list[FileEntry] = []
        self._paths: list[str] = []
        self._labels = {
            "audit_platform.partition": plan.name,
            "audit_platform.generation": str(plan.generation),
            "audit_platform.schema": schema_fingerprint(),
        }

    def __enter__(self) -> Self:
        """Remove what a killed export of this generation left, its manifest first."""
        for store in self._stores():
            for day in dates_of(self._plan.lo, self._plan.hi):
                directory = directory_of(day)
                store.remove_leftovers(directory, self._plan.owns)
                left = [path for path in store.list(directory) if self._plan.owns(path)]
                for path in sorted(left, key=lambda path: path.endswith(".parquet")):
                    store.delete(path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """After an error: end open files without a name, remove finished ones."""
        if error is None:
            return
        for output in self._outputs.values():
            if output.file is not None:
                _abandon(output.file, error)
        for path in reversed(self._paths):
            for store in self._stores():
                with suppress(ArchiveError):
                    store.delete(path)

    def add(self, rows: pa.RecordBatch, key: FileKey) -> None:
        """Append rows to the file of a key.

        Args:
            rows: With `ARROW_SCHEMA`; over all calls of one key in the order of `SORTED_BY`.
            key: Whose rows they are.

        Raises:
            ArchiveError: The store refused a file.
        """
        if not rows.num_rows:
            return
        output = self._outputs.setdefault(key, _Output(key=key))
        output.put(rows)
        while output.pending_rows >= self._plan.rows_per_group:
            self._write_group(output, self._plan.rows_per_group)
        if output.pending_bytes > GROUP_BYTES:
            self._write_group(output, output.pending_rows)
        while sum(each.pending_bytes for each in self._outputs.values()) > PENDING_BYTES:
            fullest = max(self._outputs.values(), key=lambda each: each.pending_bytes)
            self._write_group(fullest, fullest.pending_rows)

    def close_finished(self, *, day: date, tenant: str) -> None:
        """Close files that get no further row, now that the rows have come to this day and tenant.

        Args:
            day: UTC date of the last row; rows come in the order of their dates.
            tenant: Of the last row; within a date they come in the order of tenants.
        """
        finished = [
            key
            for key in self._outputs
            if key.day < day or (key.tenant is not None and key.tenant != tenant)
        ]
        for key in finished:
            self._close(self._outputs.pop(key))

    def finish(self) -> tuple[FileEntry, ...]:
        """Close all files.

        Returns:
            Their entries, in the order of their paths.
        """
        for key in list(self._outputs):
            self._close(self._outputs.pop(key))
        return tuple(sorted(self._entries, key=lambda entry: entry.path))

    def write_manifest(self, manifest: Manifest) -> str:
        """Write the manifest to all copies, after the files it names; returns its SHA-256."""
        data = manifest.to_json()
        self._paths.append(manifest.path)
        for store in self._stores():
            write_bytes(store, manifest.path, data)
        return hashlib.sha256(data).hexdigest()

    def _stores(self) -> list[ArchiveStore]:
        return [store for store in (self._store, self._copy_store) if store is not None]

    def _write_group(self, output: _Output, count: int) -> None:
        group = output.take(count)
        if output.file is None:
            output.file = self._begin(output)
        output.file.parquet.write(*group)
        if output.file.sink.bytes_written >= self._plan.file_bytes:
            self._end(output)

    def _begin(self, output: _Output) -> _Open:
        path = data_path(
            lo=self._plan.lo,
            hi=self._plan.hi,
            day=output.key.day,
            retention_class=output.key.retention_class,
            tenant=output.key.tenant,
            generation=self._plan.generation,
            number=output.number,
        )
        output.number += 1
        context = self._store.write(path)
        sink = context.__enter__()
        return _Open(
            path=path,
            context=context,
            sink=sink,
            parquet=ParquetFile(sink, labels=self._labels),
        )

    def _close(self, output: _Output) -> None:
        # Outside the table of outputs it would be forgotten by a clean-up.
        self._outputs[output.key] = output
        if output.pending_rows:
            self._write_group(output, output.pending_rows)
        if output.file is not None:
            self._end(output)
        del self._outputs[output.key]

    def _end(self, output: _Output) -> None:
        """Give a complete file its name, then its second copy."""
        file = output.file
        assert file is not None  # noqa: S101 - callers have looked
        file.parquet.close()
        output.file = None
        self._paths.append(file.path)
        file.context.__exit__(None, None, None)
        entry = file.parquet.entry(
            path=file.path,
            retention_class=output.key.retention_class,
            tenant=output.key.tenant,
        )
        self._entries.append(entry)
        if self._copy_store is not None:
            copy_file(self._store, self._copy_store, entry.path, sha256=entry.sha256)
        crash("S_SECOND_COPY")


def _abandon(file: _Open, error: BaseException) -> None:
    file.parquet.abandon()
    with suppress(ArchiveError):
        file.context.__exit__(type(error), error, error.__traceback__)
