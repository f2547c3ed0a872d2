"""Stream entries to lines: takes both entry formats apart (pure).

Here: the fields of an entry, its lines, stamps and sequence ranges, and what is wrong with an entry
as a whole. Not here: what is in a line.
Guarantee: each line comes out once with the place it came from; an entry that cannot be taken apart
comes out as one reject with all its fields.

Formats (events design, section 2): `event` = one JSON; or `v`, `n`, `events` = NDJSON, and
`p`, `e`, `s` (producer stamp), `t` (milliseconds at which the queue accepted it).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from audit_platform.events.reject import Reject, RejectReason
from audit_platform.events.stream import ENTRY_VERSION, MAX_EVENTS_PER_ENTRY, Stamp
from audit_platform.events.stream_entry import StreamEntry

_STAMP_FIELDS: Final = (b"p", b"e", b"s")
_MAX_PRODUCER_ID: Final = 2**31 - 1
_MAX_INT64: Final = 2**63 - 1
_MAX_DIGITS: Final = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class SeqRange:
    """Sequence numbers of one producer epoch that arrived, both ends included."""

    producer_id: int
    epoch: int
    first_seq: int
    last_seq: int


class EntryOrigin(NamedTuple):
    """What the lines of one entry have in common."""

    entry_id: str
    received_ms: int
    added_ms: int
    stamp: Stamp | None


@dataclass(slots=True, kw_only=True)
class Lines:
    """Lines of several entries in stream order, as parallel lists, and what is no line."""

    raw: list[bytes] = field(default_factory=list)
    origin_no: list[int] = field(default_factory=list)
    """Position in `origins`."""
    line_no: list[int] = field(default_factory=list)
    """Number of the event within its entry, from 1."""
    origins: list[EntryOrigin] = field(default_factory=list)
    entry_rejects: list[Reject] = field(default_factory=list)
    ranges: list[SeqRange] = field(default_factory=list)
    unread: list[SeqRange] = field(default_factory=list)
    """Numbers of entries that were rejected as a whole; part of `ranges`."""
    redis_lost: int = 0
    unstamped: int = 0
    """Lines without a producer's number."""

    def reject(self, index: int, reason: RejectReason, detail: str) -> Reject:
        """Reject the line at an index, with its bytes and its place."""
        return Reject(
            entry_id=self.origins[self.origin_no[index]].entry_id,
            line_no=self.line_no[index],
            reason=reason,
            detail=detail,
            raw=self.raw[index],
        )


def split_entries(entries: Sequence[StreamEntry], *, latest_ms: int) -> Lines:
    """Take entries apart.

    Args:
        entries: In stream order; without fields where Redis has lost them.
        latest_ms: A received time beyond it is not believed; the entry's own time stands in.
    """
    lines = Lines()
    for entry in entries:
        if not entry.fields:
            lines.redis_lost += 1
        elif b"events" in entry.fields:
            _add_batch(lines, entry, latest_ms)
        elif b"event" in entry.fields:
            _add_single(lines, entry, latest_ms)
        else:
            _reject_entry(
                lines,
                entry,
                RejectReason.UNKNOWN_ENTRY,
                "entry: has neither field `event` nor `events`; send one of them",
            )
    return lines


def pack_fields(fields: Mapping[bytes, bytes]) -> bytes:
    """Write the fields of an entry as `<length>:<bytes>`, names and values in turn, by commas."""
    parts = [part for pair in fields.items() for part in pair]
    return b",".join(b"%d:%b" % (len(part), part) for part in parts)


def unpack_fields(packed: bytes) -> dict[bytes, bytes]:
    """Read what `pack_fields` wrote.

    Raises:
        ValueError: These are other bytes.
    """
    parts = list(_packed_parts(packed))
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _packed_parts(packed: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(packed):
        colon = packed.index(b":", position)
        end = colon + 1 + int(packed[position:colon])
        if end > len(packed):
            raise ValueError("the bytes end within a field")
        yield packed[colon + 1 : end]
        position = end + 1


def _add_batch(lines: Lines, entry: StreamEntry, latest_ms: int) -> None:
    fields = entry.fields
    version = fields.get(b"v", b"")
    stamp, stamp_problem = _read_stamp(fields)
    if version != b"%d" % ENTRY_VERSION:
        _reject_entry(
            lines,
            entry,
            RejectReason.UNKNOWN_VERSION,
            f"v: is {_shown(version)}, this platform knows {ENTRY_VERSION}; replay it after an "
            "upgrade, or send v=1",
        )
        _add_unread_range(lines, stamp, _number(fields.get(b"n", b"")))
        return
    declared = fields.get(b"n", b"")
    events = [line for line in fields[b"events"].split(b"\n") if line]
    if len(events) != _number(declared):
        # Perhaps blank lines: looked for only here, since it costs as much as all of the rest.
        events = [line for line in events if line.strip()]
    problem = stamp_problem or _count_problem(declared, len(events))
    if problem:
        _reject_entry(lines, entry, RejectReason.ENVELOPE_MISMATCH, problem)
    received_ms = _number(fields.get(b"t", b""))
    if received_ms is None or not 0 < received_ms <= latest_ms:
        received_ms = min(entry.added_ms, latest_ms)
    _add_lines(lines, entry, events, stamp, received_ms)
    _add_range(lines.ranges, stamp, len(events))


def _add_single(lines: Lines, entry: StreamEntry, latest_ms: int) -> None:
    # A batch may hold 20,000 of these: plain statements take 1.0 us, `_add_lines` 2.4.
    lines.raw.append(entry.fields[b"event"])
    lines.origin_no.append(len(lines.origins))
    lines.line_no.append(1)
    lines.unstamped += 1
    added_ms = entry.added_ms
    lines.origins.append(EntryOrigin(entry.entry_id, min(added_ms, latest_ms), added_ms, None))


def _count_problem(declared: bytes, line_count: int) -> str | None:
    if _number(declared) != line_count:
        return (
            f"n: is {_shown(declared)}, but the entry holds {line_count} lines; send the number "
            "of lines. The lines themselves were taken"
        )
    return None if line_count else "events: is empty; send no entry without events"


def _add_lines(
    lines: Lines, entry: StreamEntry, raw: list[bytes], stamp: Stamp | None, received_ms: int
) -> None:
    lines.raw += raw
    lines.unstamped += 0 if stamp else len(raw)
    lines.origin_no += [len(lines.origins)] * len(raw)
    lines.line_no += range(1, len(raw) + 1)
    lines.origins.append(
        EntryOrigin(
            entry_id=entry.entry_id,
            received_ms=received_ms,
            added_ms=entry.added_ms,
            stamp=stamp,
        )
    )


def _reject_entry(lines: Lines, entry: StreamEntry, reason: RejectReason, detail: str) -> None:
    lines.entry_rejects.append(
        Reject(
            entry_id=entry.entry_id,
            line_no=0,
            reason=reason,
            detail=detail,
            raw=pack_fields(entry.fields),
        )
    )


def _read_stamp(fields: Mapping[bytes, bytes]) -> tuple[Stamp | None, str | None]:
    """Read the producer stamp: all three numbers, or none of the fields."""
    if not any(name in fields for name in _STAMP_FIELDS):
        return None, None
    producer_id, epoch, first_seq = (_number(fields.get(name, b"")) for name in _STAMP_FIELDS)
    if (
        producer_id is None
        or epoch is None
        or first_seq is None
        or not 0 <= producer_id <= _MAX_PRODUCER_ID
        or not 0 < first_seq <= _MAX_INT64 - len(fields[b"events"])
        or epoch > _MAX_INT64
    ):
        return None, (
            "p, e, s: are no stamp; send producer, epoch and first number in decimal, all three "
            "or none. The lines were taken without a stamp"
        )
    return Stamp(producer_id=producer_id, epoch=epoch, first_seq=first_seq), None


def _add_range(ranges: list[SeqRange], stamp: Stamp | None, count: int) -> None:
    """Record arrived numbers, joined to the range before where they continue it."""
    if stamp is None or count == 0:
        return
    first_seq, last_seq = stamp.first_seq, stamp.first_seq + count - 1
    if ranges:
        last = ranges[-1]
        is_same = (last.producer_id, last.epoch) == (stamp.producer_id, stamp.epoch)
        if is_same and first_seq == last.last_seq + 1:
            first_seq = ranges.pop().first_seq
    ranges.append(
        SeqRange(
            producer_id=stamp.producer_id,
            epoch=stamp.epoch,
            first_seq=first_seq,
            last_seq=last_seq,
        )
    )


def _add_unread_range(lines: Lines, stamp: Stamp | None, declared: int | None) -> None:
    """Record numbers of lines that are kept unread; only as many as an entry can hold."""
    if declared is not None and declared <= MAX_EVENTS_PER_ENTRY:
        _add_range(lines.ranges, stamp, declared)
        _add_range(lines.unread, stamp, declared)


def _number(digits: bytes) -> int | None:
    return int(digits) if digits.isdigit() and len(digits) <= _MAX_DIGITS else None


def _shown(value: bytes) -> str:
    return ascii(value[:40].decode("latin-1")) if value else "missing"
