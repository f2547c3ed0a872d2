"""How far an export is: what is kept of it on disk, and what it says while it runs (pure).

Here: the checkpoint with its strict JSON form, the report, the size of a page. Not here: writing
either (`exports/search_export.py`), the manifest of a finished export (`exports/manifest.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from audit_platform.errors import UnreadableFile
from audit_platform.events.event import format_timestamp
from audit_platform.search.query import MAX_LIMIT, EventQuery, Position

CHECKPOINT_VERSION: Final = 1
FIRST_PAGE_ROWS: Final = 500
MOST_PAGE_ROWS: Final = MAX_LIMIT
LEAST_PAGE_ROWS: Final = 50
PAGE_BYTES: Final = 16 << 20
"""What one page should hold in memory, judged by the page before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """One complete file of an export.

    Attributes:
        path: Below the destination, with slashes.
        sha256: Of its bytes, lower-case hexadecimal.
        newest: Time of its first event, in wire form; None without events. `oldest` likewise.
    """

    path: str
    sha256: str
    size_bytes: int
    rows: int
    newest: str | None
    oldest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """An export after its last complete file.

    Attributes:
        digest: Of the order; another order must not go on with these files.
        moment: When the export was begun.
        since: As relative words meant it then; None: from the beginning. `until` likewise, fixed.
        position: Where the next file starts; None before the first.
        is_last: Whether nothing follows.
        has_more: Whether more events match than were wanted.
    """

    digest: str
    moment: datetime
    since: datetime | None
    until: datetime
    files: tuple[ExportedFile, ...] = ()
    position: Position | None = None
    is_last: bool = False
    has_more: bool = False

    @property
    def rows(self) -> int:
        """Events in complete files."""
        return sum(file.rows for file in self.files)

    @property
    def size_bytes(self) -> int:
        """Bytes of complete files."""
        return sum(file.size_bytes for file in self.files)

    def resumed(self, query: EventQuery) -> EventQuery:
        """The query with the moments of the first attempt, from the end of the last file on."""
        return replace(query, since=self.since, until=self.until, after=self.position)

    def to_json(self) -> bytes:
        """Write it; `from_json` reads it back."""
        position = None
        if self.position is not None:
            position = {
                "timestamp": format_timestamp(self.position.timestamp),
                "tenant_id": self.position.tenant_id,
                "event_id": self.position.event_id,
            }
        record = {
            "version": CHECKPOINT_VERSION,
            "digest": self.digest,
            "moment": format_timestamp(self.moment),
            "since": self.since and format_timestamp(self.since),
            "until": format_timestamp(self.until),
            "files": [asdict(file) for file in self.files],
            "position": position,
            "is_last": self.is_last,
            "has_more": self.has_more,
        }
        return json.dumps(record, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> "Checkpoint":
        """Read it back.

        Raises:
            UnreadableFile: It is damaged, or another version wrote it.
        """
        try:
            record: dict[str, Any] = json.loads(content)
            if record["version"] != CHECKPOINT_VERSION:
                raise ValueError("another version")
            return cls(
                digest=str(record["digest"]),
                moment=_moment(record["moment"]),
                since=None if record["since"] is None else _moment(record["since"]),
                until=_moment(record["until"]),
                files=tuple(ExportedFile(**file) for file in record["files"]),
                position=_position(record["position"]),
                is_last=bool(record["is_last"]),
                has_more=bool(record["has_more"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise UnreadableFile(
                "the progress of this export cannot be read: export again under another name"
            ) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportProgress:
    """What an export says while it runs, files not yet complete included.

    Attributes:
        reached: Time of the last event written; they come newest first.
        share: Part of the period that is done, 0 to 1; None where it has no beginning.
        files_opened: Archived files that were read; 0 while only PostgreSQL was.
        files_skipped: Archived files that a filter ruled out.
    """

    rows: int
    bytes_: int
    files: int
    reached: datetime | None
    share: float | None
    files_opened: int = 0
    files_skipped: int = 0


def share_done(query: EventQuery, reached: datetime | None) -> float | None:
    """Part of the period between `until` and `since` that lies behind; None without both."""
    if reached is None or query.since is None or query.until is None:
        return None
    return min(max((query.until - reached) / (query.until - query.since), 0.0), 1.0)


def next_page_rows(rows: int, bytes_: int) -> int:
    """How many events to ask for, given a page of `rows` events that took `bytes_` in memory.

    Small events come by the thousand, since each page costs its planning; large ones by the
    hundred, so that memory stays the same.
    """
    if not rows:
        return FIRST_PAGE_ROWS
    return min(max(PAGE_BYTES * rows // max(bytes_, 1), LEAST_PAGE_ROWS), MOST_PAGE_ROWS)


def memory_of(row: Mapping[str, Any]) -> int:
    """Roughly what an event takes: its texts, and a thousand bytes for the rest."""
    return 1_000 + sum(len(value) for value in row.values() if isinstance(value, str))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _position(record: Mapping[str, str] | None) -> Position | None:
    if record is None:
        return None
    return Position(
        timestamp=_moment(record["timestamp"]),
        tenant_id=record["tenant_id"],
        event_id=record["event_id"],
    )
