"""The disk spool of one process slot: numbered events, kept until the database has them.

Here: which segment takes a record, limits, reading across segments, deletion. Not here: one file
(`client/spool_segment.py`), its bytes (`client/spool_format.py`), who may write
(`client/slot.py`), what is confirmed.
Guarantees: what `append` returned for is on the disk and is read again until `prune` was told that
it is confirmed. Nothing in the directory stops the spool from opening: what is no segment is set
aside and counted. Half of the room is never taken by spilled events.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from audit_platform.client.open_segments import OpenSegments
from audit_platform.client.private_files import as_spool_error
from audit_platform.client.seq_ranges import merge
from audit_platform.client.spool_directory import open_directory
from audit_platform.client.spool_format import (
    HEADER_BYTES,
    Packed,
    SegmentHeader,
    SpoolRecord,
    SpoolStream,
    pack_records,
)
from audit_platform.client.spool_reader import read_merged
from audit_platform.client.spool_room import Room
from audit_platform.client.spool_segment import Segment, SegmentDamaged
from audit_platform.crash_points import crash
from audit_platform.errors import SpoolFailed, SpoolFull

MAX_SEGMENT_BYTES: Final = 64 << 20
_MIN_SEGMENT_BYTES: Final = 64 << 10
# A segment may be deleted, or turn out damaged, while it is read.
_READ_ATTEMPTS: Final = 10


class Spool:
    """Segments of one directory; thread-safe, one process."""

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        retain_s: float,
        clock_ms: Callable[[], int],
        segment_bytes: int | None = None,
    ) -> None:
        """Open a directory: scan its segments, cut torn tails, set aside what is none.

        Args:
            directory: Made when missing; its owner holds the lock of the slot.
            max_bytes: Bytes of all segments at most; half of it for `SPILL`.
            retain_s: Confirmed `DURABLE` records stay this long after the last append.
            clock_ms: Milliseconds since 1970.
            segment_bytes: Size at which a new segment begins; None: 64 MiB, at most an eighth of
                the room.

        Raises:
            SpoolFull, SpoolFailed: The directory cannot be made or listed.
        """
        self._directory, self._clock_ms = directory, clock_ms
        self._retain_ms = retain_s * 1000
        size = segment_bytes or max(_MIN_SEGMENT_BYTES, min(MAX_SEGMENT_BYTES, max_bytes // 8))
        # Locks: that of a stream for everything that writes there; `_lock` for the list of
        # segments, never held during a system call. Always taken in this order.
        self._opened = {stream: OpenSegments(size) for stream in SpoolStream}
        self._lock = Lock()
        self._segments: defaultdict[int, list[Segment]] = defaultdict(list)
        self._room = Room(max_bytes, step_bytes=size)
        self._is_closed = False
        try:
            found = open_directory(directory)
        except OSError as exc:
            raise as_spool_error(exc, path=directory, act="open") from exc
        self.torn_records, self.bad_files = found.torn_records, found.bad_files
        for segment in found.segments:
            self._segments[segment.header.epoch].append(segment)
            self._room.add(segment.size_bytes, segment.stream)

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments, headers included."""
        return self._room.taken_bytes

    def append(self, epoch: int, records: Sequence[SpoolRecord], *, stream: SpoolStream) -> None:
        """Put records on the disk, with one write and one fdatasync.

        Args:
            epoch: Epoch of all records.
            records: Ascending numbers. Calls may come out of order, which costs a new segment
                now and then. None at all: nothing happens.
            stream: `SPILL` gets half of the room at most.

        Raises:
            SpoolFull: No room; nothing of `records` is kept. Another try can help.
            SpoolFailed: The disk fails; nothing of `records` is kept. The next call uses a new
                segment, so that one bad file does not stop the spool.
            ValueError: Numbers do not ascend, or a payload is above 1 MiB.
        """
        if not records:
            return
        packed = pack_records(records)
        seqs = [record.seq for record in records]
        with self._opened[stream].lock:
            try:
                self._append(epoch, packed, seqs, stream)
            except OSError as exc:
                error = as_spool_error(exc, path=self._directory, act="write")
                if isinstance(error, SpoolFull):
                    self._room.note_full_disk()
                raise error from exc
        crash("P_SPOOLED")

    def ranges(self, epoch: int) -> list[tuple[int, int]]:
        """Give the numbers on disk as (first, last), merged and ascending."""
        return merge(segment.ranges() for segment in self._of(epoch))

    def epochs(self) -> list[int]:
        """Name the epochs that have records, ascending."""
        with self._lock:
            return sorted(epoch for epoch, segments in self._segments.items() if segments)

    def read(
        self,
        epoch: int,
        first: int,
        last: int,
        *,
        max_records: int = 1000,
        max_bytes: int = 1 << 20,
    ) -> list[SpoolRecord]:
        """Read records in ascending order, each number once; stops at a limit.

        Args:
            epoch: Epoch of the records.
            first: Lowest number wanted.
            last: Highest number wanted.
            max_records: Records at most.
            max_bytes: Bytes of payloads at most; one record is given in any case.

        Raises:
            SpoolFailed: The disk fails. Damaged records are no error: they are counted and from
                then on missing in `ranges`.
        """
        for _ in range(_READ_ATTEMPTS):
            try:
                return read_merged(
                    self._of(epoch), first, last, max_records=max_records, max_bytes=max_bytes
                )
            except SegmentDamaged as damaged:
                self._look_again(damaged.segment)
            except OSError as exc:
                raise as_spool_error(exc, path=self._directory, act="read") from exc
        raise SpoolFailed(f"{self._directory} reads differently each time. Replace the disk.")

    def prune(self, is_confirmed: Callable[[int, int, int], bool]) -> int:
        """Delete segments whose records are all confirmed.

        A `SPILL` segment goes at once, a `DURABLE` one when its last append is older than
        `retain_s`, or, the oldest first, as long as more than three quarters of the room are
        taken or the last append met a full disk.

        Args:
            is_confirmed: Tells whether all numbers from first to last of an epoch are confirmed.

        Returns:
            Bytes freed.
        """
        # Not asked under a lock: the answer may need one that a caller of `append` holds.
        confirmed = [
            (segment, size_bytes)
            for segment in self._all()
            for size_bytes in [segment.size_bytes]
            if _is_confirmed(segment, is_confirmed)
        ]
        old_ms = self._clock_ms() - self._retain_ms
        before, target = self.size_bytes, self._room.take_target_bytes()
        for segment, size_bytes in sorted(confirmed, key=lambda one: one[0].used_ms):
            is_due = segment.stream is SpoolStream.SPILL or segment.used_ms < old_ms
            if is_due or self.size_bytes > target:
                self._delete(segment, size_bytes)
        return before - self.size_bytes

    def close(self) -> None:
        """Close the open segments; later appends fail."""
        self._is_closed = True
        for opened in self._opened.values():
            with opened.lock:
                opened.seal_all()

    def abandon_after_fork(self) -> None:
        """In a forked child: close the copies of the parent's files; takes no lock."""
        self._is_closed = True
        for opened in self._opened.values():
            opened.abandon_after_fork()

    def _append(self, epoch: int, packed: Packed, seqs: Sequence[int], stream: SpoolStream) -> None:
        """Write into the open segment, or into a new one; the stream's lock is held."""
        if self._is_closed:
            raise SpoolFailed("the disk spool is closed. Log before closing the client.")
        segment = self._opened[stream].choose(epoch, seqs[0], len(packed.data))
        needed = len(packed.data) + (0 if segment else HEADER_BYTES)
        if not self._room.reserve(needed, stream):
            raise SpoolFull(
                f"the disk spool is full: {self.size_bytes} bytes. Raise AUDIT_SPOOL_MAX_BYTES,"
                " or see why the database confirms nothing.",
                path=str(self._directory),
                max_bytes=self._room.max_bytes,
            )
        try:
            if segment is not None:
                segment.append(packed, seqs)
            else:
                header = SegmentHeader(epoch, seqs[0], self._clock_ms())
                segment = Segment.create(self._directory, header, stream, packed, seqs)
                self._opened[stream].add(segment)
                with self._lock:
                    self._segments[epoch].append(segment)
        except OSError:
            self._room.add(-needed, stream)
            if segment is not None and not segment.is_trusted:
                self._opened[segment.stream].seal(segment)
            raise
        segment.used_ms = self._clock_ms()

    def _of(self, epoch: int) -> list[Segment]:
        with self._lock:
            return list(self._segments.get(epoch, ()))

    def _all(self) -> list[Segment]:
        with self._lock:
            return [segment for segments in self._segments.values() for segment in segments]

    def _delete(self, segment: Segment, size_bytes: int) -> None:
        with self._opened[segment.stream].lock:
            # It may have grown since it was asked about, or be gone.
            if segment.size_bytes == size_bytes and segment in self._of(segment.header.epoch):
                self._forget(segment)
                segment.remove()

    def _forget(self, segment: Segment) -> None:
        self._opened[segment.stream].seal(segment)
        epoch = segment.header.epoch
        with self._lock:
            self._segments[epoch].remove(segment)
            if not self._segments[epoch]:
                del self._segments[epoch]
        self._room.add(-segment.size_bytes, segment.stream)

    def _look_again(self, segment: Segment) -> None:
        """Find what is left of a segment that a read could not follow."""
        with self._opened[segment.stream].lock:
            if segment not in self._of(segment.header.epoch):
                return  # pruned meanwhile
            before_bytes = segment.size_bytes
            self._opened[segment.stream].seal(segment)
            try:
                self.torn_records += segment.rescan()
            except (OSError, SegmentDamaged):
                self.torn_records += 1
                self._forget(segment)
                return
            self._room.add(segment.size_bytes - before_bytes, segment.stream)


def _is_confirmed(segment: Segment, is_confirmed: Callable[[int, int, int], bool]) -> bool:
    """Ask about the whole segment first: its ranges may be many."""
    epoch, span = segment.header.epoch, segment.span
    if span is None or is_confirmed(epoch, *span):
        return True
    return all(is_confirmed(epoch, first, last) for first, last in segment.ranges())
