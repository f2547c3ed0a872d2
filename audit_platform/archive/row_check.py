"""Checks the rows of one archive file against the file's entry and the partition.

Here: leaves computed, times within the partition, ids that carry their time, the tenant, what the
entry says of the smallest and largest. Not here: reading (`archive/read.py`), what the leaves of
all files come to (`archive/leaf_sums.py`).
Guarantee: a row that disagrees is named by its id, never by its content. That a column changed
shows in the digest and in the root of its group; files hold no leaf to compare with.
"""

from datetime import datetime
from typing import Any, Final

import polars as pl

from audit_platform.archive.manifest import FileEntry
from audit_platform.archive.verify_report import Findings, Kind
from audit_platform.integrity.leaf import leaf_hashes

NAMED_ROWS: Final = 20
"""Rows of one file that are named for one kind of mismatch."""
_TIME_DIGITS: Final = 12


class FileRows:
    """The rows of one file, batch after batch.

    Attributes:
        rows: Rows seen so far.
    """

    def __init__(self, entry: FileEntry, *, lo: datetime, hi: datetime, findings: Findings) -> None:
        """Start before the first batch.

        Args:
            entry: What the manifest says of the file.
            lo: First moment of the partition.
            hi: End of the partition, exclusive.
            findings: Takes what disagrees.
        """
        self.rows = 0
        self._entry, self._lo, self._hi = entry, lo, hi
        self._findings = findings
        self._named: dict[Kind, int] = {}
        self._times: list[datetime] = []
        self._ids: list[str] = []

    def check(self, rows: pl.DataFrame) -> pl.Series:
        """Check one batch.

        Args:
            rows: As `read.frame_of` makes them, at least one.

        Returns:
            The leaf of each row, Binary, computed from its columns.
        """
        self.rows += rows.height
        self._note(
            Kind.BOUNDS,
            rows.filter((pl.col("timestamp") < self._lo) | (pl.col("timestamp") >= self._hi)),
            "the time of this row lies outside the partition",
        )
        self._note(
            Kind.IDS, rows.filter(_id_contradicts_time()), "the id of this row carries another time"
        )
        if self._entry.tenant is not None:
            self._note(
                Kind.TENANT,
                rows.filter(pl.col("tenant_id") != self._entry.tenant),
                "this row belongs to another tenant than its file",
            )
        self._times += _ends(rows["timestamp"])
        self._ids += _ends(rows["id"])
        return leaf_hashes(rows)

    def finish(self) -> None:
        """Compare the file as a whole with its entry, after its last batch."""
        entry, findings = self._entry, self._findings
        if self.rows != entry.rows:
            detail = f"holds {self.rows:,} rows, its entry says {entry.rows:,}"
            findings.add(Kind.ROWS, entry.path, detail)
        if not self.rows:
            return
        if (min(self._times), max(self._times)) != (entry.min_timestamp, entry.max_timestamp):
            findings.add(Kind.BOUNDS, entry.path, "its entry names other first or last times")
        if (min(self._ids), max(self._ids)) != (str(entry.min_id), str(entry.max_id)):
            findings.add(Kind.IDS, entry.path, "its entry names other smallest or largest ids")

    def _note(self, kind: Kind, rows: pl.DataFrame, detail: str) -> None:
        """Name the first rows of a kind, count the others."""
        named = self._named.get(kind, 0)
        ids = rows["id"].head(max(0, NAMED_ROWS - named)).to_list()
        for event_id in ids:
            self._findings.add(kind, f"event {event_id}", f"{detail} ({self._entry.path})")
        others = rows.height - len(ids)
        self._findings.add(kind, self._entry.path, f"{detail}: {others:,} more", count=others)
        self._named[kind] = named + len(ids)


def id_bytes(ids: pl.Series) -> list[bytes]:
    """Ids as text, as `read.frame_of` makes them, to 16 bytes each."""
    return ids.str.replace_all("-", "", literal=True).str.decode("hex").to_list()


def _id_contradicts_time() -> pl.Expr:
    """48 bits of a UUIDv7 are milliseconds since 1970; the seal demanded those of the time."""
    digits = pl.col("id").str.replace_all("-", "", literal=True).str.head(_TIME_DIGITS)
    milliseconds = pl.col("timestamp").dt.epoch("us").floordiv(1_000)
    return digits.str.to_integer(base=16) != milliseconds


def _ends(column: pl.Series) -> list[Any]:
    """Smallest and largest value of a column."""
    return [column.min(), column.max()]
