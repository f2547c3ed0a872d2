"""The import of one file: read, map, send through the queue, wait for the ledger.

Here: the order of the steps, batches, progress, resumption. Not here: formats (`imports/files.py`),
mappings (`imports/mapping.py`), tables (`imports/ledger.py`), which partitions there are
(`retention/`, handed in).
Guarantee: a file can be imported any number of times, killed at any point: ids come from the
records, so each event is stored once. Every record is counted as sent or rejected.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from audit_platform.errors import InvalidEvent, UnreadableFile
from audit_platform.events.stream import MAX_ENTRY_BYTES, MAX_EVENTS_PER_ENTRY, BatchEntry, Stamp
from audit_platform.imports.edges import ImportEdges, ImportOptions
from audit_platform.imports.file_format import FileFormat
from audit_platform.imports.files import Record, digest_file, read_records
from audit_platform.imports.ledger import ImportKey, ImportState, StoredCounts
from audit_platform.imports.mapping import MappedEvent, map_record
from audit_platform.imports.mapping_rules import Mapping
from audit_platform.imports.report import (
    FileOutcome,
    FileReport,
    ImportPhase,
    ImportProgress,
    Rejection,
)

POLL_S: Final = 0.2
# Events lost by the queue are sent again; more rounds than this mean that it keeps losing them.
MAX_ROUNDS: Final = 3
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(slots=True)
class _Batch:
    """Events of the next entry, and the last record that belongs to it."""

    first_seq: int
    lines: list[bytes] = field(default_factory=list[bytes])
    moments: list[datetime] = field(default_factory=list[datetime])
    size_bytes: int = 0

    def takes(self, event: MappedEvent) -> bool:
        is_roomy = self.size_bytes + len(event.wire) + 1 <= MAX_ENTRY_BYTES
        return len(self.lines) < MAX_EVENTS_PER_ENTRY and is_roomy

    def add(self, event: MappedEvent) -> None:
        self.lines.append(event.wire)
        self.moments.append(event.timestamp)
        self.size_bytes += len(event.wire) + 1


class FileImport:
    """One file on its way; make one per file, then `run` it, or `send` and later `settle`."""

    def __init__(
        self,
        path: Path,
        file_format: FileFormat,
        mapping: Mapping,
        *,
        edges: ImportEdges,
        on_progress: Callable[[ImportProgress], None],
        on_rejection: Callable[[Rejection], None],
    ) -> None:
        """Prepare the import; reads nothing yet.

        Args:
            path: File.
            file_format: As detected or named.
            mapping: Turns its records into events.
            edges: Services.
            on_progress: Called after every batch and every look at the ledger.
            on_rejection: Called once per rejected record, again when a killed import repeats it.
        """
        self._path, self._format, self._mapping = path, file_format, mapping
        self._edges = edges
        self._on_progress, self._on_rejection = on_progress, on_rejection
        self._entry_ids: list[str] = []
        self._first: datetime | None = None
        self._last: datetime | None = None
        self._reported = 0
        self._offset = 0
        self._is_resumed = False
        self._sent: tuple[ImportKey, ImportState] | None = None

    def run(self, options: ImportOptions) -> FileReport:
        """Import the file, or find that it was imported before.

        Raises:
            As `send` and `settle`.
        """
        report = self.send(is_repeat=options.is_repeat)
        is_done = report.outcome is FileOutcome.ALREADY_IMPORTED or not options.is_waiting
        return report if is_done else self.settle()

    def send(self, *, is_repeat: bool) -> FileReport:
        """Read and send the file from where an earlier import ended.

        Args:
            is_repeat: Send a complete file once more, as another epoch.

        Raises:
            UnreadableFile: The file as a whole cannot be read; what was sent stays sent.
            QueueUnavailable: Redis does not answer; send it again, it continues.
            DatabaseUnavailable: PostgreSQL does not answer; likewise.
        """
        key = ImportKey(file_sha256=digest_file(self._path), mapping=self._mapping.key)
        ledger = self._edges.ledger
        with ledger.locked(key):
            state = ledger.begin(key, self._path, self._path.stat().st_size)
            if state.is_complete and not is_repeat:
                return self._report(FileOutcome.ALREADY_IMPORTED, state)
            if state.is_complete:
                state = ledger.restart(key, self._path)
            self._is_resumed = state.sent > 0
            state = self._send(key, state)
        self._sent = (key, state)
        return self._report(FileOutcome.SENT, state)

    def settle(self) -> FileReport:
        """Wait until the ledger has everything that `send` sent, and count what became of it.

        Raises:
            ValueError: Nothing was sent by this object.
            UnreadableFile: The queue keeps losing events.
            QueueUnavailable: Redis does not answer.
            DatabaseUnavailable: PostgreSQL does not answer.
        """
        if self._sent is None:
            raise ValueError("send the file first")
        key, state = self._sent
        ledger = self._edges.ledger
        with ledger.locked(key):
            state = self._await_ledger(key, state)
            counts = self._count(key, state)
            ledger.finish(key, state.epoch)
        return self._report(FileOutcome.STORED, state, counts)

    def _send(self, key: ImportKey, state: ImportState) -> ImportState:
        """Send every record after `state.sent`, in order; returns the state at the end."""
        batch = _Batch(first_seq=state.events + 1)
        for record in read_records(self._path, self._format):
            self._offset = record.offset
            if record.number <= state.sent:
                continue
            event = self._map(key, record)
            if event is not None and not batch.takes(event):
                # The record itself is not part of what was sent, so the state ends before it.
                self._flush(key, batch, state)
                batch = _Batch(first_seq=state.events + 1)
            if event is not None:
                batch.add(event)
            rejected = state.rejected + (event is None)
            state = replace(state, sent=record.number, rejected=rejected)
        self._flush(key, batch, state)
        self._edges.ledger.advance(key, state, records=state.sent)
        return state

    def _map(self, key: ImportKey, record: Record) -> MappedEvent | None:
        try:
            if record.problem is not None:
                raise record.problem
            fallback_id = f"{key.file_sha256.hex()}:{record.number}"
            event = map_record(record.raw, self._mapping, fallback_id=fallback_id)
        except InvalidEvent as exc:
            if record.number > self._reported:
                self._reported = record.number
                self._on_rejection(Rejection(path=self._path, record=record, problem=exc))
            return None
        self._first = min(self._first or event.timestamp, event.timestamp)
        self._last = max(self._last or event.timestamp, event.timestamp)
        return event

    def _flush(self, key: ImportKey, batch: _Batch, state: ImportState) -> None:
        """Send one entry, then note it; a kill in between sends it again with the same stamps."""
        if batch.lines:
            self._edges.open_partitions(batch.moments)
            self._await_room(state)
            entry = BatchEntry(
                shard=self._edges.shard,
                ndjson=b"\n".join(batch.lines),
                count=len(batch.lines),
                received_ms=self._edges.now_ms(),
                stamp=Stamp(
                    producer_id=key.producer_id, epoch=state.epoch, first_seq=batch.first_seq
                ),
            )
            self._entry_ids.append(self._edges.appender.append_batch(entry))
        self._edges.ledger.advance(key, state, records=None)
        self._progress(ImportPhase.SENDING, state, arrived=0)

    def _await_room(self, state: ImportState) -> None:
        while (
            self._edges.backlog.state(self._edges.shard).length >= self._edges.max_backlog_entries
        ):
            self._progress(ImportPhase.QUEUE_FULL, state, arrived=0)
            self._edges.pause(POLL_S)

    def _await_ledger(self, key: ImportKey, state: ImportState) -> ImportState:
        """Wait until every event sent is in the ledger; send again what the queue lost.

        Raises:
            UnreadableFile: The queue keeps losing events.
        """
        for _ in range(MAX_ROUNDS):
            if self._is_stored(key, state):
                return state
            state = self._send(key, replace(state, sent=0, rejected=0))
        raise UnreadableFile(
            f"{self._path.name}: the queue lost events {MAX_ROUNDS} times; check that Redis keeps "
            "its data (noeviction, no FLUSHALL), then import the file again"
        )

    def _is_stored(self, key: ImportKey, state: ImportState) -> bool:
        """Whether all of it arrived; False once the queue is empty and something is missing."""
        while True:
            # Entries leave the stream after their commit: ask the stream first, then the ledger.
            is_drained = self._is_drained()
            arrived = self._edges.ledger.count_arrived(key, state.epoch)
            self._progress(ImportPhase.STORING, state, arrived=arrived)
            if arrived >= state.events:
                return True
            if is_drained:
                return False
            self._edges.pause(POLL_S)

    def _is_drained(self) -> bool:
        """Whether all entries of this import have left the stream, committed or lost."""
        if self._entry_ids:
            return self._edges.backlog.is_drained_up_to(self._edges.shard, self._entry_ids[-1])
        return self._edges.backlog.state(self._edges.shard).length == 0

    def _count(self, key: ImportKey, state: ImportState) -> StoredCounts:
        if self._first is None or self._last is None or self._is_resumed:
            # What an earlier process sent may lie at any time.
            first, last = _EARLIEST, _LATEST
        else:
            first, last = self._first, self._last
        return self._edges.ledger.count_stored(
            key,
            state.epoch,
            first=first,
            last=last,
            shard=self._edges.shard,
            entry_ids=self._entry_ids,
        )

    def _progress(self, phase: ImportPhase, state: ImportState, *, arrived: int) -> None:
        self._on_progress(
            ImportProgress(
                path=self._path,
                phase=phase,
                offset=self._offset,
                records=state.sent,
                sent=state.events,
                rejected=state.rejected,
                arrived=arrived,
            )
        )

    def _report(
        self, outcome: FileOutcome, state: ImportState, counts: StoredCounts | None = None
    ) -> FileReport:
        known = counts or StoredCounts(new=0, late=0, dead=0)
        settled = known.new + known.late + known.dead
        return FileReport(
            path=self._path,
            outcome=outcome,
            records=state.sent,
            sent=state.events,
            rejected=state.rejected,
            new=known.new,
            late=known.late,
            dead=known.dead,
            # The law of conservation: what was sent and is none of these was stored before.
            duplicates=max(state.events - settled, 0) if counts else 0,
        )
