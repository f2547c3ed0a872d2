"""The history of a fault test: what each producer process attempted and what it was told.

Here: one file per producer process, written while it logs, read when all is over. Not here: what
must be stored (`oracle.py`).
Guarantee: the attempt is in the file before the call, the outcome after it; lines go out by one
`write` each with O_APPEND, so that SIGKILL of the writer costs no line. An attempt without an
outcome is unknown: it may be stored or not.
"""

import os
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from audit_platform.events.identity import TAIL_BITS, mint

_SUFFIX: Final = ".history"


class Mark(StrEnum):
    """First letter of a line."""

    ATTEMPT = "a"
    OK = "o"
    """The call returned: the event is accepted."""
    FAIL = "f"
    """The call refused the event; it is not accepted and should not be stored."""
    UNKNOWN = "u"
    """The call failed after it may have taken the event."""
    CLOSED = "c"
    """The client was closed in good order; last line of a file."""


def new_event_id() -> str:
    """Mint an id of this moment; `log(id=…)` takes it, and its time says when it was tried."""
    return mint(time.time_ns() // 1000, secrets.randbits(TAIL_BITS))


class HistoryFile:
    """The file of one producer process; safe to share between its threads."""

    def __init__(self, directory: Path, producer: str, *, start: int) -> None:
        """Open the file for appending.

        Args:
            directory: Made if missing.
            producer: Stable name of the producer.
            start: How often it was started before; each process has a file of its own.
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{producer}.{start:05d}{_SUFFIX}"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def attempt(self, event_id: str, durability: str) -> None:
        """Note a call that is about to be made."""
        self._write(f"{Mark.ATTEMPT} {event_id} {durability}\n")

    def outcome(self, mark: Mark, event_id: str) -> None:
        """Note how the call ended."""
        self._write(f"{mark} {event_id}\n")

    def closed(self) -> None:
        """Note that the client was closed: nothing excuses a loss of `standard` from then on."""
        self._write(f"{Mark.CLOSED} -\n")

    def _write(self, line: str) -> None:
        os.write(self._descriptor, line.encode())

    def close(self) -> None:
        """Bring all lines to the disk and close."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessHistory:
    """What one producer process did."""

    producer: str
    start: int
    attempts: tuple[str, ...]
    """Ids in the order of the calls."""
    durability: dict[str, str]
    outcomes: dict[str, Mark]
    is_closed: bool = False
    """Ended in good order; false for a killed process, and for one that still runs."""

    def ids(self, mark: Mark) -> set[str]:
        """Ids with one outcome."""
        return {event_id for event_id, found in self.outcomes.items() if found is mark}

    @property
    def ok(self) -> set[str]:
        """Accepted ids."""
        return self.ids(Mark.OK)

    @property
    def unknown(self) -> set[str]:
        """Ids whose call may or may not have taken the event."""
        return self.ids(Mark.UNKNOWN) | {one for one in self.attempts if one not in self.outcomes}


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that was attempted in one test."""

    processes: tuple[ProcessHistory, ...] = field(default=())

    @property
    def attempted(self) -> set[str]:
        """Every id."""
        return {one for process in self.processes for one in process.attempts}

    @property
    def ok(self) -> set[str]:
        """Accepted ids."""
        return {one for process in self.processes for one in process.ok}

    @property
    def unknown(self) -> set[str]:
        """Ids of unknown fate."""
        return {one for process in self.processes for one in process.unknown}

    def accepted_by_class(self) -> Counter[str]:
        """Number of accepted events per durability class."""
        return Counter(process.durability[one] for process in self.processes for one in process.ok)


def read_history(directory: Path) -> History:
    """Read all history files of a directory; a last line without its end is left out."""
    paths = sorted(directory.glob(f"*{_SUFFIX}"))
    return History(processes=tuple(_read(path) for path in paths))


def of_events(ok: Iterable[str], *, durability: str = "durable") -> History:
    """History of events that a test added by itself, all of them accepted."""
    ids = tuple(ok)
    return History(
        processes=(
            ProcessHistory(
                producer="test",
                start=0,
                attempts=ids,
                durability=dict.fromkeys(ids, durability),
                outcomes=dict.fromkeys(ids, Mark.OK),
            ),
        )
    )


def _read(path: Path) -> ProcessHistory:
    attempts: list[str] = []
    durability: dict[str, str] = {}
    outcomes: dict[str, Mark] = {}
    is_closed = False
    for mark, event_id, *rest in _lines(path):
        if mark == Mark.ATTEMPT:
            attempts.append(event_id)
            durability[event_id] = rest[0]
        elif mark == Mark.CLOSED:
            is_closed = True
        else:
            outcomes[event_id] = Mark(mark)
    producer, _, start = path.name.removesuffix(_SUFFIX).rpartition(".")
    return ProcessHistory(
        producer=producer,
        start=int(start),
        attempts=tuple(attempts),
        durability=durability,
        outcomes=outcomes,
        is_closed=is_closed,
    )


def _lines(path: Path) -> Iterator[list[str]]:
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    for line in whole.splitlines():
        yield line.split(" ")
