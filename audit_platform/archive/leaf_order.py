"""Leaves in canonical order, in bounded memory.

Here: collecting leaves in the order of files, giving them back in order of `(id, leaf_hash)` with
the group of each. Not here: what a leaf covers (`integrity/leaf.py`), trees
(`integrity/merkle.py`), files (`archive/read.py`).
Guarantee: memory is bounded by `RUN_LEAVES` and a block per run, whatever the number of leaves; the
rest lies in one unnamed temporary file, which ends with the process, also a killed one.

A sort outside memory: files are sorted by tenant and time, a digest wants the order of ids, and
five million leaves as Python objects would be half a gigabyte.
"""

import os
import struct
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

ID_BYTES: Final = 16
LEAF_BYTES: Final = 32
_ID_END: Final = ID_BYTES
_LEAF_END: Final = ID_BYTES + LEAF_BYTES
_GROUP: Final = struct.Struct(">I")
_RECORD_BYTES: Final = _LEAF_END + _GROUP.size
RUN_LEAVES: Final = 262_144
"""Leaves sorted at once: about 25 MB of Python objects."""
OrderedLeaf = tuple[bytes, bytes, int]
"""Id (16 bytes), leaf (32 bytes), and the number of the group that was given with it."""
_BLOCK_LEAVES: Final = 8_192


@dataclass(slots=True)
class _Run:
    """One sorted stretch of the file, read block by block."""

    descriptor: int
    offset: int
    end: int
    records: list[bytes] = field(default_factory=list[bytes])
    position: int = 0

    def fill(self) -> bool:
        """Read the next block if the present one is used up; False at the end of the run."""
        if self.position < len(self.records):
            return True
        if self.offset >= self.end:
            return False
        wanted = min(_BLOCK_LEAVES * _RECORD_BYTES, self.end - self.offset)
        data = _read_exactly(self.descriptor, wanted, self.offset)
        self.offset += wanted
        self.records = _split(data)
        self.position = 0
        return True

    def take_until(self, bound: bytes) -> list[bytes]:
        """Take the records of the block that are not greater than a bound."""
        cut = bisect_right(self.records, bound, lo=self.position)
        taken = self.records[self.position : cut]
        self.position = cut
        return taken


class LeafOrder:
    """Takes leaves in any order and gives them back in canonical order, once."""

    def __init__(self, *, directory: Path | None = None, run_leaves: int = RUN_LEAVES) -> None:
        """Start empty.

        Args:
            directory: Where the temporary file is made; None for the system's place.
            run_leaves: Leaves sorted at once.
        """
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by close()
        self._run_leaves = run_leaves
        self._pending: list[bytes] = []
        self._ends: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the temporary file back; a repeat does nothing."""
        self._file.close()

    def add(self, ids: Iterable[bytes], leaves: Iterable[bytes], groups: Iterable[int]) -> None:
        """Take the leaves of some rows.

        Args:
            ids: 16 bytes each.
            leaves: 32 bytes each.
            groups: Number of the group of each, below 2^32.

        Raises:
            ValueError: The three differ in number.
        """
        texts: dict[int, bytes] = {}
        for event_id, leaf, group in zip(ids, leaves, groups, strict=True):
            number = texts.get(group)
            if number is None:
                number = texts[group] = _GROUP.pack(group)
            self._pending.append(event_id + leaf + number)
        if len(self._pending) >= self._run_leaves:
            self._spill()

    def blocks(self) -> Iterator[list[OrderedLeaf]]:
        """Give all leaves back in order of id, then leaf, in blocks of some thousands."""
        for block in self._record_blocks():
            yield [
                (
                    record[:_ID_END],
                    record[_ID_END:_LEAF_END],
                    _GROUP.unpack_from(record, _LEAF_END)[0],
                )
                for record in block
            ]

    def _record_blocks(self) -> Iterator[list[bytes]]:
        if not self._ends:
            self._pending.sort()
            yield from _blocks_of(self._pending)
            return
        self._spill()
        starts = [0, *self._ends[:-1]]
        runs = [
            _Run(self._file.fileno(), start, end)
            for start, end in zip(starts, self._ends, strict=True)
        ]
        while runs := [run for run in runs if run.fill()]:
            # Everything up to the smallest last record of a block is in memory now.
            bound = min(run.records[-1] for run in runs)
            block = [record for run in runs for record in run.take_until(bound)]
            # Sorted stretches one after the other: this sort finds and merges them.
            block.sort()
            yield block

    def _spill(self) -> None:
        if not self._pending:
            return
        self._pending.sort()
        self._file.write(b"".join(self._pending))
        self._file.flush()
        self._pending = []
        self._ends.append(self._file.tell())


def _blocks_of(records: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(records), _BLOCK_LEAVES):
        yield records[start : start + _BLOCK_LEAVES]


def _read_exactly(descriptor: int, wanted: int, offset: int) -> bytes:
    data = os.pread(descriptor, wanted, offset)
    while len(data) < wanted:
        more = os.pread(descriptor, wanted - len(data), offset + len(data))
        if not more:
            raise EOFError("the temporary file of leaves is shorter than what was written to it")
        data += more
    return data


def _split(data: bytes) -> list[bytes]:
    return [data[start : start + _RECORD_BYTES] for start in range(0, len(data), _RECORD_BYTES)]
