"""An archived day of three tenants, for tests of searches in files."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from audit_platform.search.border import ArchivedPartition, Span
from audit_platform.search.cold import Archive
from audit_platform.search.hot import ArchiveUse
from audit_platform.search.query import EventQuery, Position
from tests.archiving import DAY, stored_row

SPAN = Span(name="event_20260305", lo=DAY, hi=DAY + timedelta(days=1), generation=1)
LAST = SPAN.hi - timedelta(microseconds=1)
TENANTS = ("acme", "globex", "Ünï")


def day_rows(count: int = 120) -> list[dict[str, Any]]:
    """Rows of three tenants over a day, newest last; some share a microsecond."""
    return [
        stored_row(
            DAY + timedelta(minutes=10 * (number // 2)),
            tenant_id=TENANTS[number % 3],
            entity_id=str(number % 11),
            user_id=f"u{number % 7}",
            action=f"order.{'create' if number % 2 else 'delete'}",
            description=f"Ärger {number}",
            metadata=f'{{"n":{number}}}',
            sampled_rate=0.1,
        )
        for number in range(count)
    ]


def search_day(
    archive: Archive, partition: ArchivedPartition, query: EventQuery, *, wanted: int = 1_000
) -> tuple[list[dict[str, Any]], ArchiveUse]:
    rows, use = archive.search(partition, query, since=SPAN.lo, until=LAST, wanted=wanted)
    return [dict(row) for row in rows], use


def newest_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=key_of, reverse=True)


def key_of(row: dict[str, Any]) -> tuple[datetime, bytes, bytes]:
    return row["timestamp"], row["tenant_id"].encode(), row["id"].bytes


def position_of(row: dict[str, Any]) -> Position:
    return Position(timestamp=row["timestamp"], tenant_id=row["tenant_id"], event_id=str(row["id"]))
