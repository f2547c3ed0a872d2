"""What a verification found, as a value and as JSON (pure).

Here: kinds of mismatches, the report, its JSON form for the way between two processes. Not
here: the verification (`archive/verify.py`), the other process (`archive/verify_apart.py`).
Guarantee: `from_json(to_json())` gives an equal report.
"""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final, cast

NAMED_MISMATCHES: Final = 100
"""A report names this many; it counts all."""


class Kind(StrEnum):
    """What disagrees."""

    MANIFEST = "manifest"
    """The manifest is no manifest, or not the one that was recorded."""
    MISSING = "missing"
    """A file is not there."""
    SIZE = "size"
    """A file is longer or shorter than written."""
    HASH = "hash"
    """A file holds other bytes than written."""
    SCHEMA = "schema"
    """A file or its manifest has other columns than this release."""
    ROWS = "rows"
    """A file or the whole has another number of rows."""
    UNREADABLE = "unreadable"
    """A file cannot be decoded."""
    BOUNDS = "bounds"
    """A row, or what an entry says of its rows, lies outside."""
    TENANT = "tenant"
    """A row belongs to another tenant than its file."""
    IDS = "ids"
    """Ids contradict the times, the manifest or each other."""
    GROUP = "group"
    """The rows of a tenant and class have another number or root."""
    DIGEST = "digest"
    """The leaves in order have another digest: some column of some row is not as sealed."""
    ROOT = "root"
    """The groups have another root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One thing that disagrees.

    Attributes:
        where: Path of a file, id of a row, name of a group, or the partition.
        detail: One sentence; no content of events.
    """

    kind: Kind
    where: str
    detail: str


@dataclass(slots=True)
class Findings:
    """Mismatches as they are found: all counted, the first ones kept."""

    named: list[Mismatch] = field(default_factory=list[Mismatch])
    count: int = 0

    def add(self, kind: Kind, where: str, detail: str, *, count: int = 1) -> None:
        """Note a mismatch that stands for `count` of them; nothing for 0."""
        if not count:
            return
        self.count += count
        if len(self.named) < NAMED_MISMATCHES:
            self.named.append(Mismatch(kind=kind, where=where, detail=detail))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was read and what disagreed.

    Attributes:
        partition: As the manifest says; empty if it could not be read.
        generation: Likewise; 0.
        rows: Rows whose leaf was computed.
        files: Files read to their end.
        bytes: Their size.
        expired: Files left out because their rows were deleted on purpose.
        root: Root recomputed from the rows, hexadecimal; empty where it could not be.
        leaf_digest: Likewise.
        mismatches: The first `NAMED_MISMATCHES`.
        mismatch_count: All of them.
    """

    partition: str
    generation: int
    rows: int
    files: int
    bytes: int
    expired: int
    root: str
    leaf_digest: str
    mismatches: tuple[Mismatch, ...]
    mismatch_count: int

    @property
    def is_intact(self) -> bool:
        """Whether nothing disagreed."""
        return self.mismatch_count == 0

    @property
    def verdict(self) -> str:
        """One sentence for people: the first mismatch, and how many there are."""
        if self.is_intact:
            left_out = f"; {self.expired} expired files left out" if self.expired else ""
            return f"{self.rows:,} rows in {self.files} files are as sealed{left_out}"
        first = self.mismatches[0]
        is_named = first.detail.startswith(first.where)
        words = first.detail if is_named else f"{first.where}: {first.detail}"
        more = self.mismatch_count - 1
        return words + (f" (and {more:,} more)" if more else "")

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> "VerifyReport":
        """Read what `to_json` gave.

        Raises:
            ValueError: It is something else.
        """
        try:
            fields = cast("dict[str, Any]", json.loads(text))
            mismatches = tuple(
                Mismatch(kind=Kind(one["kind"]), where=one["where"], detail=one["detail"])
                for one in fields.pop("mismatches")
            )
            return cls(mismatches=mismatches, **fields)
        except (TypeError, KeyError, AttributeError) as exc:
            raise ValueError("this is no report of a verification") from exc
