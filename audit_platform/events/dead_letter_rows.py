"""The table of dead letters as operators use it: find, read, claim, resolve.

Here: the statements and their values. Not here: encryption (`events/dead_letter.py`), what it means
to act on letters (`events/redrive.py`), inserting them (`events/ledger.py`).
Guarantee: a letter leaves the state open only through `resolve`; no row is ever deleted.

Why an act changes the digest: `(raw_digest, reason)` is unique, so that an entry delivered twice
makes one letter. Bytes that are sent again and are bad again must show up, though the drain may
see them before or after the act is marked. So `claim` moves the letter's digest away before
anything is sent: what comes back bad is a letter of its own, whichever comes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from audit_platform.db.pool import Connection, transaction, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import LockNotAvailable
from audit_platform.events.dead_letter import DeadLetterVault

REDRIVEN: Final = "redriven"
REDRIVING: Final = "redriving"


class LetterState(StrEnum):
    """Which letters to find."""

    OPEN = "open"
    RESOLVED = "resolved"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which letters; None does not restrict. `since` is inclusive, `until` exclusive."""

    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Open letters that the filter takes, or named ones; `is_again`: resolved ones too."""

    where: LetterFilter
    ids: Sequence[int] | None = None
    is_again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter without its bytes."""

    dead_id: int
    reason: str
    detail: str | None
    shard: int | None
    entry_id: str | None
    line_no: int | None
    """From 1 within the entry; 0: the entry as a whole."""
    size_bytes: int
    key_id: str
    first_seen: datetime
    resolved_at: datetime | None
    resolution: str | None

    @property
    def state(self) -> str:
        """`open`, `redriving` (an act on it was interrupted), or the resolution."""
        return self.resolution or LetterState.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedLetter:
    """One dead letter and its bytes; None when another key made them, or they were changed."""

    letter: Letter
    raw: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonCount:
    """How many letters one reason has."""

    reason: str
    open_count: int
    resolved_count: int
    oldest_open: datetime | None


class LetterTable:
    """`audit.dead_letter` through a connection of the owner."""

    def __init__(self, connection: Connection, vault: DeadLetterVault) -> None:
        """Take the connection and the key."""
        self._connection, self._vault = connection, vault
        self._queries = load_queries("dead_letters")

    def lock(self) -> None:
        """Be the only one who acts on letters, until the connection ends.

        Raises:
            LockNotAvailable: Another process acts on them.
        """
        if not self._rows("lock_dead_letters", {})[0][0]:
            raise LockNotAvailable(
                "another redrive or discard is running; start again when it has ended"
            )

    def find(
        self, where: LetterFilter, state: LetterState, *, limit: int, before_id: int | None = None
    ) -> list[Letter]:
        """Page through letters, newest first; `before_id` is the last one of the page before."""
        is_open = None if state is LetterState.ALL else state is LetterState.OPEN
        more = {"is_open": is_open, "limit": limit, "before_id": before_id}
        return [_letter(row) for row in self._rows("find_dead_letters", _values(where) | more)]

    def count(self, where: LetterFilter) -> list[ReasonCount]:
        """Count by reason, most open ones first."""
        return [
            ReasonCount(reason=reason, open_count=n_open, resolved_count=done, oldest_open=oldest)
            for reason, n_open, done, oldest in self._rows(
                "count_dead_letters_by_reason", _values(where)
            )
        ]

    def read(self, dead_id: int) -> OpenedLetter | None:
        """Read one letter with its bytes; None if there is none."""
        rows = self._rows("read_dead_letter", {"dead_id": dead_id})
        return self._opened(rows[0]) if rows else None

    def last_id(self) -> int:
        """Number of the newest letter; 0 if there is none."""
        return self._rows("last_dead_letter", {})[0][0]

    def take(
        self, selection: Selection, *, after_id: int, last_id: int, limit: int
    ) -> list[OpenedLetter]:
        """Next letters of a selection, by number, with their bytes."""
        values = _values(selection.where) | {
            "ids": None if selection.ids is None else list(selection.ids),
            "is_again": selection.is_again,
            "after_id": after_id,
            "last_id": last_id,
            "limit": limit,
        }
        return [self._opened(row) for row in self._rows("take_dead_letters", values)]

    def claim(self, ids: Sequence[int]) -> None:
        """Take letters out of the way of new ones; a claimed letter stays open."""
        with transaction(self._connection):
            self._connection.execute(self._queries["claim_dead_letters"], {"ids": list(ids)})

    def resolve(self, ids: Sequence[int], resolution: str) -> None:
        """Close letters with a word on how."""
        with transaction(self._connection):
            self._connection.execute(
                self._queries["resolve_dead_letters"], {"ids": list(ids), "resolution": resolution}
            )

    def _rows(self, query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        with translated():
            return self._connection.execute(self._queries[query], values).fetchall()

    def _opened(self, row: tuple[Any, ...]) -> OpenedLetter:
        letter, ciphertext = _letter(row[:-1]), bytes(row[-1])
        try:
            raw = self._vault.open(ciphertext) if letter.key_id == self._vault.key_id else None
        except ValueError:
            raw = None
        return OpenedLetter(letter=letter, raw=raw)


def _values(where: LetterFilter) -> dict[str, Any]:
    return {"reason": where.reason, "since": where.since, "until": where.until}


def _letter(row: tuple[Any, ...]) -> Letter:
    dead_id, reason, detail, shard, entry_id, line_no, size_bytes, key_id, *rest = row
    first_seen, resolved_at, resolution = rest
    return Letter(
        dead_id=dead_id,
        reason=reason,
        detail=detail,
        shard=shard,
        entry_id=entry_id,
        line_no=line_no,
        size_bytes=size_bytes,
        key_id=key_id,
        first_seen=first_seen,
        resolved_at=resolved_at,
        resolution=resolution,
    )
