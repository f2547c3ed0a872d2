"""Dead letters back into the stream, or discarded; each act is an event.

Here: the order of the steps, and judging beforehand what the ingest job would say. Not here:
the table (`events/dead_letter_rows.py`), what a repair does (`imports/repair.py`), options and
words (`cli/deadletter.py`).

Order, per chunk: claim, append, append the event of the act, resolve. A letter is resolved only
when Redis has both, so that a process killed anywhere leaves it open; sent a second time, its event
is recognised by its id and adds nothing. For that, an event without an id of its own gets the id
and the time that its first delivery gave it.
Redriven events carry no producer stamp: their numbers count as arrived since the first time.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from audit_platform.errors import InvalidEvent
from audit_platform.events.act_event import Act, act_event
from audit_platform.events.dead_letter_rows import (
    REDRIVEN,
    Letter,
    LetterTable,
    OpenedLetter,
    Selection,
)
from audit_platform.events.event import ActorType, timestamp_us
from audit_platform.events.lines import split_entries, unpack_fields
from audit_platform.events.normalise import Arrival, FrameLimits, normalise
from audit_platform.events.policy import shard_of
from audit_platform.events.redis_edge import stream_key
from audit_platform.events.reject import RejectReason, Unstorable
from audit_platform.events.stream import Appender
from audit_platform.events.stream_entry import StreamEntry

CHUNK: Final = 100
REDRIVE_ACTION: Final = "audit.dead_letter.redrive"
DISCARD_ACTION: Final = "audit.dead_letter.discard"
SHOW_ACTION: Final = "audit.dead_letter.show"


class Repairer(Protocol):
    """What is done to the bytes of a letter before they are sent; raises InvalidEvent."""

    def line(self, raw: bytes, *, fallback_id: str) -> bytes:
        """Make one event of a record."""
        ...

    def entry(self, fields: Mapping[bytes, bytes], *, fallback_id: str) -> dict[bytes, bytes]:
        """Make a stream entry of the fields of one."""
        ...


class Verdict(StrEnum):
    """What becomes of a letter."""

    READY = "ready"
    """It is, or would be, sent."""
    STILL_BAD = "still bad"
    """The ingest job would refuse it again; it stays open."""
    UNREADABLE = "unreadable"
    """Another key made it, or it was changed; it stays open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One letter, judged; `fields` are those of the entry to send."""

    letter: Letter
    verdict: Verdict
    detail: str = ""
    fields: Mapping[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts, and in which words it is kept."""

    name: str
    details: Mapping[str, object]
    """Further metadata of the events: the mapping, names of fields set, the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedriveEdges:
    """What acts on letters need from outside."""

    table: LetterTable
    appender: Appender
    key_prefix: str
    tenant_id: str
    """Of the platform's own events."""
    shards: int
    limits: FrameLimits
    now: Callable[[], datetime]
    tail74: Callable[[], int]

    def record(self, action: str, ids: Sequence[int], actor: Actor) -> None:
        """Put the event of an act into the stream.

        Raises:
            QueueError: Redis did not take it; the act must not go on.
        """
        verb = action.rpartition(".")[2]
        letters = "1 dead letter" if len(ids) == 1 else f"{len(ids)} dead letters"
        act = Act(
            action=action,
            actor=actor.name,
            actor_type=ActorType.ADMIN,
            entity_type="dead_letter",
            entity_id=None,
            description=f"{verb.capitalize()} {letters}",
            metadata={"ids": list(ids), "count": len(ids), **actor.details},
        )
        event = act_event(act, tenant_id=self.tenant_id, now=self.now(), tail74=self.tail74())
        self.appender.append_event(shard_of(self.tenant_id, self.shards), event)


def redrive(
    edges: RedriveEdges,
    selection: Selection,
    repairer: Repairer,
    *,
    actor: Actor | None,
    hear: Callable[[Judged], None],
) -> Counter[Verdict]:
    """Send letters again that the ingest job will take.

    Args:
        edges: To the table and the stream.
        selection: Which letters; those that arise meanwhile are not among them.
        repairer: Changes bytes before they are judged and sent.
        actor: None only judges: nothing is sent or marked.
        hear: Told of each letter.

    Returns:
        Letters by verdict.

    Raises:
        LockNotAvailable: Another process acts on letters.
        QueueError: Redis took only a part; what was not marked is still open.
    """
    counts: Counter[Verdict] = Counter()
    for chunk in _chunks(edges.table, selection, is_act=actor is not None):
        judged = [_judge(one, edges, repairer) for one in chunk]
        ready = [one for one in judged if one.verdict is Verdict.READY]
        if ready and actor is not None:
            _send(edges, ready, actor)
        for one in judged:
            counts[one.verdict] += 1
            hear(one)
    return counts


def discard(
    edges: RedriveEdges, selection: Selection, *, actor: Actor, resolution: str
) -> list[int]:
    """Close letters without sending them; the rows and their bytes stay.

    Returns:
        Numbers of the letters closed.

    Raises:
        LockNotAvailable: Another process acts on letters.
        QueueError: Redis did not take the event of the act; the rest is still open.
    """
    closed: list[int] = []
    for chunk in _chunks(edges.table, selection, is_act=True):
        ids = [one.letter.dead_id for one in chunk]
        edges.table.claim(ids)
        edges.record(DISCARD_ACTION, ids, actor)
        edges.table.resolve(ids, resolution)
        closed += ids
    return closed


def _chunks(
    table: LetterTable, selection: Selection, *, is_act: bool
) -> Iterator[list[OpenedLetter]]:
    if is_act:
        table.lock()
    after_id, last_id = 0, table.last_id()
    while chunk := table.take(selection, after_id=after_id, last_id=last_id, limit=CHUNK):
        yield chunk
        after_id = chunk[-1].letter.dead_id


def _send(edges: RedriveEdges, ready: Sequence[Judged], actor: Actor) -> None:
    ids = [one.letter.dead_id for one in ready]
    edges.table.claim(ids)
    for one in ready:
        edges.appender.append_fields(one.letter.shard or 0, one.fields or {})
    edges.record(REDRIVE_ACTION, ids, actor)
    edges.table.resolve(ids, REDRIVEN)


def _judge(opened: OpenedLetter, edges: RedriveEdges, repairer: Repairer) -> Judged:
    letter, raw = opened.letter, opened.raw
    if raw is None:
        return Judged(
            letter=letter,
            verdict=Verdict.UNREADABLE,
            detail=f"made with key {letter.key_id}, not the present one, or changed since",
        )
    try:
        fields = _prepared(letter, raw, edges, repairer)
    except (InvalidEvent, Unstorable) as exc:
        return Judged(letter=letter, verdict=Verdict.STILL_BAD, detail=str(exc))
    except (ValueError, RecursionError, msgspec.MsgspecError):
        detail = f"{RejectReason.DECODER_FAILED}: the bytes cannot be read"
        return Judged(letter=letter, verdict=Verdict.STILL_BAD, detail=detail)
    return Judged(letter=letter, verdict=Verdict.READY, fields=fields)


def _prepared(
    letter: Letter, raw: bytes, edges: RedriveEdges, repairer: Repairer
) -> dict[bytes, bytes]:
    if letter.reason == RejectReason.INVALID_REPORT:
        raise InvalidEvent(
            field="entry",
            problem="is a producer's report about itself, which counts with its stamp only",
            remedy="discard it",
        )
    if letter.line_no != 0:
        line = repairer.line(raw, fallback_id=_delivery_id(letter, edges))
        return {b"event": _identified(line, letter, edges)}
    if letter.reason == RejectReason.ENVELOPE_MISMATCH:
        raise InvalidEvent(
            field="entry",
            problem="had the wrong number of lines, and the lines themselves were taken",
            remedy="discard it; look for the missing ones at the producer",
        )
    fields = repairer.entry(unpack_fields(raw), fallback_id=_delivery_id(letter, edges))
    if b"event" in fields:
        return {b"event": _identified(fields[b"event"], letter, edges)}
    _check_entry(fields, edges)
    return fields


def _identified(line: bytes, letter: Letter, edges: RedriveEdges) -> bytes:
    """Check a line as the ingest job does, and give it the identity of its first delivery.

    Returns:
        The very bytes if they name id and time themselves: judging them as two different
        deliveries then gives the same event. Otherwise the canonical form with both.
    """
    now_us = timestamp_us(edges.now())
    arrival = Arrival(
        entry_ms=_entry_ms(letter), delivery_id=_delivery_id(letter, edges), now_us=now_us
    )
    other = Arrival(entry_ms=arrival.entry_ms - 1, delivery_id="another", now_us=now_us)
    event = normalise(line, arrival, edges.limits)
    if event == normalise(line, other, edges.limits):
        return line
    return msgspec.json.encode(event)


def _check_entry(fields: Mapping[bytes, bytes], edges: RedriveEdges) -> None:
    now_ms = timestamp_us(edges.now()) // 1_000
    entry = StreamEntry(entry_id=f"{now_ms}-0", fields=fields)
    for reject in split_entries([entry], latest_ms=now_ms).entry_rejects:
        raise InvalidEvent(
            field=str(reject.reason), problem=reject.detail, remedy="change it with --set"
        )


def _entry_ms(letter: Letter) -> int:
    milliseconds = (letter.entry_id or "").partition("-")[0]
    if milliseconds.isdigit():
        return int(milliseconds)
    return timestamp_us(letter.first_seen) // 1_000


def _delivery_id(letter: Letter, edges: RedriveEdges) -> str:
    stream = stream_key(edges.key_prefix, letter.shard or 0)
    # A letter of a whole entry becomes its only line.
    return f"{stream}:{letter.entry_id}:{letter.line_no or 1}"
