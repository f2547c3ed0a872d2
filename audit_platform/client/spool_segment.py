"""One segment file of the spool: create, append, scan, cut, read.

Here: the file and what is known about its records. Not here: the bytes (`spool_format.py`), which
segment takes a record and when one is deleted (`client/spool.py`).
Guarantees: after `append` returned, the records survive a power loss. An `append` that raised
leaves nothing behind that counts, and the acknowledged records before it stay readable.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Generator, Sequence
from pathlib import Path
from threading import Lock
from typing import Final, Self

from audit_platform.client.index_file import read_index, remove_index, write_index
from audit_platform.client.private_files import FILE_MODE, sync_directory
from audit_platform.client.segment_index import Block, SegmentIndex
from audit_platform.client.spool_format import (
    HEADER_BYTES,
    Packed,
    SegmentHeader,
    SpoolRecord,
    SpoolStream,
    pack_header,
    scan,
    unpack_header,
    unpack_record,
)

_PIECE_BYTES: Final = 1 << 20
# The digit behind comes when a name is taken: by a segment that could not be removed.
_NAME: Final = re.compile(r"(\d{1,20})-(\d{1,20})(\.spill)?(\.\d+)?\.seg")


class NotASegment(Exception):
    """The file is no segment, or not the one that its name says."""


class SegmentDamaged(Exception):
    """A segment holds less than it did; `Segment.rescan` finds what is left."""

    def __init__(self, segment: "Segment") -> None:
        """Keep the segment for whoever looks again."""
        self.segment = segment
        super().__init__(segment.path.name)


class Segment:
    """A segment file; its owner sees to it that one thread writes."""

    def __init__(self, path: Path, header: SegmentHeader, stream: SpoolStream) -> None:
        """Describe a segment without records; use `create` or `load`."""
        self.path, self.header, self.stream = path, header, stream
        self.used_ms = header.created_ms
        # False after a failed fdatasync: the kernel may have dropped pages, so nothing is added.
        self.is_trusted = True
        self.lost = self._damaged = 0
        self._descriptor: int | None = None
        self._lock = Lock()
        self._index = SegmentIndex(HEADER_BYTES)

    @classmethod
    def create(
        cls,
        directory: Path,
        header: SegmentHeader,
        stream: SpoolStream,
        packed: Packed,
        seqs: Sequence[int],
    ) -> Self:
        """Make a segment with its first records, on the disk under its name.

        Raises:
            OSError: The disk did not take it; no file is left.
        """
        path, descriptor = _create_file(directory, header, stream)
        segment = cls(path, header, stream)
        segment._descriptor = descriptor
        try:
            _write_all(descriptor, pack_header(header), 0)
            segment.append(packed, seqs)
            sync_directory(directory)
        except BaseException:
            segment.remove()
            raise
        return segment

    @classmethod
    def load(cls, path: Path) -> Self:
        """Look at a segment that another process wrote: its index, or a scan that cuts the tail.

        `lost` then counts the records that the scan found damaged, a torn tail as one.

        Raises:
            NotASegment: Wrong header or name.
            OSError: The file cannot be read.
        """
        match = _NAME.fullmatch(path.name)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if match is None or not stat.S_ISREG(status.st_mode):
                raise NotASegment(path.name)
            header = unpack_header(os.pread(descriptor, HEADER_BYTES, 0))
            if header is None or (header.epoch, header.first_seq) != (int(match[1]), int(match[2])):
                raise NotASegment(path.name)
            stream = SpoolStream.SPILL if match[3] else SpoolStream.DURABLE
            segment = cls(path, header, stream)
            segment.used_ms = max(header.created_ms, status.st_mtime_ns // 1_000_000)
            known = read_index(path, header, status.st_size)
            if known is not None:
                segment._index, segment._damaged = known
            else:
                segment.lost = segment._scan(descriptor)
        finally:
            os.close(descriptor)
        if known is None:
            segment._cut(status)
            write_index(path, header, segment._index, damaged=segment._damaged)
        return segment

    def append(self, packed: Packed, seqs: Sequence[int]) -> None:
        """Write records behind the others: one write, one fdatasync.

        Raises:
            OSError: Nothing was added. `is_trusted` says whether the segment can go on.
        """
        descriptor = self._writable()
        try:
            _write_all(descriptor, packed.data, self.size_bytes)
        except OSError as exc:
            # A full disk is met at every byte; any other error speaks against this file.
            self.is_trusted = self._take_back(descriptor) and exc.errno == errno.ENOSPC
            raise
        try:
            os.fdatasync(descriptor)
        except OSError:
            self.is_trusted = False
            self._take_back(descriptor)
            raise
        with self._lock:
            self._index.add(seqs, packed.offsets, len(packed.data))

    def seal(self) -> None:
        """Close the file; it takes no more records. The time of its last use is kept in it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.utime(descriptor, ns=(self.used_ms * 1_000_000, self.used_ms * 1_000_000))
            os.close(descriptor)
            write_index(self.path, self.header, self._index, damaged=self._damaged)

    def abandon(self) -> None:
        """Close the file without a trace in it: in a forked child it belongs to the parent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def remove(self) -> None:
        """Delete the file; a file that cannot be deleted is found again at the next start."""
        self.abandon()
        with contextlib.suppress(OSError):
            self.path.unlink()
        remove_index(self.path)

    def rescan(self) -> int:
        """Look again at a closed file in which a read met damage; gives the records lost."""
        remove_index(self.path)
        with self._reading() as descriptor:
            return self._scan(descriptor)

    @property
    def size_bytes(self) -> int:
        """Bytes that count: the header and everything up to the last good record."""
        return self._index.end

    @property
    def span(self) -> tuple[int, int] | None:
        """Lowest and highest number; None without records."""
        with self._lock:
            ranges = self._index.ranges
            return (ranges.first, ranges.last) if ranges else None

    def ranges(self) -> list[tuple[int, int]]:
        """Give the numbers of the records as ranges."""
        with self._lock:
            return list(self._index.ranges)

    def blocks(self, first: int, last: int) -> list[Block]:
        """Name the pieces of the file that may hold some numbers."""
        with self._lock:
            return self._index.blocks(first, last)

    def read(self, blocks: Sequence[Block], first: int, last: int) -> Generator[SpoolRecord]:
        """Give the records of some pieces, in order.

        Raises:
            SegmentDamaged: A piece holds less than it did, or the file is gone.
            OSError: The file cannot be read.
        """
        with self._reading() as descriptor:
            for block in blocks:
                data = os.pread(descriptor, block.length, block.offset)
                found = scan(data, after_seq=-1, is_last=True).found
                if len(found) != block.records:
                    raise SegmentDamaged(self)
                for seq, position in found:
                    if seq > last:
                        return
                    if seq >= first:
                        yield unpack_record(data, position)

    @contextlib.contextmanager
    def _reading(self) -> Generator[int]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise SegmentDamaged(self) from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _writable(self) -> int:
        if self._descriptor is None:
            raise OSError(errno.EBADF, "the segment is closed")
        return self._descriptor

    def _take_back(self, descriptor: int) -> bool:
        try:
            os.ftruncate(descriptor, self.size_bytes)
        except OSError:
            return False
        return True

    def _scan(self, descriptor: int) -> int:
        """Read the whole file, and replace what was known about it; gives the records lost."""
        index, damaged, data = SegmentIndex(HEADER_BYTES), 0, b""
        last_seq = self.header.first_seq - 1
        is_torn = is_last = False
        while not (is_torn or is_last):
            piece = os.pread(descriptor, _PIECE_BYTES, index.end + len(data))
            is_last = not piece
            data += piece
            found, end, skipped, is_torn = scan(data, after_seq=last_seq, is_last=is_last)
            seqs = [seq for seq, _ in found]
            index.add(seqs, [offset for _, offset in found], end)
            last_seq = seqs[-1] if seqs else last_seq
            damaged += skipped + is_torn
            data = data[end:]
        lost = max(damaged - self._damaged, 0)
        with self._lock:
            self._index, self._damaged = index, damaged
        return lost

    def _cut(self, status: os.stat_result) -> None:
        """Cut what is behind the last good record; the time of the last use stays."""
        if status.st_size <= self.size_bytes:
            return
        with contextlib.suppress(OSError):
            os.truncate(self.path, self.size_bytes)
            self._damaged -= 1
            os.utime(self.path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _create_file(directory: Path, header: SegmentHeader, stream: SpoolStream) -> tuple[Path, int]:
    kind = ".spill" if stream is SpoolStream.SPILL else ""
    stem = f"{header.epoch}-{header.first_seq}{kind}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    number = 0
    while True:
        path = directory / (f"{stem}.{number}.seg" if number else f"{stem}.seg")
        try:
            return path, os.open(path, flags, FILE_MODE)
        except FileExistsError:
            number += 1


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write at an offset; a short write (file size limit, disk full) goes on until it fails."""
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)
