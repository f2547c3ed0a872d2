"""Ledger of one batch: counts, dead letters, producer ranges, Merkle root.

Here: what is written beside the rows, in their transaction. Not here: the rows themselves
(`events/copy_rows.py`) and reading the ledger.
Guarantee: `n_read = n_new + n_dup + n_late + n_bad`, refused by the table otherwise.
"""

import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.errors import DatabaseError
from audit_platform.events.control_events import LedgerRange, SampledCount
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.frame import FrameResult
from audit_platform.events.identity import TAIL_BITS, mint
from audit_platform.events.ledger_ranges import kept_reports, ledger_ranges
from audit_platform.events.merge_rows import Loaded
from audit_platform.events.reject import Reject, RejectReason
from audit_platform.integrity.merkle import merkle_root

_MAX_DETAIL_CHARACTERS: Final = 500
_COLLISION: Final = "id: it is stored already with another content; mint a new id for each event"
_RANGE_COLUMNS: Final = LedgerRange._fields
_SAMPLED_COLUMNS: Final = SampledCount._fields
_NAME_COLUMNS: Final = ("producer_id", "name")


class StorePath(StrEnum):
    """How the rows of a batch reached the table."""

    COPY = "copy"
    MERGE = "merge"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchContext:
    """Who stores a batch; a fresh `batch_id` per batch, kept over the attempts to store it."""

    batch_id: str
    shard: int
    run_id: str | None
    fence: int


def new_batch_id() -> str:
    """Mint the id of a batch: a UUIDv7 of this moment."""
    return mint(time.time_ns() // 1000, secrets.randbits(TAIL_BITS))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCounts:
    """What became of one batch; `lags_s` are seconds from received to stored, of every 8th row."""

    n_read: int
    n_new: int
    n_dup: int
    n_late: int
    n_bad: int
    dead_by_reason: Mapping[str, int]
    path: StorePath
    lags_s: Sequence[float] = ()


def write_ledger(
    connection: Connection,
    vault: DeadLetterVault,
    frame: FrameResult,
    context: BatchContext,
    *,
    loaded: Loaded,
    path: StorePath,
    leaves: Sequence[bytes],
    lags_s: Sequence[float],
) -> BatchCounts:
    """Write dead letters, ranges and the ledger row into the present transaction.

    Args:
        connection: Inside the batch's transaction.
        vault: Encrypts dead letters.
        frame: What was read.
        context: Who stores it.
        loaded: What became of the rows.
        path: How the rows got there.
        leaves: Distinct leaf hashes of the rows that are stored now, in byte order.
        lags_s: Handed on into the counts.

    Raises:
        Redelivered: This batch is in the ledger already.
    """
    rejects = _all_rejects(frame, loaded)
    counts = _counts(frame, loaded, rejects, path, lags_s=lags_s)
    queries = load_queries("events")
    if rejects:
        connection.execute(
            queries["insert_dead_letters"],
            {**_dead_letters(rejects, vault), "shard": context.shard, "key_id": vault.key_id},
        )
    _write_numbers(connection, frame, context, loaded=loaded, rejects=rejects)
    root = merkle_root(leaves) if leaves else None
    connection.execute(queries["insert_batch"], _batch_row(frame, context, counts, root))
    return counts


def _write_numbers(
    connection: Connection,
    frame: FrameResult,
    context: BatchContext,
    *,
    loaded: Loaded,
    rejects: Sequence[Reject],
) -> None:
    """Write what became of the numbers of producers, and what they say about themselves."""
    queries = load_queries("events")
    reports = kept_reports(frame, loaded)
    ranges = ledger_ranges(frame, loaded, rejects, reports)
    if ranges:
        arrays = _arrays(_RANGE_COLUMNS, ranges)
        connection.execute(queries["insert_ranges"], {"batch_id": context.batch_id, **arrays})
    sampled = [one for report in reports for one in report.sampled]
    if sampled:
        connection.execute(queries["note_sampled"], _arrays(_SAMPLED_COLUMNS, sampled))
    names = [(report.producer_id, report.name) for report in reports if report.name]
    if names:
        connection.execute(queries["note_producer_names"], _arrays(_NAME_COLUMNS, names))


def _arrays(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """Turn rows into one array per column, as `unnest` takes them."""
    return {name: [row[no] for row in rows] for no, name in enumerate(columns)}


def _batch_row(
    frame: FrameResult, context: BatchContext, counts: BatchCounts, root: bytes | None
) -> dict[str, object]:
    return {
        "batch_id": context.batch_id,
        "shard": context.shard,
        "run_id": context.run_id,
        "n_read": counts.n_read,
        "n_new": counts.n_new,
        "n_dup": counts.n_dup,
        "n_late": counts.n_late,
        "n_bad": counts.n_bad,
        "n_unstamped": frame.unstamped,
        "first_entry": frame.first_entry,
        "last_entry": frame.last_entry,
        "root": root,
    }


def _all_rejects(frame: FrameResult, loaded: Loaded) -> list[Reject]:
    collided = [(row_no, RejectReason.ID_COLLISION, _COLLISION) for row_no in loaded.collided]
    refused = [
        (refusal.row_no, RejectReason.REFUSED_BY_DATABASE, _refusal_detail(refusal.error))
        for refusal in loaded.refused
    ]
    return [
        *frame.rejects,
        *(
            frame.reject_row(row_no, reason=reason, detail=detail)
            for row_no, reason, detail in (*collided, *refused)
        ),
    ]


def _refusal_detail(error: DatabaseError) -> str:
    if error.sqlstate is None:
        return "PostgreSQL took the row without an error, but did not store it; look for triggers"
    constraint = f", constraint {error.constraint}" if error.constraint else ""
    return f"PostgreSQL refused the row: sqlstate {error.sqlstate}{constraint}"


def _counts(
    frame: FrameResult,
    loaded: Loaded,
    rejects: Sequence[Reject],
    path: StorePath,
    *,
    lags_s: Sequence[float],
) -> BatchCounts:
    n_set_apart = len(loaded.collided) + len(loaded.refused)
    n_present = frame.rows.height - loaded.n_new - loaded.n_late - n_set_apart
    return BatchCounts(
        n_read=frame.n_read,
        n_new=loaded.n_new,
        n_dup=frame.n_dup + n_present,
        n_late=loaded.n_late,
        n_bad=len(rejects),
        dead_by_reason=dict(Counter(str(reject.reason) for reject in rejects)),
        path=path,
        lags_s=lags_s,
    )


def _dead_letters(rejects: Sequence[Reject], vault: DeadLetterVault) -> dict[str, list[object]]:
    sealed = [vault.seal(reject.raw) for reject in rejects]
    return {
        "raw_digest": [one.digest for one in sealed],
        "raw": [one.ciphertext for one in sealed],
        "reason": [str(reject.reason) for reject in rejects],
        "detail": [_printable(reject.detail) for reject in rejects],
        "entry_id": [reject.entry_id for reject in rejects],
        "line_no": [reject.line_no for reject in rejects],
    }


def _printable(detail: str) -> str:
    """A detail must never make its own dead letter unstorable."""
    return detail.replace("\0", "").encode("utf-8", "replace").decode()[:_MAX_DETAIL_CHARACTERS]
