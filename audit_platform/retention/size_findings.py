"""What is remarkable about the sizes: each with what to do (pure).

Here: the thresholds and the sentences. Not here: reading the sizes (`retention/sizes.py`).
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from audit_platform.retention.sizes import StorageReport

MEBIBYTE: Final = 1 << 20
SMALL_BYTES: Final = 16 * MEBIBYTE
"""Below this nothing is worth an act."""
DEAD_SHARE: Final = 0.2
BLOAT_SHARE: Final = 0.3
UNUSED_FOR: Final = timedelta(days=30)
"""Indexes are judged by their use after this time: some serve an audit that comes monthly."""
FROZEN_AGE: Final = 1_000_000_000
"""Half of what the counter can hold; autovacuum should have acted at a fifth of this."""


def findings(report: StorageReport) -> list[str]:
    """List what an operator should look at, the gravest first; empty if all is well."""
    return [
        *_frozen(report),
        *_invalid(report),
        *_dead(report),
        *_bloated(report),
        *_not_analyzed(report),
        *_unused(report),
        *_log(report),
    ]


def readable_size(count: float) -> str:
    """Write bytes as people read them: 512 B, 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004 - the step of the units
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _frozen(report: StorageReport) -> Iterator[str]:
    for table in report.tables:
        if table.frozen_age > FROZEN_AGE:
            yield (
                f"{table.name}: {table.frozen_age:,} transactions since its oldest row was frozen; "
                "run VACUUM (FREEZE) on it now, the server stops at 2,000,000,000"
            )


def _invalid(report: StorageReport) -> Iterator[str]:
    for index in report.indexes:
        if not index.is_valid:
            yield f"{index.name}: the index is not valid and serves nobody; drop and build it again"


def _dead(report: StorageReport) -> Iterator[str]:
    for table in report.tables:
        if table.heap_bytes > SMALL_BYTES and table.dead_share > DEAD_SHARE:
            yield (
                f"{table.name}: {table.dead_rows:,} dead rows, {table.dead_share:.0%} of all; look "
                "for an old transaction that keeps vacuum from removing them"
            )


def _bloated(report: StorageReport) -> Iterator[str]:
    for table in report.tables:
        if (table.bloat_bytes or 0) > max(SMALL_BYTES, BLOAT_SHARE * table.heap_bytes):
            yield (
                f"{table.name}: about {readable_size(table.bloat_bytes or 0)} of "
                f"{readable_size(table.heap_bytes)} are empty; new rows fill them, VACUUM FULL "
                "gives them back and locks the table"
            )
    for index in report.indexes:
        if (index.bloat_bytes or 0) > max(SMALL_BYTES, BLOAT_SHARE * index.bytes_):
            yield (
                f"{index.name}: about {readable_size(index.bloat_bytes or 0)} of "
                f"{readable_size(index.bytes_)} are empty; REINDEX INDEX CONCURRENTLY gives "
                "them back"
            )


def _not_analyzed(report: StorageReport) -> Iterator[str]:
    for table in report.tables:
        if table.heap_bytes > SMALL_BYTES and table.analyzed_at is None:
            yield f"{table.name}: never analyzed, so plans guess; run ANALYZE, check autovacuum"


def _unused(report: StorageReport) -> Iterator[str]:
    since = report.database.counted_since
    if since is None or report.at - since < UNUSED_FOR:
        return
    for family in report.families():
        # A unique index keeps a rule, whether somebody reads it or not.
        if not family.scans and not family.is_unique and family.bytes_ > SMALL_BYTES:
            yield (
                f"{family.name}: {readable_size(family.bytes_)} of indexes, not used once since "
                f"{since:%Y-%m-%d}; each costs every insert 1 to 4 microseconds"
            )


def _log(report: StorageReport) -> Iterator[str]:
    database = report.database
    if (database.slot_bytes or 0) > database.max_wal_bytes:
        yield (
            f"a replication slot keeps {readable_size(database.slot_bytes or 0)} of write-ahead "
            "log; find it in pg_replication_slots, let it catch up or drop it"
        )
    if (database.wal_directory_bytes or 0) > 2 * database.max_wal_bytes:
        yield (
            f"the write-ahead log takes {readable_size(database.wal_directory_bytes or 0)}, "
            f"max_wal_size is {readable_size(database.max_wal_bytes)}; look at archive_command, "
            "slots and the speed of checkpoints"
        )
