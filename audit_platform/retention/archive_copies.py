"""Compares both copies of an archived partition with the hashes of its record, and mends one.

Here: what is missing or differs, of every file and of the manifest; replacing it by what the other
copy holds. Not here: the proof that the files hold the rows (`archive/verify.py`), and who refuses
to go on: the verification (`retention/advance.py`), the run before a detach
(`retention/walk.py`), the drop (`retention/drop.py`).
Guarantees: each copy is read from its first to its last byte; files whose rows were deleted on
purpose, or are being deleted, are left out; a copy is mended only with bytes that have the hash of
the record, and what is intact stays untouched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from audit_platform.archive.manifest import manifest_path
from audit_platform.archive.store import ArchiveStore, copy_file
from audit_platform.db.pool import Connection
from audit_platform.errors import ArchiveDamaged, ArchiveMissing, PartitionLost
from audit_platform.retention.partition_table import PartitionRow, one_at_a_time, read_partition

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
        return f"{self.name}: {self.findings[0]}{rest}; {_remedy(self.name, self.copies)}"


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
    places = _places(store, copy_store)
    findings = [
        finding
        for label, place in places
        for path, sha256 in wanted
        if (finding := _finding(place, path, sha256, label=label)) is not None
    ]
    return CopyComparison(
        name=row.name, copies=len(places), files=len(wanted), findings=tuple(findings)
    )


def repair_copies(
    conn: Connection, name: str, store: ArchiveStore, copy_store: ArchiveStore
) -> tuple[str, ...]:
    """Replace what one copy lacks, or holds otherwise than written, by what the other holds.

    Args:
        conn: As `audit_maint` or the owner.
        name: An archived partition.
        store: Where searches read from.
        copy_store: The second copy.

    Returns:
        What was mended, one finding each; empty if both were as recorded.

    Raises:
        PartitionLost: There is no such partition.
        PartitionBusy: Another process works on it.
        ArchiveDamaged: Neither copy of a file is good; files before it are mended.
        ArchiveUnavailable: A copy cannot be reached.
    """
    with one_at_a_time(conn, name):
        row = read_partition(conn, name)
        if row is None:
            raise PartitionLost(f"there is no partition {name}", name=name)
        places = _places(store, copy_store)
        return tuple(
            found for path, sha256 in _wanted(row) for found in _mend(places, path, sha256)
        )


def _mend(places: Sequence[tuple[str, ArchiveStore]], path: str, sha256: str) -> list[str]:
    found = {label: _finding(place, path, sha256, label=label) for label, place in places}
    good = [place for label, place in places if found[label] is None]
    if not good:
        raise ArchiveDamaged(
            f"{path} is good in no copy ({'; '.join(filter(None, found.values()))}): put it back "
            "from a backup of the archive; while its table exists, nothing is lost",
            path=path,
        )
    for label, place in places:
        if found[label] is not None:
            copy_file(good[0], place, path, sha256=sha256)
    return [one for one in found.values() if one is not None]


def _remedy(name: str, copies: int) -> str:
    if copies == 1:
        return "put it back from a backup of the archive"
    return f"`audit-platform restore --repair --partition {name}` takes it from the other copy"


def _places(store: ArchiveStore, copy_store: ArchiveStore | None) -> list[tuple[str, ArchiveStore]]:
    return [("archive", store), *([("second copy", copy_store)] if copy_store else [])]


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
