"""Formats of import files and the names that suggest them (pure).

Here: what the command line offers, without loading a reader. Not here: reading
(`imports/files.py`).
"""

from enum import StrEnum
from pathlib import Path
from typing import Final


class FileFormat(StrEnum):
    """How a file holds its records; `json` is one array, `cloudtrail` is `{"Records": […]}`."""

    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"
    CLOUDTRAIL = "cloudtrail"


_SUFFIXES: Final = {
    ".ndjson": FileFormat.NDJSON,
    ".jsonl": FileFormat.NDJSON,
    ".json": FileFormat.NDJSON,
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.CSV,
    ".parquet": FileFormat.PARQUET,
}


def format_of_name(path: Path) -> FileFormat | None:
    """Format that the name suggests, `.gz` left out; None if it suggests nothing."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None
