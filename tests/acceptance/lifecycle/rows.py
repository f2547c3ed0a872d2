"""Rows of many days, quickly: what the demo's people do, each row with a time and an id of its own.

Here: templates, made by the product's own frame out of events in wire form, and rows in bulk made
from them in Polars; events for the stream. Not here: storing them (`storing.py`), which days there
are (`plan.py`).
Guarantee: every row is one that ingest would have made: the columns of a template have passed its
screen, the time of the id is the time of the row, the leaf is computed over the row's own columns.
Equal seeds give equal rows.
"""

import json
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

import polars as pl
import pyarrow as pa

from audit_platform.events.event import ActorType, AuditEvent, EventStatus, timestamp_us, to_wire
from audit_platform.events.frame import EVENT_SCHEMA, LINE_INDEX, FrameResult, to_frame
from audit_platform.events.identity import TAIL_BITS, mint
from audit_platform.integrity.leaf import leaf_hashes
from audit_platform.local.traffic.catalogue import Request, draw_request
from tests.integration.events.store import LIMITS, frame_of_lines

PREFIX: Final = "e2e-"
"""Begins every tenant: nothing else in the platform has such rows."""
OWN_RULE_TENANT: Final = f"{PREFIX}polar-bank"
"""Has a rule of its own, so files of its own."""
SHORT: Final = ("e2e-web", "session.logout")
"""Source and action of the retention class `short`."""
PART_ROWS: Final = 25_000
LEAF_BYTES: Final = 8

_KEY: Final = ("tenant_id", "timestamp", "id")
_UUID_PARTS: Final = ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))
# What a value loses on the way through floats, through trimmed or re-encoded text, or as NULL.
_TRAPS: Final = (
    {"metadata": '{"huge":1e400,"exact":9007199254740993,"price":1.10,"minus":-0,"trap":"number"}'},
    {"metadata": '{ "spaced" : [ 1 , 2.50 , [] ], "Ü" : "\\u00fc", "🚀":"é", "trap":"bytes" }'},
    {"metadata": '{"deep":{"a":[{"b":[{"c":null}]}]},"no":{},"yes":true,"trap":"nested"}'},
    {"metadata": '{"text":"tab\\tline\\nquote\\"back\\\\slash","trap":"escapes"}'},
    {"description": "tab\there, line\nthere, back\\slash, \\N and \\. and a 'quote'"},
    {"description": "=HYPERLINK(1) שלום İstanbul ǅ \U0001d518nicode"},
    {"entity_label": "", "user_label": " ends with blanks  "},
    {"sampled_rate": 0.1, "severity": 0},
    {"sampled_rate": 1 / 3, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"},
    {"bulk_action_id": "0190a6f0-0000-7000-8000-000000000001", "bulk_item_no": 1 << 40},
    {"impersonator_id": "u-0001", "changes": '{"amount":{"old":1.0,"new":1e-7},"x":{"new":[]}}'},
)
_TRAP_EVERY: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of one stretch of one day.

    Attributes:
        day: Number of the day.
        first_no: Number of its first row.
        count: Rows.
        since: First moment.
        span: Length.
    """

    day: int
    first_no: int
    count: int
    since: datetime
    span: timedelta


def lines_between(rng: random.Random, count: int, since: datetime, until: datetime) -> list[bytes]:
    """Events in wire form, in order of time."""
    span_us = (until - since) // timedelta(microseconds=1)
    moments = sorted(rng.randrange(span_us) for _ in range(count))
    events = islice(_events(rng), count)
    return [
        to_wire(_at(rng, event, since + timedelta(microseconds=offset_us)))
        for event, offset_us in zip(events, moments, strict=True)
    ]


def templates(seed: int, count: int = 20_000) -> pl.DataFrame:
    """Columns of rows without time and id, as ingest makes them."""
    rng = random.Random(seed)
    now = datetime.now(UTC)
    lines = lines_between(rng, count, now - timedelta(hours=1), now)
    frames = [frame_of_lines(lines[start : start + 1_000]).rows for start in range(0, count, 1_000)]
    made = pl.concat(frames)
    assert made.height == count, "ingest would refuse a template"
    return made.drop("id", "timestamp", "received_at", "leaf_hash", LINE_INDEX, "correlation_id")


def frame_of_part(part: Part, made: pl.DataFrame, *, seed: int) -> FrameResult:
    """The rows of a part, as a frame that the consumer transaction takes."""
    numbers = pl.int_range(
        part.first_no, part.first_no + part.count, dtype=pl.UInt64, eager=True
    ).alias("no")
    first, second = numbers.hash(seed), numbers.hash(seed + 1)
    span_us = part.span // timedelta(microseconds=1)
    offsets = (numbers.hash(seed + 2) % span_us).sort()
    moments_us = offsets.cast(pl.Int64) + timestamp_us(part.since)
    rows = made[(first % made.height).cast(pl.UInt32)].with_columns(
        _ids(moments_us // 1_000, first=first, second=second),
        moments_us.cast(pl.Datetime("us", "UTC")).alias("timestamp"),
        (moments_us + 20_000).cast(pl.Datetime("us", "UTC")).alias("received_at"),
        pl.format("req-{}", numbers // 3).alias("correlation_id"),
        _numbered(numbers).alias("metadata"),
    )
    rows = rows.with_columns(leaf_hashes(rows).alias("leaf_hash"))
    rows = rows.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias(LINE_INDEX))
    empty = to_frame([], stream="e2e", now=part.since, limits=LIMITS)
    return replace(
        empty,
        rows=rows.select(*EVENT_SCHEMA, LINE_INDEX).sort(_KEY),
        n_read=part.count,
        unstamped=part.count,
    )


def fingerprints(rows: pl.DataFrame, *, day: int) -> pl.DataFrame:
    """What the balance keeps of rows: id, beginning of the leaf, day, whether they expire early."""
    source, action = SHORT
    return rows.select(
        pl.col("id").str.replace_all("-", "", literal=True).str.decode("hex"),
        pl.col("leaf_hash").bin.slice(0, LEAF_BYTES).alias("leaf"),
        pl.lit(day, pl.Int16).alias("day"),
        ((pl.col("source") == source) & (pl.col("action") == action)).alias("is_short"),
    )


def _events(rng: random.Random) -> Iterator[AuditEvent]:
    """Events of one moment; `_at` gives each its own."""
    number = 0
    while True:
        request = draw_request(rng)
        for step_no in range(len(request.steps)):
            event = _event(request, step_no)
            if number % _TRAP_EVERY == 0:
                event = replace(event, **rng.choice(_TRAPS))
            yield event
            number += 1


def _event(request: Request, step_no: int) -> AuditEvent:
    step = request.steps[step_no]
    source = SHORT[0] if step.action == SHORT[1] else request.source
    moment = datetime.now(UTC)
    return AuditEvent(
        id=mint(timestamp_us(moment), 0),
        timestamp=moment,
        tenant_id=f"{PREFIX}{request.tenant_id}",
        source=source,
        action=step.action,
        status=EventStatus(step.status),
        actor_type=ActorType(request.actor_type),
        user_id=request.user_id,
        user_label=request.user_label,
        entity_type=step.entity[0],
        entity_id=step.entity[1],
        entity_label=step.entity_label,
        severity=step.severity,
        description=step.description,
        changes=None if step.changes is None else json.dumps(step.changes),
        metadata=json.dumps(step.metadata, ensure_ascii=False),
        context=json.dumps({"ip": request.ip, "user_agent": request.user_agent}),
        correlation_id=request.correlation_id,
    )


def _at(rng: random.Random, event: AuditEvent, moment: datetime) -> AuditEvent:
    event_id = mint(timestamp_us(moment), rng.getrandbits(TAIL_BITS))
    return replace(event, id=event_id, timestamp=moment)


def _numbered(numbers: pl.Series) -> pl.Expr:
    """A third of the rows say their number: values that occur once."""
    text = pl.col("metadata")
    inside = text.str.strip_suffix("}")
    comma = pl.when(text == "{}").then(pl.lit("")).otherwise(pl.lit(","))
    numbered = pl.concat_str(inside, comma, pl.lit('"row":'), numbers.cast(pl.String), pl.lit("}"))
    return pl.when(numbers % 3 == 0).then(numbered).otherwise(text)


def _ids(times_ms: pl.Series, *, first: pl.Series, second: pl.Series) -> pl.Series:
    """UUIDv7 texts: 48 bits of time, version, 12 bits, variant, 62 bits."""
    high = times_ms.cast(pl.UInt64) * 65_536 + 0x7000 + first % 4_096
    low = second // 4 + pl.Series([1 << 63], dtype=pl.UInt64)
    words = array("Q", bytes(16 * len(times_ms)))
    words[0::2] = array("Q", high.to_list())
    words[1::2] = array("Q", low.to_list())
    words.byteswap()
    stored = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(times_ms), [None, pa.py_buffer(words.tobytes())]
    )
    loaded = pl.from_arrow(stored)
    assert isinstance(loaded, pl.Series)
    digits = loaded.bin.encode("hex")
    parts = [digits.str.slice(start, length) for start, length in _UUID_PARTS]
    return pl.select(pl.concat_str(parts, separator="-").alias("id"))["id"]
