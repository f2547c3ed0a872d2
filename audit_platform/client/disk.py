"""The producer's directory: its slot, its spool, the numbers of this process.

Here: opening it once, the group commit of `durable` events, writing others for which memory is not
enough. Not here: files (`client/spool.py`, `client/slot.py`), when to write
(`client/custodian.py`).
Guarantee: `commit` returns only after the event is on disk; calls that wait at the same time share
one fdatasync.

Source: delivery design, sections 2 and 3. The first call that finds nobody writing writes for all
that wait; whoever comes meanwhile is in the next group. So a lone call waits for one fdatasync and
for no timer.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Condition, Lock
from typing import Final

from audit_platform.client.lane import Record, Run
from audit_platform.client.slot import Slot
from audit_platform.client.spool import Spool, SpoolRecord, SpoolStream
from audit_platform.errors import AuditUnavailable, SpoolError, SpoolFull

logger = logging.getLogger(__name__)

GROUP_SIZE: Final = 256
_RETRY_S: Final = 0.05
_REOPEN_S: Final = 5.0


class _Waiting:
    """One `durable` event of a call that waits for the disk."""

    __slots__ = ("epoch", "error", "is_done", "record")

    def __init__(self, epoch: int, record: SpoolRecord) -> None:
        self.epoch, self.record = epoch, record
        self.is_done = False
        self.error: Exception | None = None


class Disk:
    """What a client keeps on disk; opened with the first event."""

    def __init__(
        self,
        base: Path,
        producer_name: str,
        *,
        max_bytes: int,
        retain_s: float,
        epochs: Sequence[int],
        numbers: Callable[[], Sequence[int]],
        note_with: Callable[[Callable[[int, int], None]], None],
    ) -> None:
        """Keep where and how; nothing is opened yet.

        Args:
            base: Directory of all producers.
            producer_name: Names the directory of this one.
            max_bytes: Size of the spool at most.
            retain_s: How long confirmed `durable` events stay.
            epochs: Epoch of each lane of the buffer.
            numbers: Gives the last number of each lane.
            note_with: Told what keeps the number of a lane where it survives the process.
        """
        self._base, self._producer_name = base, producer_name
        self._max_bytes, self._retain_s = max_bytes, retain_s
        self._epochs, self._numbers, self._note_with = epochs, numbers, note_with
        self.slot: Slot | None = None
        self.spool: Spool | None = None
        self.last_error: str | None = None
        self._opening, self._failed_s = Lock(), float("-inf")
        self._lock = Lock()
        self._turn = Condition(self._lock)
        self._waiting: deque[_Waiting] = deque()
        self._is_writing = False
        self.is_leaving = False

    @property
    def slot_number(self) -> int:
        """Number of the slot; 0 while there is none."""
        return self.slot.number if self.slot is not None else 0

    @property
    def size_bytes(self) -> int:
        """Size of the spool."""
        return self.spool.size_bytes if self.spool is not None else 0

    def open(self) -> bool:
        """Claim a slot and open its spool; after a failure again at most every few seconds.

        A process that began without a slot has used the numbers of slot 0, so later only that
        one will do.

        Returns:
            Whether the disk can be used.
        """
        with self._opening:
            if self.spool is not None or self.is_leaving:
                return self.spool is not None
            if time.monotonic() - self._failed_s < _REOPEN_S:
                return False
            try:
                self._claim(is_late=self._failed_s > 0)
            except SpoolError as exc:
                self._failed_s, self.last_error = time.monotonic(), exc.message
                logger.warning("audit events are kept in memory alone: %s", exc.message)
            return self.spool is not None

    def _claim(self, *, is_late: bool) -> None:
        slot = Slot.claim(self._base, self._producer_name)
        if is_late and slot.number != 0:
            slot.release()
            self._failed_s = time.monotonic()
            return
        try:
            spool = self._spool_of(slot)
            state = slot.begin(self._epochs)
            self._note_with(state.writer)
            for lane, seq in enumerate(self._numbers()):
                state.record(lane, seq)
        except BaseException:
            slot.release()
            raise
        self.last_error = None
        self.slot, self.spool = slot, spool

    def _spool_of(self, slot: Slot) -> Spool:
        return Spool(
            slot.directory,
            max_bytes=self._max_bytes,
            retain_s=self._retain_s,
            clock_ms=lambda: time.time_ns() // 1_000_000,
        )

    def leftovers(self) -> list[tuple[Slot, Spool]]:
        """Slots of dead processes of this producer that left something, with their spools."""
        if self.slot is None:
            return []
        found: list[tuple[Slot, Spool]] = []
        try:
            slots = self.slot.leftovers()
        except OSError as exc:
            logger.warning("slots of other processes cannot be looked at: %s", exc.strerror)
            return []
        for slot in slots:
            try:
                found.append((slot, self._spool_of(slot)))
            except SpoolError as exc:
                slot.release()
                logger.warning("what another process left in the spool waits: %s", exc.message)
        return found

    def commit(self, epoch: int, record: Record, *, timeout_s: float) -> None:
        """Write a `durable` event; returns when it is on disk.

        Args:
            epoch: Of its lane.
            record: The event, with its bytes.
            timeout_s: Longest wait for room on the disk.

        Raises:
            AuditUnavailable: The disk cannot take it.
        """
        if type(record.payload) is not bytes:
            return  # given up meanwhile, and counted then
        written, deadline_s = SpoolRecord(record.seq, record.payload), time.monotonic() + timeout_s
        while True:
            try:
                if not self.open():
                    raise AuditUnavailable(_unavailable(self.last_error))
                self._write_in_group(_Waiting(epoch, written))
            except SpoolFull as exc:
                if time.monotonic() >= deadline_s:
                    raise AuditUnavailable(_unavailable(exc.message)) from exc
                with self._lock:
                    self._turn.wait(_RETRY_S)
            except SpoolError as exc:
                raise AuditUnavailable(_unavailable(exc.message)) from exc
            else:
                return

    def _write_in_group(self, mine: _Waiting) -> None:
        with self._lock:
            self._waiting.append(mine)
            while not mine.is_done:
                if self._is_writing:
                    self._turn.wait()
                    continue
                group = [
                    self._waiting.popleft() for _ in range(min(GROUP_SIZE, len(self._waiting)))
                ]
                self._is_writing = True
                self._lock.release()
                try:
                    self._write(group)
                finally:
                    self._lock.acquire()
                    self._is_writing = False
                    self._turn.notify_all()
        if mine.error is not None:
            raise mine.error

    def _write(self, group: Sequence[_Waiting]) -> None:
        for epoch in dict.fromkeys(one.epoch for one in group):
            part = sorted(
                (one for one in group if one.epoch == epoch), key=lambda one: one.record.seq
            )
            try:
                if self.spool is None:
                    raise AuditUnavailable(_unavailable(self.last_error))
                self.spool.append(epoch, [one.record for one in part], stream=SpoolStream.DURABLE)
            except Exception as exc:  # noqa: BLE001 - raised by each call that waits for it
                for one in part:
                    one.error = exc
            finally:
                for one in part:
                    one.is_done = True

    def write_run(self, run: Run) -> bool:
        """Write what the disk does not have of a run; False when it cannot."""
        records = [
            SpoolRecord(record.seq, record.payload)
            for record in run.records
            if not record.is_spooled and type(record.payload) is bytes
        ]
        return self.write(run.epoch, records)

    def write(self, epoch: int, records: Sequence[SpoolRecord]) -> bool:
        """Write events that memory should not hold any longer; False when the disk cannot."""
        if not self.open() or self.spool is None:
            return False
        try:
            if records:
                self.spool.append(epoch, records, stream=SpoolStream.SPILL)
        except SpoolError as exc:
            if self.last_error is None:
                logger.warning("audit events stay in memory: %s", exc.message)
            self.last_error = exc.message
            return False
        self.last_error = None
        return True

    def close(self) -> None:
        """Give the slot back; what is on disk waits for the next process."""
        with self._opening:
            self.is_leaving = True
            if self.spool is not None:
                self.spool.close()
            if self.slot is not None:
                self.slot.release()
            self.spool, self.slot = None, None

    def abandon_after_fork(self) -> None:
        """Forget, in a forked child, what belongs to the parent."""
        if self.spool is not None:
            self.spool.abandon_after_fork()
        if self.slot is not None:
            self.slot.abandon_after_fork()


def _unavailable(cause: str | None) -> str:
    return (
        f"durable event not accepted: {cause or 'the spool could not be opened'} "
        "Free or change AUDIT_SPOOL_DIR, then log it again."
    )
