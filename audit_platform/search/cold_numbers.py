"""Archived rows for the count of completeness: the numbers they carry, and how many rows are gone.

Here: which partitions are counted from files, their three narrow columns, what retention deleted.
Not here: the comparison with the ledger (`events/row_check.py`), what is deleted and when
(`retention/expire.py`, `retention/late_expiry.py`).
Guarantees: rows count only from a file with the bytes that were written, of the first copy that is
so; a file without a good copy ends the count, with its name: numbers are never called lost because
they could not be read. A day that was attached again is PostgreSQL's. Memory: a batch, and ranges.

Which late rows were deleted only events of the log tell (`audit.late.expire`, of the platform's own
tenant, in PostgreSQL or archived). Whoever may append to the log could write more of them, and a
deletion that was killed before its commit has one too many: the sum is an upper bound.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow.parquet as pq

from audit_platform.archive.manifest import FileEntry
from audit_platform.archive.read import batches_of, frame_of, opened
from audit_platform.archive.store import ArchiveStore
from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.errors import ArchiveError
from audit_platform.events.act_event import SOURCE
from audit_platform.events.row_check import ArchivedCount, Deleted
from audit_platform.events.row_numbers import RowNumbers
from audit_platform.retention.late_expiry import EXPIRE_LATE_ACTION
from audit_platform.retention.partition_states import HOT_STATES

_NUMBERS: Final = ("producer_id", "producer_epoch", "producer_seq", "action")
_DELETION: Final = ("tenant_id", "source", "action", "metadata")
_MOST_ROWS: Final = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdNumbers:
    """Finds what is archived; an `ArchiveReader`.

    Attributes:
        stores: The archive, then its second copy if there is one.
        tenant_id: Of the platform's own events.
    """

    stores: Sequence[ArchiveStore]
    tenant_id: str

    def __call__(self, connection: Connection, /) -> "ColdRows":
        """Read the records of all partitions, and the deletions that PostgreSQL still holds.

        Raises:
            ArchiveDamaged: An entry has not the form that the export writes.
        """
        queries = load_queries("search")
        spans: list[tuple[datetime, datetime]] = []
        files: list[FileEntry] = []
        deleted = 0
        for lo, hi, state, entries in connection.execute(queries["list_all_archive_files"]):
            known = [FileEntry.from_json(one) for one in entries or ()]
            # Readers leave a marked file alone, so its rows are as good as gone.
            live = [one for one in known if one.expiring_at is None and one.expired_at is None]
            deleted += sum(one.rows for one in known) - sum(one.rows for one in live)
            if state not in HOT_STATES:
                spans.append((lo, hi))
                files += live
        acts = connection.execute(
            queries["list_late_deletions"],
            {
                "tenant_id": self.tenant_id,
                "source": SOURCE,
                "action": EXPIRE_LATE_ACTION,
                "los": [lo for lo, _ in spans],
                "his": [hi for _, hi in spans],
            },
        )
        late = sum(_rows_of(metadata) for (metadata,) in acts)
        return ColdRows(
            spans=tuple(spans),
            files=tuple(files),
            deleted=Deleted(archived=deleted, late=late),
            stores=tuple(self.stores),
            tenant_id=self.tenant_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdRows:
    """Archived partitions of one snapshot; an `ArchivedRows`.

    Attributes:
        spans: Ranges of the partitions.
        files: Oldest first, since they are the first to expire.
        deleted: What the snapshot knows of.
        stores: In the order of trial.
        tenant_id: Of the platform's own events.
    """

    spans: tuple[tuple[datetime, datetime], ...]
    files: tuple[FileEntry, ...]
    deleted: Deleted
    stores: tuple[ArchiveStore, ...]
    tenant_id: str

    def count(self, producer_ids: Sequence[int] | None) -> ArchivedCount:
        """Read the files one after the other.

        Args:
            producer_ids: Only these; None: all.

        Raises:
            ArchiveMissing: No store has a file. One that expired during the count is such a one: it
                is known as deleted when the command is run again.
            ArchiveDamaged: No store has a file with the bytes that were written.
            ArchiveUnavailable: A store does not answer, and no other has the file.
        """
        numbers, late = RowNumbers(), self.deleted.late
        for entry in self.files:
            found, deleted = self._count_file(entry, producer_ids)
            numbers.add(found)
            late += deleted
        deleted = Deleted(archived=self.deleted.archived, late=late)
        return ArchivedCount(numbers=numbers, deleted=deleted)

    def _count_file(
        self, entry: FileEntry, producer_ids: Sequence[int] | None
    ) -> tuple[RowNumbers, int]:
        problem: ArchiveError | None = None
        for store in self.stores:
            # From the start in each store: half of a first copy must not count twice.
            numbers, late = RowNumbers(), 0
            try:
                with opened(store, entry) as file:
                    for group in range(file.num_row_groups):
                        late += self._count_group(file, entry, group, numbers, producer_ids)
            except ArchiveError as exc:
                # What is wrong with the first copy is what somebody has to mend.
                problem = problem or exc
            else:
                return numbers, late
        assert problem is not None  # noqa: S101 - at least one store was tried
        raise problem

    def _count_group(
        self,
        file: pq.ParquetFile,
        entry: FileEntry,
        group: int,
        numbers: RowNumbers,
        producer_ids: Sequence[int] | None,
    ) -> int:
        """Add the numbers of a row group; returns the late rows whose deletion it records."""
        has_deletions = False
        for batch in batches_of(file, entry, _NUMBERS, groups=[group]):
            rows = frame_of(batch)
            has_deletions |= bool((rows["action"] == EXPIRE_LATE_ACTION).any())
            numbers.add_rows(rows, producer_ids)
        if not has_deletions:
            return 0
        wanted = (self.tenant_id, SOURCE, EXPIRE_LATE_ACTION)
        return sum(
            _rows_of(metadata)
            for batch in batches_of(file, entry, _DELETION, groups=[group])
            for *which, metadata in frame_of(batch).select(_DELETION).iter_rows()
            if tuple(which) == wanted
        )


def _rows_of(metadata: str | None) -> int:
    """Number of rows that an event says were deleted; 0 if it is no such event of ours."""
    try:
        found: Any = json.loads(metadata or "{}")
    except ValueError:
        return 0
    rows: Any = found.get("rows") if isinstance(found, dict) else None
    return rows if isinstance(rows, int) and 0 < rows < _MOST_ROWS else 0
