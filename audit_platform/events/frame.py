"""Stream entries to one Polars frame with a declared schema; what cannot be stored comes apart.

Here: the order of the stages (take entries apart, decode, screen, judge suspects, find duplicates,
hash, sort) and the columns. Not here: each stage's rules (`events/lines.py`,
`events/screen.py`, `events/normalise.py`), and storing (`events/copy_rows.py`).
Guarantee: every line read is a row, a reject or a duplicate: `n_read = rows + rejects + n_dup`;
the same entries always give the same rows, but for `received_at` in doubt.

Screen vectorised, judge precisely: a plainly good line meets no Python of its own but the decoder
and the hash. Lines are decoded one by one, not with `decode_lines`: equally fast (19 against 21 ms
for 20,000 lines of 430 bytes), and a line break within an event cannot shift the lines after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import polars as pl

from audit_platform.events.control_events import Report
from audit_platform.events.control_rows import take_reports
from audit_platform.events.event import (
    DEFAULT_TENANT,
    EVENT_FIELDS,
    JSON_FIELDS,
    SCHEMA_VERSION,
    ActorType,
    EventStatus,
    FieldKind,
    timestamp_us,
)
from audit_platform.events.lines import Lines, SeqRange, split_entries
from audit_platform.events.normalise import Arrival, FrameLimits, normalise
from audit_platform.events.reject import Reject, RejectReason, Unstorable
from audit_platform.events.repeated_keys import find_repeated_keys
from audit_platform.events.screen import CANONICAL_TIME, find_suspects
from audit_platform.events.stream_entry import StreamEntry
from audit_platform.events.wire_event import WIRE_DECODER, WireEvent, columns_of
from audit_platform.integrity.leaf import leaf_hashes

UTC_US: Final = pl.Datetime("us", "UTC")
_DTYPES: Final[Mapping[FieldKind, pl.DataType]] = {
    "uuid": pl.String(),
    "timestamp": UTC_US,
    "text": pl.String(),
    "enum": pl.String(),
    "json": pl.String(),
    "int": pl.Int64(),
    "float": pl.Float32(),
}
EVENT_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    **{field.name: _DTYPES[field.kind] for field in EVENT_FIELDS},
    "severity": pl.Int16(),
    "schema_version": pl.Int16(),
    "producer_id": pl.Int32(),
    "producer_epoch": pl.Int64(),
    "producer_seq": pl.Int64(),
    "received_at": UTC_US,
    "leaf_hash": pl.Binary(),
}
"""Columns of `audit.event` that a frame fills: all but `batch_id` and `ingested_at`."""

LINE_INDEX: Final = "line_index"
_DEFAULTS: Final[Mapping[str, str | float]] = {
    "tenant_id": DEFAULT_TENANT,
    "status": EventStatus.SUCCESS.value,
    "actor_type": ActorType.USER.value,
    "metadata": "{}",
    "context": "{}",
    "sampled_rate": 1.0,
    "schema_version": SCHEMA_VERSION,
}
_KEY: Final = ("tenant_id", "timestamp", "id")
_SECOND_FORMAT: Final = "%Y-%m-%dT%H:%M:%S"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """One batch: rows to store, and everything else that was read.

    `rows` are sorted by (tenant_id, timestamp, id); beside the columns of `EVENT_SCHEMA` they have
    `line_index`, by which a row finds the bytes it came from.
    """

    rows: pl.DataFrame
    rejects: tuple[Reject, ...]
    n_read: int
    n_dup: int
    ranges: tuple[SeqRange, ...]
    reports: tuple[Report, ...] = ()
    """What producers say about themselves in rows of this batch."""
    unstamped: int = 0
    redis_lost: int
    first_entry: str | None
    last_entry: str | None
    lines: Lines

    def reject_row(self, row_no: int, *, reason: RejectReason, detail: str) -> Reject:
        """Reject a row that turns out later to be no good, with the bytes it came from."""
        return self.lines.reject(self.rows[LINE_INDEX][row_no], reason, detail)


def to_frame(
    entries: Sequence[StreamEntry], *, stream: str, now: datetime, limits: FrameLimits
) -> FrameResult:
    """Turn stream entries into one frame; keep apart what cannot be stored.

    Args:
        entries: As read, in stream order; none give a frame without rows.
        stream: Key of the stream; part of the id of events that have none.
        now: Aware; times too far ahead of it are rejected.
        limits: Of one event.

    Returns:
        Rows, rejects (of entries, of lines, of collisions, each in stream order), and counts.
        `n_read` counts lines, and one for each entry that is itself rejected; entries that Redis
        lost are counted in `redis_lost` only.
    """
    now_us = timestamp_us(now)
    latest_ms = now_us // 1_000 + limits.future_tolerance_s * 1_000
    lines = split_entries(entries, latest_ms=latest_ms)
    good, suspects = _decode_plain(lines, now=now, limits=limits)
    judged, rejects = _judge(suspects, lines, stream=stream, now_us=now_us, limits=limits)
    rows = (pl.concat([good, judged]) if judged.height else good).with_columns(
        pl.col(name).fill_null(default) for name, default in _DEFAULTS.items()
    )
    rows = _with_delivery(rows, lines)
    rows, reports, refused = take_reports(rows, lines)
    rows = rows.with_columns(leaf_hashes(rows))
    rows, collisions, n_dup = _distinct(rows, lines)
    return FrameResult(
        rows=rows.select(*EVENT_SCHEMA, LINE_INDEX).sort(_KEY),
        rejects=(*lines.entry_rejects, *rejects, *refused, *collisions),
        n_read=len(lines.raw) + len(lines.entry_rejects),
        n_dup=n_dup,
        ranges=tuple(lines.ranges),
        reports=reports,
        unstamped=lines.unstamped,
        redis_lost=lines.redis_lost,
        first_entry=entries[0].entry_id if entries else None,
        last_entry=entries[-1].entry_id if entries else None,
        lines=lines,
    )


def _decode_plain(
    lines: Lines, *, now: datetime, limits: FrameLimits
) -> tuple[pl.DataFrame, list[int]]:
    """Decode all lines; return rows that are plainly good, and the indexes of all others."""
    events, indexes = _decode_lines(lines.raw)
    is_partial = len(events) < len(lines.raw)
    raw = [lines.raw[index] for index in indexes] if is_partial else lines.raw
    columns = columns_of(events)
    rows = _to_rows(columns, indexes)
    positions = find_suspects(rows, _to_text("line", raw), now=now, limits=limits)
    positions.update(find_repeated_keys(raw, events, [columns[name] for name in JSON_FIELDS]))
    failed = set(range(len(lines.raw))).difference(indexes) if is_partial else set[int]()
    if not positions:
        return rows, sorted(failed)
    is_good = ~pl.int_range(pl.len()).is_in(list(positions))
    suspects = failed.union(indexes[position] for position in positions)
    return rows.filter(is_good), sorted(suspects)


def _decode_lines(raw: Sequence[bytes]) -> tuple[list[WireEvent], list[int]]:
    """Decode; where one line fails, that line alone is left out."""
    decode = WIRE_DECODER.decode
    try:
        return list(map(decode, raw)), list(range(len(raw)))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    events: list[WireEvent] = []
    indexes: list[int] = []
    for index, line in enumerate(raw):
        try:
            events.append(decode(line))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        indexes.append(index)
    return events, indexes


def _judge(
    suspects: Sequence[int], lines: Lines, *, stream: str, now_us: int, limits: FrameLimits
) -> tuple[pl.DataFrame, list[Reject]]:
    """Take each suspect line through the precise path."""
    events: list[WireEvent] = []
    indexes: list[int] = []
    rejects: list[Reject] = []
    for index in suspects:
        origin = lines.origins[lines.origin_no[index]]
        arrival = Arrival(
            entry_ms=origin.added_ms,
            delivery_id=f"{stream}:{origin.entry_id}:{lines.line_no[index]}",
            now_us=now_us,
        )
        try:
            events.append(normalise(lines.raw[index], arrival, limits))
        except Unstorable as verdict:
            rejects.append(lines.reject(index, verdict.reason, verdict.detail))
        else:
            indexes.append(index)
    return _to_rows(columns_of(events), indexes), rejects


def _to_rows(columns: Mapping[str, list[Any]], indexes: Sequence[int]) -> pl.DataFrame:
    """Build typed columns; null where a field is absent, or a time is not canonical."""
    series: list[pl.Series] = []
    for field in EVENT_FIELDS:
        values = columns[field.name]
        if field.kind == "json":
            series.append(_to_text(field.name, values).replace("null", None))
        else:
            dtype = pl.String() if field.kind == "timestamp" else EVENT_SCHEMA[field.name]
            series.append(pl.Series(field.name, values, dtype=dtype))
    series.append(pl.Series(LINE_INDEX, indexes, dtype=pl.UInt32))
    return pl.DataFrame(series).with_columns(_canonical_time(pl.col("timestamp")))


def _canonical_time(text: pl.Expr) -> pl.Expr:
    """Read times of the canonical form; null for any other.

    Seconds and their fraction apart: a batch has few different seconds, and Polars parses each
    once, which takes a fifth of the time of parsing whole texts.
    """
    second = text.str.slice(0, 19).str.to_datetime(_SECOND_FORMAT, time_unit="us", strict=False)
    fraction_us = text.str.slice(20, 6).str.to_integer(strict=False)
    time = second + pl.duration(microseconds=fraction_us)
    return pl.when(text.str.contains(CANONICAL_TIME)).then(time.dt.replace_time_zone("UTC"))


def _to_text(name: str, values: Sequence[bytes]) -> pl.Series:
    """Decode UTF-8; null where it is none."""
    try:
        return pl.Series(name, values, dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.ComputeError:
        # One bad value fails the whole cast, even when it is not strict (Polars 1.44).
        return pl.Series(name, [_decoded(value) for value in values], dtype=pl.String)


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _with_delivery(rows: pl.DataFrame, lines: Lines) -> pl.DataFrame:
    """Add what the entry of each row says about its delivery."""
    stamps = [origin.stamp for origin in lines.origins]
    origins = pl.DataFrame(
        [
            pl.Series("producer_id", [stamp and stamp.producer_id for stamp in stamps], pl.Int32),
            pl.Series("producer_epoch", [stamp and stamp.epoch for stamp in stamps], pl.Int64),
            pl.Series("producer_seq", [stamp and stamp.first_seq for stamp in stamps], pl.Int64),
            pl.Series(
                "received_at", [origin.received_ms * 1_000 for origin in lines.origins], pl.Int64
            ),
        ]
    )
    index = rows[LINE_INDEX]
    offset = pl.Series(lines.line_no, dtype=pl.Int64).gather(index) - 1
    delivery = origins[pl.Series(lines.origin_no, dtype=pl.UInt32).gather(index)]
    return rows.hstack(delivery).with_columns(
        pl.col("producer_seq") + offset, pl.col("received_at").cast(UTC_US)
    )


def _distinct(rows: pl.DataFrame, lines: Lines) -> tuple[pl.DataFrame, list[Reject], int]:
    """Keep the first of several events with one (tenant_id, id).

    Returns:
        The rows kept, rejects for events that differ from the first, and how many equal it.
    """
    if rows["id"].n_unique() == rows.height:
        return rows, [], 0
    repeated = rows.filter(pl.struct("tenant_id", "id").is_duplicated()).sort(LINE_INDEX)
    first_leaves: dict[tuple[str, str], bytes] = {}
    kept: list[int] = []
    collisions: list[Reject] = []
    for index, tenant_id, event_id, leaf in repeated.select(
        LINE_INDEX, "tenant_id", "id", "leaf_hash"
    ).iter_rows():
        if (tenant_id, event_id) not in first_leaves:
            first_leaves[tenant_id, event_id] = leaf
            kept.append(index)
        elif first_leaves[tenant_id, event_id] != leaf:
            detail = "id: another event in this batch has it; mint a new id for each event"
            collisions.append(lines.reject(index, RejectReason.ID_COLLISION, detail))
    dropped = set(repeated[LINE_INDEX]).difference(kept)
    distinct = rows.filter(~pl.col(LINE_INDEX).is_in(list(dropped)))
    return distinct, collisions, len(dropped) - len(collisions)
