"""What is to be exported: filters as people write them, form, name (pure).

Here: the words of the command line and of Dagster's launchpad, the query they mean, and the digest
that tells one order from another. Not here: the work (`exports/search_export.py`), what filters
match (`search/query.py`).
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from audit_platform.errors import InvalidQuery
from audit_platform.events.event import format_timestamp
from audit_platform.search.cursor import fingerprint
from audit_platform.search.query import (
    TEXT_FILTERS,
    EventQuery,
    parse_entity,
    parse_metadata,
    parse_moment,
)

ROWS_PER_FILE: Final = 250_000
"""A quarter of what a spreadsheet opens; also what a killed export does again at most."""
MOST_ROWS_PER_FILE: Final = 1_000_000
MOST_FILTER_CHARACTERS: Final = 16_000
MOST_PATHS: Final = 100
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


class ExportFormat(StrEnum):
    """Form of the files."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchWords:
    """Filters as a person writes them; an empty text is an absent filter.

    Attributes:
        since: 2h, 7d, 2026-01-31 or an ISO 8601 time; inclusive. `until` likewise, exclusive.
        entity: `type` or `type:id`.
        action: Exact, or a prefix when it ends in `*`.
        where: Conditions on metadata, each `path=value`.
    """

    tenant: str | None = None
    since: str | None = None
    until: str | None = None
    user: str | None = None
    entity: str | None = None
    action: str | None = None
    status: str | None = None
    source: str | None = None
    correlation: str | None = None
    text: str | None = None
    where: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOrder:
    """One export.

    Attributes:
        name: Directory of its files; the same name again goes on with an interrupted export.
        query: What is exported; its limit and its position do not matter.
        rows_per_file: A file ends here; then the next begins.
        most_rows: The export ends here; None: everything.
    """

    name: str
    format: ExportFormat
    query: EventQuery
    rows_per_file: int = ROWS_PER_FILE
    most_rows: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be a directory or gives no rows.

        Raises:
            InvalidQuery: Names the option and the remedy.
        """
        if not _NAME.fullmatch(self.name):
            raise InvalidQuery(
                f"the name {self.name[:80]!a} of the export cannot be used; take up to 80 letters, "
                "digits, - and _, beginning with a letter or a digit"
            )
        if not 1 <= self.rows_per_file <= MOST_ROWS_PER_FILE:
            raise InvalidQuery(
                f"rows per file is {self.rows_per_file:,}; use 1 to {MOST_ROWS_PER_FILE:,}"
            )
        if self.most_rows is not None and self.most_rows < 1:
            raise InvalidQuery(f"most rows is {self.most_rows}; use 1 or more, or leave it out")
        filters = query_record(self.query)
        if (
            len(json.dumps(filters)) > MOST_FILTER_CHARACTERS
            or len(self.query.metadata) > MOST_PATHS
        ):
            raise InvalidQuery(
                f"the filters are longer than {MOST_FILTER_CHARACTERS:,} characters or name more "
                f"than {MOST_PATHS} metadata paths, which the log of exports cannot hold"
            )

    @property
    def digest(self) -> str:
        """Tells this order from another; equal words give an equal digest, whenever written."""
        content = [
            fingerprint(self.query).hex(),
            self.format.value,
            self.rows_per_file,
            self.most_rows,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def query_of(words: SearchWords, *, now: datetime) -> EventQuery:
    """Read the words.

    Args:
        words: As written.
        now: Aware; what 2h and 7d count back from.

    Raises:
        InvalidQuery: Names the filter and the remedy.
    """
    since, until = words.since or None, words.until or None
    entity_type, entity_id = parse_entity(words.entity) if words.entity else (None, None)
    return EventQuery(
        since=parse_moment(since, now=now, option="since") if since else None,
        until=parse_moment(until, now=now, option="until") if until else None,
        period=(since, until),
        tenant_id=words.tenant or None,
        user_id=words.user or None,
        entity_type=entity_type,
        entity_id=entity_id,
        action=words.action or None,
        status=words.status or None,
        source=words.source or None,
        correlation_id=words.correlation or None,
        text=words.text or None,
        metadata=parse_metadata(list(words.where)),
    )


def settled(query: EventQuery, *, now: datetime) -> EventQuery:
    """Fix the end of the period, so that what arrives during the export changes nothing."""
    return query if query.until is not None else replace(query, until=now)


def query_record(query: EventQuery) -> dict[str, Any]:
    """Give the filters that are set, as a manifest and the log hold them."""
    record: dict[str, Any] = {"tenant_id": query.tenant_id or "*"}
    for name in ("since", "until"):
        moment: datetime | None = getattr(query, name)
        if moment is not None:
            record[name] = format_timestamp(moment)
    for name in (*TEXT_FILTERS, "status", "text"):
        value: str | None = getattr(query, name)
        if value is not None:
            record[name] = value
    if query.metadata:
        record["metadata"] = dict(query.metadata)
    return record
