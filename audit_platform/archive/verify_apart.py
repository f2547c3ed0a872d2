"""Verifies an archived partition in another process, without a database connection.

Here: starting the program of `archive/verify.py` and reading its answer. Not here: what it checks.
Guarantee: nothing of this process, no cache, no open file, no right in PostgreSQL, takes part in
the answer; a file that crashes the decoder ends that process and not this one.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final, Protocol

from audit_platform.archive.verify_report import VerifyReport
from audit_platform.errors import ArchiveUnavailable

MODULE: Final = "audit_platform.archive.verify"
_ANSWERS: Final = (0, 1)
_SHOWN_CHARACTERS: Final = 500


class Verifier(Protocol):
    """Reads an archived partition again; `verify_apart` is the one that does so as a program."""

    def __call__(
        self, url: str, manifest_path: str, *, manifest_sha256: bytes | None, root: bytes | None
    ) -> VerifyReport:
        """Say what is in the archive."""
        ...


def verify_apart(
    url: str,
    manifest_path: str,
    *,
    manifest_sha256: bytes | None = None,
    root: bytes | None = None,
    expired: tuple[str, ...] = (),
    work_dir: Path | None = None,
) -> VerifyReport:
    """Run the verification as a program of its own and wait for it.

    Args:
        url: Of the archive, or of its second copy.
        manifest_path: Below the URL.
        manifest_sha256: As recorded at export; None to take the manifest as it is.
        root: As recorded at the seal; likewise.
        expired: Paths of files that were deleted on purpose.
        work_dir: Where 52 bytes per row lie meanwhile; None for the system's place.

    Raises:
        ArchiveUnavailable: The program could not tell: the store does not answer, or it was killed.
    """
    command = [sys.executable, "-m", MODULE, url, manifest_path]
    if manifest_sha256 is not None:
        command += ["--manifest-sha256", manifest_sha256.hex()]
    if root is not None:
        command += ["--root", root.hex()]
    if work_dir is not None:
        command += ["--work-dir", str(work_dir)]
    if expired:
        command += ["--expired", *expired]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode in _ANSWERS:
        try:
            return VerifyReport.from_json(ended.stdout)
        except ValueError:
            pass  # told below, with what it wrote to the other stream
    said = ended.stderr.strip()[-_SHOWN_CHARACTERS:] or "it said nothing"
    raise ArchiveUnavailable(
        f"the verification of {manifest_path} ended with {ended.returncode} and no answer: {said}",
        path=manifest_path,
        exit_code=ended.returncode,
    )
