"""Compares both copies of an archived partition with the hashes of its record.

Here: what is missing or differs, of every file and of the manifest. Not here: the proof that the
files hold the rows (`archive/verify.py`), the same question inside a drop, where it decides
(`retention/drop.py`).
Guarantee: each copy is read from its first to its last byte; files whose rows were deleted on
purpose are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from audit_platform.archive.manifest import manifest_path
from audit_platform.archive.store import ArchiveStore
from audit_platform.errors import ArchiveDamaged, ArchiveMissing
from audit_platform.retention.partition_table import PartitionRow

COPIES_REASON: Final = "copies"
"""Field `reason` of a refusal to detach what the archive no longer holds as it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyComparison:
    """What a look at the copies found.

    Attributes:
        name: The partition.
        copies: Copies that were read.
        files: Files of each, the manifest included.
        findings: One sentence each; empty if every copy is as recorded.
    """

    name: str
    copies: int
    files: int
    findings: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        if not self.findings:
            copies = f"{self.copies} cop{'y' if self.copies == 1 else 'ies'}"
            return f"{self.files} files of {self.name} are as written, in {copies}"
        more = len(self.findings) - 1
        rest = f" (and {more:,} more)" if more else ""
        return f"{self.name}: {self.findings[0]}{rest}; replace it by the other copy"


def compare_copies(
    row: PartitionRow, store: ArchiveStore, copy_store: ArchiveStore | None
) -> CopyComparison:
    """Hash every file of both copies.

    Args:
        row: An exported partition.
        store: Where searches read from.
        copy_store: The second copy; None where the platform keeps one.

    Raises:
        ArchiveUnavailable: A copy cannot be reached, so nothing is known of it.
    """
    wanted = list(_wanted(row))
    places = [("archive", store)] + ([("second copy", copy_store)] if copy_store else [])
    findings = [
        finding
        for label, place in places
        for path, sha256 in wanted
        if (finding := _finding(place, path, sha256, label=label)) is not None
    ]
    return CopyComparison(
        name=row.name, copies=len(places), files=len(wanted), findings=tuple(findings)
    )


def _wanted(row: PartitionRow) -> Iterator[tuple[str, str]]:
    if row.manifest_sha256 is not None:
        yield manifest_path(row.lo, row.hi, row.generation), row.manifest_sha256.hex()
    for entry in row.files:
        if entry.expiring_at is None and entry.expired_at is None:
            yield entry.path, entry.sha256


def _finding(store: ArchiveStore, path: str, sha256: str, *, label: str) -> str | None:
    try:
        found = store.sha256(path)
    except ArchiveMissing:
        return f"{path} is missing in the {label}"
    except ArchiveDamaged as exc:
        return f"{path} in the {label}: {exc.message}"
    return None if found == sha256 else f"{path} in the {label} is not what was written"
