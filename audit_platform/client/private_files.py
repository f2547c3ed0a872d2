"""Directories and files that belong to one user, and the errors of their disk as ours.

Here: making directories so that they survive a power loss, setting wrong files aside, translating
`OSError`. Not here: what is in the files.
Guarantee: directories get mode 0700 and files 0600 when they are made.
"""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from audit_platform.errors import SpoolError, SpoolFailed, SpoolFull

FILE_MODE: Final = 0o600
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def make_directory(path: Path) -> None:
    """Make a directory, with its parents, and write its name to the disk.

    Raises:
        OSError: It cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    # A parent that we may enter but not read cannot be synchronised.
    with contextlib.suppress(PermissionError):
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Write the names in a directory to the disk: a new file survives a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> Path | None:
    """Rename a file that is not what its name says to `.bad`; None when even that fails."""
    for number in range(1000):
        target = path.with_name(f"{path.name}.{number}.bad" if number else f"{path.name}.bad")
        if target.exists():
            continue
        try:
            return path.rename(target)
        except OSError:
            return None
    return None


def as_spool_error(exc: OSError, *, path: Path, act: str) -> SpoolError:
    """Translate an error of the disk: full is worth another try, everything else is broken."""
    cause = exc.strerror or type(exc).__name__
    if exc.errno in _NO_SPACE:
        return SpoolFull(
            f"the disk spool cannot {act}: {cause}. Free space on the disk of {path}.",
            path=str(path),
            errno=exc.errno,
        )
    return SpoolFailed(
        f"the disk spool cannot {act}: {cause}. Check the disk and the rights of {path}.",
        path=str(path),
        errno=exc.errno,
    )
