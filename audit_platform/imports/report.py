"""What an import says while it runs and when it ends (pure).

Here: the values that the command line shows. Not here: the import (`imports/file_import.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from audit_platform.errors import InvalidEvent
from audit_platform.imports.files import Record


class ImportPhase(StrEnum):
    """What an import does right now."""

    SENDING = "sending"
    QUEUE_FULL = "queue full"
    STORING = "storing"


class FileOutcome(StrEnum):
    """How the import of one file ended."""

    STORED = "stored"
    SENT = "sent"
    ALREADY_IMPORTED = "already imported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A record that was not sent, and why."""

    path: Path
    record: Record
    problem: InvalidEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportProgress:
    """Where an import is.

    Attributes:
        offset: Bytes of the file read.
        arrived: Events that the ledger has; 0 while sending.
    """

    path: Path
    phase: ImportPhase
    offset: int
    records: int
    sent: int
    rejected: int
    arrived: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What became of one file: `records` = events sent + `rejected`.

    Attributes:
        sent: Events sent, by this import and by the earlier one that it continued.
        new: Stored on time.
        late: Stored as late, because their partition is sealed or missing.
        dead: Set aside as dead letters.
        duplicates: Stored already.
    """

    path: Path
    outcome: FileOutcome
    records: int
    sent: int
    rejected: int
    new: int = 0
    late: int = 0
    dead: int = 0
    duplicates: int = 0


def count_total(reports: Sequence[FileReport]) -> Iterator[tuple[str, int]]:
    """Sum the counts of several files, by name, in the order of a report."""
    for name in ("records", "sent", "rejected", "new", "duplicates", "late", "dead"):
        yield name, sum(getattr(report, name) for report in reports)
