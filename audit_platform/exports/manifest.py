"""Manifest of a finished export: what was asked, what the files hold, their digests (pure).

Here: its form, and the list that `sha256sum -c` reads. Not here: the manifest of an archived
partition (`archive/manifest.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from audit_platform.errors import UnreadableFile
from audit_platform.events.event import format_timestamp
from audit_platform.exports.cells import COLUMNS
from audit_platform.exports.order import ExportFormat, ExportOrder, query_record
from audit_platform.exports.progress import Checkpoint, ExportedFile

FORMAT: Final = "audit-platform export v1"
_FORMS: Final[Mapping[ExportFormat, str]] = {
    ExportFormat.CSV: (
        "CSV of RFC 4180, UTF-8, every cell in quotes, a header per file; a cell that a "
        "spreadsheet would run as a formula begins with '; an empty cell is null or an empty "
        "text: for exact values export ndjson or parquet"
    ),
    ExportFormat.NDJSON: (
        "one JSON object per line, UTF-8; nulls are left out; changes, metadata and context are "
        "byte by byte as stored"
    ),
    ExportFormat.PARQUET: (
        "Parquet, zstd; timestamps in microseconds UTC, ids as UUID; changes, metadata and "
        "context are JSON text as stored"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedExport:
    """A finished export.

    Attributes:
        name: Directory below the destination.
        manifest_sha256: Of the manifest's bytes, lower-case hexadecimal.
        has_more: Whether more events match than were wanted.
    """

    name: str
    rows: int
    size_bytes: int
    files: tuple[ExportedFile, ...]
    manifest_path: str
    manifest_sha256: str
    query: Mapping[str, Any]
    has_more: bool


def manifest_of(order: ExportOrder, done: Checkpoint) -> dict[str, Any]:
    """Put a finished export into the form of a manifest; equal exports give equal ones."""
    return {
        "format": FORMAT,
        "name": order.name,
        "order_sha256": order.digest,
        "moment": format_timestamp(done.moment),
        "query": query_record(done.resumed(order.query)),
        "words": list(order.query.period or ()),
        "file_format": order.format.value,
        "form": _FORMS[order.format],
        "sorted": "newest first",
        "columns": list(COLUMNS),
        "rows": done.rows,
        "size_bytes": done.size_bytes,
        "most_rows": order.most_rows,
        "has_more": done.has_more,
        "files": [asdict(file) for file in done.files],
    }


def encode_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Write a manifest."""
    return json.dumps(manifest, indent=1, ensure_ascii=True).encode() + b"\n"


def read_manifest(content: bytes, *, path: str, sha256: str) -> tuple[str, FinishedExport]:
    """Read a manifest back.

    Args:
        content: Its bytes.
        path: Where it lies.
        sha256: Of the bytes.

    Returns:
        The digest of its order, and the export.

    Raises:
        UnreadableFile: It is damaged, or another version wrote it.
    """
    try:
        record: dict[str, Any] = json.loads(content)
        if record["format"] != FORMAT:
            raise ValueError("another version")
        export = FinishedExport(
            name=str(record["name"]),
            rows=int(record["rows"]),
            size_bytes=int(record["size_bytes"]),
            files=tuple(ExportedFile(**file) for file in record["files"]),
            manifest_path=path,
            manifest_sha256=sha256,
            query=dict(record["query"]),
            has_more=bool(record["has_more"]),
        )
        return str(record["order_sha256"]), export
    except (ValueError, KeyError, TypeError) as exc:
        raise UnreadableFile(
            "the manifest of an export of this name cannot be read: export under another name"
        ) from exc


def checksums_of(files: tuple[ExportedFile, ...]) -> bytes:
    """Write the list that `sha256sum -c` reads, run in the directory of the export."""
    lines = [f"{file.sha256}  {file.path.rpartition('/')[2]}\n" for file in files]
    return "".join(lines).encode()
