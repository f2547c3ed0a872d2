"""Where tests keep their files: in memory, where the machine has enough of it.

Here: the decision. A database per test is a few hundred files, and their making and deleting on
a disk was a third of the processor time of the whole run (2 cores, ext4, November 2026).
Not here: tests that need a disk of a kind; they make it (`chaos/harness/small_disk.py`).
A developer's own TMPDIR stays, and the full form of the fault tests keeps to the disk.
"""

import os
from pathlib import Path
from typing import Final

import psutil

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a file system, not a name
_NEEDED_BYTES: Final = 8 << 30
"""What the servers of three processes write between two checkpoints, twice."""


def place_in_memory() -> Path | None:
    """Name the directory for temporary files, or none where the usual one is to be used."""
    if "TMPDIR" in os.environ or os.environ.get("AUDIT_TEST_CHAOS") == "full":
        return None
    if not os.access(_MEMORY, os.R_OK | os.W_OK | os.X_OK):
        return None
    found = os.statvfs(_MEMORY)
    if found.f_flag & os.ST_NOEXEC:
        return None
    free_bytes = min(found.f_bavail * found.f_frsize, psutil.virtual_memory().available)
    return _MEMORY if free_bytes >= _NEEDED_BYTES else None
