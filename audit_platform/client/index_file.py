"""The index of a closed segment in a file beside it, so that opening a full spool takes no scan.

Here: the file. Not here: the index (`client/segment_index.py`), the segment
(`client/spool_segment.py`).
Guarantee: an index is used only when its checksum fits and its segment has the length and the
header that it was made for; otherwise the segment is scanned. It is never needed, so no error of
its file matters.

In the byte order of the machine; on another one the checksum does not fit:

    magic "AUDIDX01" | crc32 u32 of the rest | damaged u32 | created_ms u64 | the index
"""

import contextlib
import os
import struct
from pathlib import Path
from typing import Final
from zlib import crc32

from audit_platform.client.private_files import FILE_MODE
from audit_platform.client.segment_index import SegmentIndex
from audit_platform.client.spool_format import SegmentHeader

MAGIC: Final = b"AUDIDX01"
_HEAD: Final = struct.Struct("=8sI")
_REST: Final = struct.Struct("=IQ")


def write_index(segment: Path, header: SegmentHeader, index: SegmentIndex, *, damaged: int) -> None:
    """Keep the index of a segment that takes no more records."""
    rest = _REST.pack(damaged, header.created_ms) + index.pack()
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with contextlib.suppress(OSError):
        descriptor = os.open(_beside(segment), flags, FILE_MODE)
        try:
            os.write(descriptor, _HEAD.pack(MAGIC, crc32(rest)) + rest)
        finally:
            os.close(descriptor)


def read_index(
    segment: Path, header: SegmentHeader, size_bytes: int
) -> tuple[SegmentIndex, int] | None:
    """Give the index of a segment and its damaged records; None: the segment must be scanned."""
    try:
        data = _beside(segment).read_bytes()
    except OSError:
        return None
    if len(data) < _HEAD.size + _REST.size:
        return None
    magic, crc = _HEAD.unpack_from(data)
    if magic != MAGIC or crc32(memoryview(data)[_HEAD.size :]) != crc:
        return None
    damaged, created_ms = _REST.unpack_from(data, _HEAD.size)
    index = SegmentIndex.unpack(data[_HEAD.size + _REST.size :])
    if index is None or index.end != size_bytes or created_ms != header.created_ms:
        return None
    return index, damaged


def remove_index(segment: Path) -> None:
    """Delete the index of a segment, if there is one."""
    with contextlib.suppress(OSError):
        _beside(segment).unlink(missing_ok=True)


def _beside(segment: Path) -> Path:
    return segment.with_suffix(".idx")
