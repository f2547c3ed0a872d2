"""Searches in the archive: the newest matching rows of one archived partition.

Here: which files of a partition are opened, rows kept for the pages that follow. Not here: which
partitions (`search/border.py`, `search/everywhere.py`), the rows (`search/cold_scan.py`).
Guarantees: the rows are those that the same search found while they were in PostgreSQL, with the
same values. A file is left alone when its entry (time, tenant) or a filter of its manifest says
that no row can match; from the beginning of its deletion it is left alone as well.

Pages that follow each other read ahead. Files are sorted by tenant, pages by time: a page of all
tenants takes a few rows out of every row group of a day, and an export would decode the day anew
for each of its pages.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import msgspec
import polars as pl

from audit_platform.archive.manifest import (
    FORMAT_VERSION,
    FileEntry,
    FileFilters,
    manifest_path,
)
from audit_platform.archive.store import ArchiveStore, open_store, read_bytes
from audit_platform.errors import ArchiveDamaged, ArchiveError, ArchiveMissing
from audit_platform.search.border import ArchivedPartition
from audit_platform.search.cold_file import ColdFile, events_of
from audit_platform.search.cold_filter import cold_filter, is_before
from audit_platform.search.cold_scan import scan
from audit_platform.search.hot import ArchiveUse, EventRow
from audit_platform.search.query import EventQuery, Position
from audit_platform.search.time_limit import NO_LIMIT, TimeLimit

MAX_MANIFESTS: Final = 64
"""Filters kept in memory: of two months; usually 100 KiB each, 12 MiB in the worst case."""
AHEAD_ROWS: Final = 100_000
AHEAD_BYTES: Final = 64 << 20
"""Rows read ahead, whichever is less."""


class _ManifestFiles(msgspec.Struct):
    """What a search needs of a manifest; the rest, maybe 100,000 groups, is not looked at."""

    format_version: int
    files: list[dict[str, Any]]


_decode_files: Final = msgspec.json.Decoder(_ManifestFiles).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Rows that one query found in one partition: all from `until` and `after` on, or the newest.

    Attributes:
        filters: The query without its position, limit and words.
        is_whole: Whether there are no older matches down to `since`.
    """

    partition: ArchivedPartition
    filters: EventQuery
    since: datetime
    until: datetime
    after: Position | None
    rows: pl.DataFrame
    is_whole: bool

    def serves(self, partition: ArchivedPartition, query: EventQuery) -> bool:
        """Whether it is about the same files and filters."""
        return self.partition == partition and self.filters == _filters_of(query)

    def page(
        self, query: EventQuery, *, since: datetime, until: datetime, wanted: int
    ) -> pl.DataFrame | None:
        """The newest rows of a part of it; None where it does not hold all of them."""
        after = query.after
        if until > self.until or (self.after is not None and not _is_further(after, self.after)):
            return None
        rows = self.rows
        if not rows.height:
            return rows if self.is_whole and since >= self.since else None
        if after is not None:
            rows = rows.filter(is_before(after))
        rows = rows.filter(pl.col("timestamp") <= until).head(wanted)
        if rows.height < wanted and not (self.is_whole and since >= self.since):
            return None
        return rows.filter(pl.col("timestamp") >= since)


class Archive:
    """Where archived files are read, in one place or two; for one thread."""

    def __init__(self, urls: Sequence[str]) -> None:
        """Remember the places; nothing is opened yet.

        Args:
            urls: As `archive/store.py::open_store` takes them, the first to be tried first.
        """
        self._urls = tuple(urls)
        self._filters: OrderedDict[str, Mapping[str, FileFilters]] = OrderedDict()
        self._stretch: _Stretch | None = None

    @cached_property
    def stores(self) -> tuple[ArchiveStore, ...]:
        """The stores; opened when a search needs them, most do not."""
        return tuple(open_store(url) for url in self._urls)

    def search(
        self,
        partition: ArchivedPartition,
        query: EventQuery,
        *,
        since: datetime,
        until: datetime,
        wanted: int,
        limit: TimeLimit = NO_LIMIT,
    ) -> tuple[list[EventRow], ArchiveUse]:
        """Find the newest matching rows of one archived partition.

        Args:
            partition: With its files.
            query: What to find; its own times and limit are not looked at, its position is.
            since: Aware, inclusive.
            until: Aware, inclusive.
            wanted: Rows at most.
            limit: Of the search.

        Returns:
            Rows as `search/hot.py` gives them, newest first, each event once; and what was read
            now: nothing where the pages before read ahead.

        Raises:
            InvalidQuery: The time of the search is over.
            ArchiveMissing: A file is in no store: it expired or was replaced since the snapshot,
                or it is lost.
            ArchiveDamaged: No store has a good copy.
            ArchiveUnavailable: A store does not answer.
        """
        known, ahead = self._stretch, wanted
        if known is not None and query.after is not None and known.serves(partition, query):
            rows = known.page(query, since=since, until=until, wanted=wanted)
            if rows is not None:
                return events_of(rows), ArchiveUse()
            ahead = max(wanted, _ahead(known.rows))
        found, use = self._scan(partition, query, since, until, wanted=ahead, limit=limit)
        self._stretch = _Stretch(
            partition=partition,
            filters=_filters_of(query),
            since=since,
            until=until,
            after=query.after,
            rows=found,
            is_whole=found.height < ahead,
        )
        return events_of(found.head(wanted)), use

    def _scan(
        self,
        partition: ArchivedPartition,
        query: EventQuery,
        since: datetime,
        until: datetime,
        *,
        wanted: int,
        limit: TimeLimit,
    ) -> tuple[pl.DataFrame, ArchiveUse]:
        limit.check(f"before the archive of {since:%Y-%m-%d}")
        # From the beginning of its deletion nobody reads a file.
        kept = [entry for entry in partition.files if entry.expiring_at is None]
        kept = [entry for entry in kept if entry.expired_at is None]
        chosen = self._choose(partition, kept, query, since=since, until=until)
        conditions = cold_filter(query, since=since, until=until)
        with ExitStack() as stack:
            files = [stack.enter_context(ColdFile(self.stores, entry)) for entry in chosen]
            found = scan(files, conditions, wanted=wanted, limit=limit)
            groups = sum(file.group_count for file in files)
        use = ArchiveUse(
            opened=len(chosen),
            skipped=len(kept) - len(chosen),
            expired=len(partition.files) - len(kept),
            groups_read=found.groups_read,
            groups_skipped=groups - found.groups_read,
        )
        return found.rows, use

    def _choose(
        self,
        partition: ArchivedPartition,
        entries: Sequence[FileEntry],
        query: EventQuery,
        *,
        since: datetime,
        until: datetime,
    ) -> list[FileEntry]:
        chosen = [
            entry
            for entry in entries
            if entry.rows
            and entry.min_timestamp <= until
            and entry.max_timestamp >= since
            and (query.tenant_id is None or entry.tenant in {None, query.tenant_id})
        ]
        # A manifest costs as much as the end of a file: it is read where its filters may know more
        # than the entries do.
        if query.tenant_id is None:
            return chosen
        asks_more = query.entity_type is not None or query.user_id is not None
        if not asks_more and all(entry.tenant == query.tenant_id for entry in chosen):
            return chosen
        filters = self._filters_of(partition)
        return [entry for entry in chosen if _may_hold(filters.get(entry.sha256), query)]

    def _filters_of(self, partition: ArchivedPartition) -> Mapping[str, FileFilters]:
        """Filters of a partition's files by SHA-256, out of its manifest.

        A manifest that is missing or damaged rules nothing out: its files are opened, and
        `archive/verify.py` finds what is wrong with it.
        """
        span = partition.span
        path = manifest_path(span.lo, span.hi, span.generation)
        found = self._filters.pop(path, None)
        if found is None:
            found = self._read_filters(path)
        self._filters[path] = found
        if len(self._filters) > MAX_MANIFESTS:
            self._filters.popitem(last=False)
        return found

    def _read_filters(self, path: str) -> Mapping[str, FileFilters]:
        problem: ArchiveError | None = None
        for store in self.stores:
            try:
                return _filters_in(read_bytes(store, path))
            except (ArchiveMissing, ArchiveDamaged):
                continue
            except ArchiveError as exc:
                problem = exc
        if problem is not None:
            raise problem
        return {}


def _filters_in(manifest: bytes) -> Mapping[str, FileFilters]:
    """Filters by SHA-256 of the file.

    Raises:
        ArchiveDamaged: It is no manifest that this program reads.
    """
    try:
        parts = _decode_files(manifest)
    except msgspec.MsgspecError as exc:
        raise ArchiveDamaged from exc
    if parts.format_version != FORMAT_VERSION:
        raise ArchiveDamaged
    entries = map(FileEntry.from_json, parts.files)
    return {entry.sha256: entry.filters for entry in entries if entry.filters is not None}


def _may_hold(filters: FileFilters | None, query: EventQuery) -> bool:
    if filters is None:
        return True
    tenant = str(query.tenant_id)
    if not filters.tenants.might_contain(tenant):
        return False
    if query.user_id is not None and not filters.users.might_contain(tenant, query.user_id):
        return False
    if query.entity_type is None:
        return True
    entity = [part for part in (query.entity_type, query.entity_id) if part is not None]
    return filters.entities.might_contain(tenant, *entity)


def _filters_of(query: EventQuery) -> EventQuery:
    return replace(query, since=None, until=None, after=None, period=None, limit=1)


def _is_further(position: Position | None, start: Position) -> bool:
    """Whether a position is the start of a stretch or comes after it."""
    return position is not None and _key(position) <= _key(start)


def _key(position: Position) -> tuple[datetime, bytes, str]:
    # The text of a UUID is ordered as its bytes are.
    return position.timestamp, position.tenant_id.encode(), position.event_id


def _ahead(rows: pl.DataFrame) -> int:
    if not rows.height:
        return 1
    row_bytes = max(int(rows.estimated_size()) // rows.height, 1)
    return min(AHEAD_ROWS, AHEAD_BYTES // row_bytes)
