"""The segments that a directory holds when the spool opens.

Here: finding and scanning them. Not here: one file (`client/spool_segment.py`), what happens to
them afterwards (`client/spool.py`).
Guarantee: no file in the directory is an error; what is no segment is set aside and counted.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from audit_platform.client.index_file import remove_index
from audit_platform.client.private_files import make_directory, set_aside
from audit_platform.client.spool_segment import NotASegment, Segment

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Found:
    """What was there: segments with records, damaged records, files that are no segments."""

    segments: list[Segment] = field(default_factory=list[Segment])
    torn_records: int = 0
    bad_files: int = 0


def open_directory(directory: Path) -> Found:
    """Make a directory, or scan the segments in it.

    Raises:
        OSError: The directory cannot be made or listed.
    """
    make_directory(directory)
    found = Found()
    for path in sorted(directory.glob("*.seg")):
        _load(path, found)
    return found


def _load(path: Path, found: Found) -> None:
    try:
        segment = Segment.load(path)
    except NotASegment:
        found.bad_files += 1
        set_aside(path)
        remove_index(path)
        logger.warning("%s is no spool segment; it was set aside as .bad", path)
        return
    except OSError as exc:
        # It stays: the disk may give it back at the next start.
        found.bad_files += 1
        logger.warning("spool segment %s cannot be read: %s", path, exc.strerror)
        return
    if segment.lost:
        found.torn_records += segment.lost
        logger.warning("%s: %d torn or damaged records", path, segment.lost)
    if segment.span is None:
        segment.remove()
    else:
        found.segments.append(segment)
