"""The history file: what the queue has taken from the demo's producers, one line each.

Here: writing and reading it. Not here: comparing it with the database (`traffic_balance.py`).
Guarantee: a line is written only after the producer's call has returned, so that every key in
the history is one the platform has promised to keep.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

_SUFFIX: Final = ".history"


class Taken(StrEnum):
    """How an event went into the queue."""

    GOOD = "good"
    LATE = "late"
    BAD = "bad"
    RESENT = "resent"


class History:
    """One producer's history file; use it as a context manager, from one thread."""

    def __init__(self, directory: Path, producer: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / f"{producer}{_SUFFIX}").open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def note(self, taken: Taken, key: str, kind: str = "") -> None:
        """Add one line.

        Args:
            taken: How it was sent.
            key: `traffic_faults.event_key` of the event.
            kind: Kind of fault of a bad one.
        """
        self._file.write(f"{taken}\t{key}\t{kind}\n")

    def close(self) -> None:
        """Bring all lines to the disk and close."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Everything that was accepted."""

    keys: frozenset[str] = frozenset()
    late_count: int = 0
    resent_count: int = 0
    bad_by_kind: Counter[str] = field(default_factory=Counter)


def read_history(directory: Path) -> Accepted:
    """Read all history files of a directory."""
    keys: set[str] = set()
    counts: Counter[str] = Counter()
    bad_by_kind: Counter[str] = Counter()
    for taken, key, kind in _lines(directory):
        counts[taken] += 1
        keys.add(key)
        if taken == Taken.BAD:
            bad_by_kind[kind] += 1
    return Accepted(
        keys=frozenset(keys),
        late_count=counts[Taken.LATE],
        resent_count=counts[Taken.RESENT],
        bad_by_kind=bad_by_kind,
    )


def _lines(directory: Path) -> Iterator[list[str]]:
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield line.rstrip("\n").split("\t")
