"""Stream entries for tests of framing, and a frame whose counts were checked."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from audit_platform.events.event import timestamp_us
from audit_platform.events.frame import EVENT_SCHEMA, FrameLimits, FrameResult, Reject, to_frame
from audit_platform.events.stream_entry import StreamEntry
from tests import factories

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
NOW_MS = timestamp_us(NOW) // 1_000
STREAM = "audit:{0}:events"
LIMITS = FrameLimits(
    max_event_bytes=65_536, max_json_depth=32, max_json_keys=256, future_tolerance_s=300
)


def event(**override: Any) -> dict[str, Any]:
    """Make a valid event of `NOW`."""
    override.setdefault("timestamp", NOW)
    if isinstance(override["timestamp"], datetime):
        return factories.event(**override)
    return {**factories.event(timestamp=NOW), **override}


def wire(**override: Any) -> bytes:
    """Make the line of a valid event of `NOW`."""
    return factories.wire(event(**override))


def wire_with(member: bytes, **override: Any) -> bytes:
    """Make a valid line and append a member to it as it is, however broken."""
    return wire(**override)[:-1] + b"," + member + b"}"


def single(raw: bytes, *, number: int = 0) -> StreamEntry:
    """Make an entry with one event, as a client without SDK sends it."""
    return StreamEntry(entry_id=f"{NOW_MS}-{number}", fields={b"event": raw})


def batch(lines: Sequence[bytes], *, number: int = 0, **fields: bytes | None) -> StreamEntry:
    """Make a batch entry; a field given as None is left out."""
    made: dict[str, bytes | None] = {
        "v": b"1",
        "n": b"%d" % len(lines),
        "events": b"\n".join(lines),
        **fields,
    }
    return StreamEntry(
        entry_id=f"{NOW_MS}-{number}",
        fields={name.encode(): value for name, value in made.items() if value is not None},
    )


def frame_of(*entries: StreamEntry, now: datetime = NOW) -> FrameResult:
    """Frame entries and check what holds for every frame."""
    result = to_frame(entries, stream=STREAM, now=now, limits=LIMITS)
    assert result.n_read == result.rows.height + len(result.rejects) + result.n_dup
    assert dict(result.rows.drop("line_index").schema) == dict(EVENT_SCHEMA)
    assert result.rows.equals(result.rows.sort("tenant_id", "timestamp", "id"))
    assert result.rows["leaf_hash"].bin.size().eq(32).all()
    assert all(": " in reject.detail and "; " in reject.detail for reject in result.rejects)
    return result


def row_of(*lines: bytes) -> dict[str, Any]:
    """Frame lines of which exactly one row must come."""
    result = frame_of(batch(lines))
    assert not result.rejects, result.rejects
    return result.rows.row(0, named=True)


def reject_of(line: bytes) -> Reject:
    """Frame a bad line alone and among good ones; only it is rejected, with its bytes."""
    alone = frame_of(single(line))
    good = [wire(entity_id=str(number)) for number in range(40)]
    among = frame_of(batch([*good[:20], line, *good[20:]]))
    assert alone.rows.is_empty()
    assert among.rows.height == len(good)
    (reject,) = alone.rejects
    (reject_among,) = among.rejects
    assert reject.raw == reject_among.raw == line
    assert (reject.reason, reject.detail) == (reject_among.reason, reject_among.detail)
    assert (reject.line_no, reject_among.line_no) == (1, 21)
    return reject
