"""A store that is full after a number of bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audit_platform.archive.local_store import LocalStore
from audit_platform.archive.store import ArchiveSink
from audit_platform.errors import ArchiveFull


class FailingStore(LocalStore):
    """A directory that is full after some bytes; no disk is filled to the byte as exactly."""

    def __init__(self, directory: Path, *, room_bytes: int) -> None:
        super().__init__(directory)
        self.room_bytes = room_bytes

    @contextmanager
    def write(self, path: str) -> Iterator[ArchiveSink]:
        with super().write(path) as sink:
            yield _FullSink(sink, self)


class _FullSink(ArchiveSink):
    def __init__(self, sink: ArchiveSink, store: FailingStore) -> None:
        super().__init__()
        self._sink, self._store = sink, store

    def _write_all(self, data: memoryview) -> None:
        self._store.room_bytes -= len(data)
        if self._store.room_bytes < 0:
            raise ArchiveFull
        self._sink.write(data)
