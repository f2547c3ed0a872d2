"""One archived file as a search reads it: row group by row group, column by column.

Here: opening the file in the first store that has it, its statistics, some columns, some rows. Not
here: which files (`search/cold.py`), which rows (`search/cold_filter.py`), the form of a file
(`archive/columns.py`), proof that it is the one that was written (`archive/verify.py`).
Guarantees: a file that is missing, is not the one of its entry or cannot be decoded is read from
the next store; only when no store has it is that an error. What is decoded has a right checksum.
Memory: the asked columns of one row group.

A search does not hash a file first, as a restore does: it would read all of it for a few pages.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from audit_platform.archive.columns import ARROW_SCHEMA, COLUMNS
from audit_platform.archive.manifest import FileEntry
from audit_platform.archive.store import ArchiveStore
from audit_platform.errors import ArchiveDamaged, ArchiveError
from audit_platform.integrity.leaf import real_text
from audit_platform.search.cold_filter import Extremes
from audit_platform.search.hot import EventRow

_UUIDS: Final = ("id", "bulk_action_id", "batch_id")
_REAL: Final = "sampled_rate"
_TAKE_ROWS: Final = 8_192

_Result = TypeVar("_Result")


class ColdFile:
    """An open file; a context manager."""

    def __init__(self, stores: Sequence[ArchiveStore], entry: FileEntry) -> None:
        """Open the first good copy.

        Args:
            stores: In the order of trial, at least one.
            entry: Of `audit.partition`.

        Raises:
            ArchiveMissing: No store has it.
            ArchiveDamaged: It is not the file of its entry.
            ArchiveUnavailable: A store does not answer.
        """
        self._entry = entry
        self._untried = list(stores)
        self._problem: ArchiveError | None = None
        self._open = ExitStack()
        self._file = self._next_copy()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    @property
    def group_count(self) -> int:
        """Number of row groups."""
        return self._file.num_row_groups

    def extremes(self, group: int, column: str) -> Extremes:
        """What the statistics of a row group say about a column."""
        metadata = self._file.metadata.row_group(group)
        position = self._file.schema_arrow.get_field_index(column)
        statistics = metadata.column(position).statistics
        if statistics is None:
            return Extremes()
        if statistics.has_null_count and statistics.null_count == metadata.num_rows:
            return Extremes(has_values=False)
        if not statistics.has_min_max:
            return Extremes()
        return Extremes(statistics.min, statistics.max)

    def read(self, group: int, columns: Sequence[str]) -> pl.DataFrame:
        """Read some columns of a row group, all its rows.

        Raises:
            ArchiveError: No store has a copy that can be decoded.
        """
        return self._from_any_copy(lambda file: _columns_of(file, group, columns))

    def take(self, group: int, rows: Sequence[int]) -> pl.DataFrame:
        """Read all columns of some rows of a row group.

        Args:
            group: Number of the row group.
            rows: Positions within it, ascending, at least one.

        Raises:
            ArchiveError: No store has a copy that can be decoded.
        """
        return self._from_any_copy(lambda file: pl.concat(_rows_of(file, group, rows)))

    def _from_any_copy(self, act: Callable[[pq.ParquetFile], _Result]) -> _Result:
        while True:
            try:
                return act(self._file)
            except (pa.ArrowException, OSError) as exc:
                self._problem = self._problem or self._damaged("cannot be decoded")
                self._problem.__cause__ = exc
            except ArchiveError as exc:
                self._problem = self._problem or exc
            self._file = self._next_copy()

    def _next_copy(self) -> pq.ParquetFile:
        while self._untried:
            store = self._untried.pop(0)
            self._open.close()
            try:
                return self._checked(store)
            except ArchiveError as exc:
                # What is wrong with the first copy is what somebody has to mend.
                self._problem = self._problem or exc
        self._open.close()
        assert self._problem is not None  # noqa: S101 - at least one store was tried
        raise self._problem

    def _checked(self, store: ArchiveStore) -> pq.ParquetFile:
        source = self._open.enter_context(store.open(self._entry.path))
        try:
            file = pq.ParquetFile(source, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as exc:
            raise self._damaged("cannot be decoded") from exc
        if not file.schema_arrow.equals(ARROW_SCHEMA, check_metadata=False):
            raise self._damaged("has other columns than this release")
        if file.metadata.num_rows != self._entry.rows:
            found, wanted = f"{file.metadata.num_rows:,}", f"{self._entry.rows:,}"
            raise self._damaged(f"holds {found} rows, its entry says {wanted}")
        return file

    def _damaged(self, what: str) -> ArchiveDamaged:
        path = self._entry.path
        message = f"{path} {what}: replace it by the second copy, then verify again"
        return ArchiveDamaged(message, path=path)


def _columns_of(file: pq.ParquetFile, group: int, columns: Sequence[str]) -> pl.DataFrame:
    table = file.read_row_group(group, columns=list(columns))
    # Parquet readers take any bytes for text; frames trust that it is text.
    table.validate(full=True)
    return pl.DataFrame(pl.from_arrow(table))


def _rows_of(file: pq.ParquetFile, group: int, rows: Sequence[int]) -> Iterator[pl.DataFrame]:
    """Decode as far as the last of the rows, keep those asked for only."""
    start, wanted = 0, list(rows)
    batches = file.iter_batches(batch_size=_TAKE_ROWS, row_groups=[group], columns=list(COLUMNS))
    while wanted:
        batch = next(batches)
        end = start + batch.num_rows
        here = [row - start for row in wanted if row < end]
        if here:
            batch.validate(full=True)
            yield pl.DataFrame(pl.from_arrow(batch))[here]
        start, wanted = end, wanted[len(here) :]


def events_of(rows: pl.DataFrame) -> list[EventRow]:
    """Give rows the form that `search/hot.py` gives them, values of the same types included."""
    return [_event_of(row) for row in rows.iter_rows(named=True)]


def _event_of(row: dict[str, Any]) -> EventRow:
    """Give each value the type that the PostgreSQL driver gives it."""
    for name in _UUIDS:
        if row[name] is not None:
            row[name] = UUID(bytes=row[name])
    if row[_REAL] is not None:
        row[_REAL] = _real(row[_REAL])
    return row


@lru_cache(maxsize=1_024)
def _real(value: float) -> float:
    """The driver reads the text of a `real`: 0.1, not the 0.10000000149 of its 32 bits."""
    return float(real_text(value))
