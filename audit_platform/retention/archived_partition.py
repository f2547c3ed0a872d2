"""What of a partition lies in the archive, and whether it is what was sealed.

Here: which states have files, which of the files are left, the verification against what
`audit.partition` says. Not here: the verification itself (`archive/verify.py`), deleting files
(`retention/expire.py`), bringing rows back (`retention/restore.py`).
"""

from typing import Final

from audit_platform.archive.manifest import FileEntry, manifest_path
from audit_platform.archive.store import ArchiveStore, read_bytes
from audit_platform.archive.verify import Recorded, verify
from audit_platform.archive.verify_report import VerifyReport
from audit_platform.errors import StepRefused
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import PartitionRow

ARCHIVED: Final = frozenset(
    {State.EXPORTED, State.VERIFIED, State.DETACH_STARTED, State.DETACHED, State.DROPPED}
)
"""States in which files hold all rows of a partition."""


def live_files(row: PartitionRow) -> tuple[FileEntry, ...]:
    """Files that were not deleted on purpose, nor are being deleted."""
    return tuple(one for one in row.files if one.expiring_at is None and one.expired_at is None)


def expired_paths(row: PartitionRow) -> frozenset[str]:
    """Paths of the other files."""
    return frozenset(one.path for one in row.files) - {one.path for one in live_files(row)}


def check_archived(row: PartitionRow) -> None:
    """Refuse a partition whose rows no file holds.

    Raises:
        StepRefused: It was not exported yet, or all its files expired.
    """
    if row.state not in ARCHIVED:
        reason = f"it is {row.state}: its rows are in PostgreSQL and in no archive"
        raise refusal(row, "state", reason)
    if row.files and not live_files(row):
        raise refusal(row, "expired", "all its files expired; only its roots are left")


def verify_archived(row: PartitionRow, store: ArchiveStore) -> VerifyReport:
    """Verify the files that are left against what is recorded of the partition, in this process.

    Args:
        row: Archived.
        store: The archive, or its second copy.

    Raises:
        ArchiveMissing: The manifest is not there.
        ArchiveUnavailable: The store does not answer.
    """
    recorded = Recorded(
        manifest_sha256=row.manifest_sha256, root=row.root, expired=expired_paths(row)
    )
    manifest = read_bytes(store, manifest_path(row.lo, row.hi, row.generation))
    return verify(manifest, store, recorded=recorded)


def refusal(row: PartitionRow, reason: str, why: str) -> StepRefused:
    """Say why a partition is not brought back."""
    return StepRefused(f"{row.name} is not restored: {why}", name=row.name, reason=reason)
