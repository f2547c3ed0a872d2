"""A disk of a chosen size: a tmpfs, filled and freed by a test.

Here: mounting, filling, growing. Not here: errors of single system calls (`syscall_faults.py`).
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_BLOCK: Final = 65_536
MEBIBYTE: Final = 1 << 20


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        """Remember where it is mounted."""
        self.path = path
        self._ballast = path / "ballast"

    def free_bytes(self) -> int:
        """What still fits."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, *, leave_bytes: int = 0) -> int:
        """Take the room away; returns the size of the ballast."""
        with self._ballast.open("ab") as file:
            while (room := self.free_bytes() - leave_bytes) > 0:
                try:
                    file.write(b"\0" * min(_BLOCK, room))
                    file.flush()
                except OSError:
                    break
        return self._ballast.stat().st_size

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path, size_bytes: int, *, uid: int = 0) -> Iterator[SmallDisk]:
    """Mount a tmpfs for a block; skips the test where mounting is not allowed."""
    path.mkdir(parents=True, exist_ok=True)
    options = f"size={size_bytes},mode=711,uid={uid}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        # Lazy: a process that was killed may hold files for another moment.
        subprocess.run(["umount", "-l", str(path)], check=True)
