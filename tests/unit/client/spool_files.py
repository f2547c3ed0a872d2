"""Spools of tests: small limits, records that tell their number, a directory in memory."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from audit_platform.client.spool import Spool
from audit_platform.client.spool_format import SpoolRecord

EPOCH: Final = 7
DAY_MS: Final = 86_400_000
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a file system, not a name


class Clock:
    """Milliseconds that a test moves."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def open_spool(
    directory: Path,
    *,
    max_bytes: int = 1 << 30,
    retain_s: float = 86_400,
    clock: Clock | None = None,
    segment_bytes: int | None = None,
) -> Spool:
    return Spool(
        directory,
        max_bytes=max_bytes,
        retain_s=retain_s,
        clock_ms=clock or Clock(),
        segment_bytes=segment_bytes,
    )


def records(first: int, last: int, *, size: int = 20) -> list[SpoolRecord]:
    """Make records with consecutive numbers; each payload tells its number."""
    return [
        SpoolRecord(seq, f"{seq}:".encode().ljust(size, b"x")) for seq in range(first, last + 1)
    ]


def numbers(spool: Spool, epoch: int = EPOCH) -> list[int]:
    """Read everything of an epoch and give the numbers."""
    found: list[int] = []
    while batch := spool.read(epoch, found[-1] + 1 if found else 0, 1 << 62):
        found += [record.seq for record in batch]
    return found


def segment_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


@contextmanager
def memory_directory() -> Iterator[Path]:
    """Give a directory where fdatasync costs nothing."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="audit-spool-", dir=place) as name:
        yield Path(name)


def everything(_epoch: int, _first: int, _last: int) -> bool:
    """Answer of a database that has stored all."""
    return True


def nothing(_epoch: int, _first: int, _last: int) -> bool:
    """Answer of a database that has stored nothing."""
    return False
