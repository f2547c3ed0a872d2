"""What the database knows about imports: how far each file came, and what arrived.

Here: the rows of `audit.import_file` and the questions to the ledger. Not here: reading files and
sending events (`imports/file_import.py`).
Guarantee: one process at a time imports a file with a mapping; a file's progress only grows until
it is sent again as a new epoch.
"""

import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from audit_platform.db.pool import Connection, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import UnreadableFile

_ID_BITS = 31
_EPOCH_BITS = 62


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportKey:
    """A file, by its content, with the mapping that reads it."""

    file_sha256: bytes
    mapping: str

    @property
    def producer_id(self) -> int:
        """31 bits that name this file and mapping as a producer."""
        return self._number(b"producer") >> (64 - _ID_BITS)

    @property
    def lock_key(self) -> int:
        """Key of the advisory lock, a signed 64-bit number."""
        return self._number(b"lock") - (1 << 63)

    def _number(self, purpose: bytes) -> int:
        material = b"\x1f".join((b"import", purpose, self.mapping.encode(), self.file_sha256))
        return int.from_bytes(hashlib.sha256(material).digest()[:8], "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportState:
    """How far an import came.

    Attributes:
        epoch: Epoch of the producer that this import is.
        sent: Records read so far, sent or rejected.
        rejected: How many of them were rejected.
        is_complete: Everything sent is in the ledger.
    """

    epoch: int
    sent: int
    rejected: int
    is_complete: bool

    @property
    def events(self) -> int:
        """Events sent, which is also the last sequence number given."""
        return self.sent - self.rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCounts:
    """What became of the events of an import, by the stamps of the rows."""

    new: int
    late: int
    dead: int


class ImportLedger:
    """The import tables, through one connection of `audit_maint` as `audit_owner`."""

    def __init__(self, connection: Connection) -> None:
        """Use a connection in autocommit mode: each step is a transaction of its own."""
        self._connection = connection
        self._queries = load_queries("imports")

    @contextmanager
    def locked(self, key: ImportKey) -> Iterator[None]:
        """Keep other processes from importing the same file at once.

        Raises:
            UnreadableFile: Another process imports it.
        """
        parameters = {"key": key.lock_key}
        row = self._one("lock_import", parameters)
        if not row[0]:
            raise UnreadableFile("the file is being imported by another process; wait for it")
        try:
            yield
        finally:
            if not self._connection.closed:
                self._one("unlock_import", parameters)

    def begin(self, key: ImportKey, path: Path, size_bytes: int) -> ImportState:
        """Start an import, or find the one that was started before."""
        self._run(
            "begin_import",
            self._parameters(key)
            | {"path": str(path), "bytes": size_bytes, "epoch": _random_epoch()},
        )
        return self._read(key)

    def restart(self, key: ImportKey, path: Path) -> ImportState:
        """Forget the progress; the events will be sent again as a new epoch."""
        self._run(
            "restart_import",
            self._parameters(key) | {"path": str(path), "epoch": _random_epoch()},
        )
        return self._read(key)

    def advance(self, key: ImportKey, state: ImportState, *, records: int | None) -> None:
        """Note what was sent; `records` is the length of the file, once known."""
        self._run(
            "advance_import",
            self._parameters(key)
            | {
                "epoch": state.epoch,
                "sent": state.sent,
                "rejected": state.rejected,
                "records": records,
            },
        )

    def finish(self, key: ImportKey, epoch: int) -> None:
        """Note that everything sent is in the ledger."""
        self._run("finish_import", self._parameters(key) | {"epoch": epoch})

    def count_arrived(self, key: ImportKey, epoch: int) -> int:
        """Count the events of an epoch that a committed batch took, whatever became of them."""
        parameters = {"producer_id": key.producer_id, "epoch": epoch}
        return int(self._one("count_arrived", parameters)[0])

    def count_stored(
        self,
        key: ImportKey,
        epoch: int,
        *,
        first: datetime,
        last: datetime,
        shard: int,
        entry_ids: Sequence[str],
    ) -> StoredCounts:
        """Count rows that carry the stamp of an epoch, and its dead letters.

        Args:
            key: File and mapping.
            epoch: Of the import.
            first: Earliest event time sent.
            last: Latest event time sent.
            shard: Where the entries went.
            entry_ids: Stream entries of this import, for the dead letters.
        """
        bounds = {"first": first, "last": last}
        stamp = {"producer_id": key.producer_id, "epoch": epoch}
        new, late = self._one("count_stored", stamp | bounds)
        entries = {"shard": shard, "entry_ids": list(entry_ids)}
        dead = self._one("count_dead_letters_of", entries)[0]
        return StoredCounts(new=new, late=late, dead=dead)

    def _read(self, key: ImportKey) -> ImportState:
        epoch, sent, rejected, state = self._one("read_import", self._parameters(key))
        return ImportState(
            epoch=epoch, sent=sent, rejected=rejected, is_complete=state == "complete"
        )

    def _parameters(self, key: ImportKey) -> dict[str, object]:
        return {"file_sha256": key.file_sha256, "mapping": key.mapping}

    def _run(self, name: str, parameters: Mapping[str, object]) -> None:
        with translated():
            self._connection.execute(self._queries[name], parameters)

    def _one(self, name: str, parameters: Mapping[str, object]) -> tuple[Any, ...]:
        with translated():
            row = self._connection.execute(self._queries[name], parameters).fetchone()
        return row or ()


def _random_epoch() -> int:
    return secrets.randbits(_EPOCH_BITS) + 1
