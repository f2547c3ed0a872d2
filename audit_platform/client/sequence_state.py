"""Epochs and last numbers of one process, in a file that survives its SIGKILL.

Here: the file, mapped into memory, and reading those of dead processes. Not here: whose files they
are (`client/slot.py`).
Guarantees: what `record` wrote is read by the next process, however this one ended, as long as the
machine runs. After a power loss the numbers may be older; `unclean` says so.

In the byte order of the machine, which the file never leaves:

    magic "AUDSTA01" | boot id, 36 characters or zeros | crc32 u32 | started_ms u64 | lanes u64
    lane: epoch u64 | last_seq u64

The checksum covers all but the last numbers, which change without a lock.
"""

import mmap
import os
import struct
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self
from zlib import crc32

from audit_platform.client.private_files import FILE_MODE, sync_directory

MAGIC: Final = b"AUDSTA01"
_HEADER: Final = struct.Struct("=8s36sIQQ")
_HEADER_WORDS: Final = _HEADER.size // 8
_WORD_BYTES: Final = 8
MAX_LANES: Final = 4096
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class LaneEnd(NamedTuple):
    """The last number that an epoch gave; 0 when it gave none."""

    epoch: int
    last_seq: int


class EndedProcess(NamedTuple):
    """What a dead process left: its state file, its epochs, and whether to trust the numbers.

    `unclean`: the machine was started again since, or cannot say; numbers may be missing at the
    end.
    """

    path: Path
    ends: list[LaneEnd]
    unclean: bool


class NotAState(Exception):
    """The file is no state file, or it is damaged."""


class SequenceState:
    """State file of this process."""

    def __init__(self, path: Path, epochs: Sequence[int], *, started_ms: int) -> None:
        """Make the file and map it.

        It is written to the disk once, so that a power loss leaves the epochs, and so that its
        blocks exist: a mapped page without a block on a full disk would kill the process.

        Args:
            path: Must not exist.
            epochs: Of each lane, in order.
            started_ms: Milliseconds since 1970.

        Raises:
            OSError: The file cannot be made; none is left.
        """
        self.path, self._epochs = path, tuple(epochs)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
        try:
            os.write(descriptor, _pack(boot_id(), started_ms, self._epochs))
            os.fsync(descriptor)
            sync_directory(path.parent)
            mapped = mmap.mmap(descriptor, 0)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        # Every second word from the first last_seq on; the view keeps the mapping alive.
        self._last = memoryview(mapped).cast("Q")[_HEADER_WORDS + 1 :: 2]

    def record(self, lane: int, seq: int) -> None:
        """Note the last number that a lane has given; without effect after `close`."""
        self._last[lane] = seq

    @property
    def writer(self) -> Callable[[int, int], None]:
        """`record` without the cost of a Python call: for the hot path of `log()`."""
        return self._last.__setitem__

    def ends(self) -> list[LaneEnd]:
        """Give the present numbers, as the next process would read them."""
        return [LaneEnd(epoch, self._last[lane]) for lane, epoch in enumerate(self._epochs)]

    def close(self) -> None:
        """Let go of the file, which stays; later `record` calls go nowhere."""
        # Not released: a thread in `record` may still hold the view. It goes with its last user.
        self._last = memoryview(array("Q", self._last.tolist()))

    @classmethod
    def create(cls, directory: Path, epochs: Sequence[int], *, started_ms: int) -> Self:
        """Make the file under a free name of a directory.

        Raises:
            OSError: The file cannot be made.
        """
        number = 0
        while True:
            # Sorted by name, starts are in their order, also within a millisecond.
            name = f"{started_ms}_{number:03}.state" if number else f"{started_ms}.state"
            try:
                return cls(directory / name, epochs, started_ms=started_ms)
            except FileExistsError:
                number += 1


def read_state(path: Path) -> EndedProcess:
    """Read the file of a dead process.

    Raises:
        NotAState: Wrong form or checksum.
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    if len(data) < _HEADER.size:
        raise NotAState(path.name)
    magic, boot, crc, started_ms, lanes = _HEADER.unpack_from(data)
    if magic != MAGIC or lanes > MAX_LANES or len(data) != _HEADER.size + lanes * 2 * _WORD_BYTES:
        raise NotAState(path.name)
    words = struct.unpack_from(f"={2 * lanes}Q", data, _HEADER.size)
    epochs, last_seqs = words[::2], words[1::2]
    if crc != _checksum(boot, started_ms, epochs):
        raise NotAState(path.name)
    ends = [LaneEnd(epoch, last_seq) for epoch, last_seq in zip(epochs, last_seqs, strict=True)]
    present = boot_id()
    return EndedProcess(path, ends, unclean=not present or boot != present)


def boot_id() -> bytes:
    """Name this start of the machine in 36 characters; empty where it has no name."""
    try:
        return _BOOT_ID.read_bytes().strip()[:36]
    except OSError:
        return b""


def _pack(boot: bytes, started_ms: int, epochs: Sequence[int]) -> bytes:
    padded = boot.ljust(36, b"\0")
    header = _HEADER.pack(
        MAGIC, padded, _checksum(padded, started_ms, epochs), started_ms, len(epochs)
    )
    words = [word for epoch in epochs for word in (epoch, 0)]
    return header + struct.pack(f"={len(words)}Q", *words)


def _checksum(boot: bytes, started_ms: int, epochs: Sequence[int]) -> int:
    return crc32(struct.pack(f"=36sQ{len(epochs)}Q", boot, started_ms, *epochs))
