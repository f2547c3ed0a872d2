"""Events by which producers report on themselves: drops, counts, their end (pure).

Here: their form, and what each means for the ledger. Not here: finding them among the rows
(`events/frame.py`), writing them (`client/control_events.py`) and the ledger (`events/ledger.py`).
Guarantee: a report speaks only for the producer that sent it; one that does not hold is refused
with its reason and changes nothing.

Source: delivery design, sections 3 and 5; fault catalogue, B32.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple, cast

from audit_platform.events.reject import RejectReason, Unstorable

SOURCE: Final = "audit"
PREFIX: Final = "audit.producer."
LOSS: Final = "audit.producer.loss"
END: Final = "audit.producer.end"
SAMPLED: Final = "audit.producer.sampled"

MAX_PARTS: Final = 500
MAX_TEXT: Final = 100
MAX_NAME: Final = 200
MAX_EPOCH: Final = 2**63 - 1
# int8range keeps its upper bound as last + 1: the largest bigint itself would fail every attempt
# to store the batch.
MAX_SEQ: Final = 2**63 - 2
_REMEDY: Final = "send what the SDK sends, see the delivery design, section 5"


class RangeKind(StrEnum):
    """What the ledger says about numbers of a producer."""

    GOT = "got"
    DECLARED = "declared"
    END = "end"
    LATE = "late"
    DEAD = "dead"


class LedgerRange(NamedTuple):
    """Numbers of one epoch with what is known about them, both ends included."""

    producer_id: int
    epoch: int
    kind: RangeKind
    reason: str | None
    first_seq: int
    last_seq: int


class SampledCount(NamedTuple):
    """Events that a policy left out before they got a number, since the process began."""

    producer_id: int
    epoch: int
    source: str
    action: str
    kind: str
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one control event says; `line_index` finds its row and its bytes."""

    line_index: int
    producer_id: int
    ranges: tuple[LedgerRange, ...] = ()
    sampled: tuple[SampledCount, ...] = ()
    name: str | None = None


def read_report(
    action: str, metadata: str, *, producer_id: int | None, line_index: int
) -> Report | None:
    """Read a control event.

    Args:
        action: Of the event; one that is no report of a producer gives None.
        metadata: JSON object.
        producer_id: Stamp of the entry that carried it.
        line_index: Kept in the report.

    Raises:
        Unstorable: It has no stamp, speaks for another producer, or is malformed.
    """
    read = _READERS.get(action)
    if read is None:
        return None
    if producer_id is None:
        raise _refusal("producer stamp", "is missing")
    said = _object(metadata)
    if not _is_number(said.get("producer_id"), lowest=0, highest=2**31 - 1):
        raise _refusal("metadata.producer_id", "is no number of a producer")
    if said["producer_id"] != producer_id:
        raise _refusal("metadata.producer_id", "is not the producer that sent the entry")
    ranges, sampled = read(said, producer_id)
    return Report(
        line_index=line_index,
        producer_id=producer_id,
        ranges=ranges,
        sampled=sampled,
        name=_name(said),
    )


def _object(metadata: str) -> dict[str, Any]:
    try:
        said: object = json.loads(metadata)
    except ValueError as exc:
        # Valid JSON, but with a number of more digits than Python converts.
        raise _refusal("metadata", "has a number that is too long") from exc
    if not isinstance(said, dict):
        raise _refusal("metadata", "is no object")
    return cast("dict[str, Any]", said)


_Read = tuple[tuple[LedgerRange, ...], tuple[SampledCount, ...]]


def _loss(said: Mapping[str, Any], producer_id: int) -> _Read:
    epoch, reason = _epoch(said), said.get("reason")
    if not _is_text(reason):
        raise _refusal("metadata.reason", f"is no text of 1 to {MAX_TEXT} characters")
    ranges: list[LedgerRange] = []
    for part in _parts(said, "ranges", 2):
        if not _is_number(part[0], lowest=1, highest=MAX_SEQ) or not _is_number(
            part[1], lowest=part[0], highest=MAX_SEQ
        ):
            raise _refusal("metadata.ranges", "holds something else than [first, last]")
        ranges.append(LedgerRange(producer_id, epoch, RangeKind.DECLARED, reason, part[0], part[1]))
    return tuple(ranges), ()


def _end(said: Mapping[str, Any], producer_id: int) -> _Read:
    is_unclean = said.get("unclean", False)
    if not isinstance(is_unclean, bool):
        raise _refusal("metadata.unclean", "is neither true nor false")
    reason = "unclean" if is_unclean else "clean"
    ranges: list[LedgerRange] = []
    for part in _parts(said, "ended", 2):
        if not _is_number(part[0], lowest=0, highest=MAX_EPOCH) or not _is_number(
            part[1], lowest=0, highest=MAX_SEQ
        ):
            raise _refusal("metadata.ended", "holds something else than [epoch, last number]")
        ranges.append(LedgerRange(producer_id, part[0], RangeKind.END, reason, part[1], part[1]))
    return tuple(ranges), ()


def _sampled(said: Mapping[str, Any], producer_id: int) -> _Read:
    epoch = _epoch(said)
    counts: list[SampledCount] = []
    for source, action, kind, count in _parts(said, "counts", 4):
        if (
            not _is_text(source)
            or not _is_text(action)
            # A list cannot be looked up in a set.
            or kind not in ("sampled", "dropped")
            or not _is_number(count, lowest=0, highest=MAX_SEQ)
        ):
            raise _refusal("metadata.counts", "holds something else than [source, action, kind, n]")
        counts.append(SampledCount(producer_id, epoch, source, action, kind, count))
    return (), tuple(counts)


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], int], _Read]]] = {
    LOSS: _loss,
    END: _end,
    SAMPLED: _sampled,
}


def _epoch(said: Mapping[str, Any]) -> int:
    epoch = said.get("epoch")
    if not _is_number(epoch, lowest=0, highest=MAX_EPOCH):
        raise _refusal("metadata.epoch", "is no epoch")
    return cast("int", epoch)


def _parts(said: Mapping[str, Any], field: str, width: int) -> list[list[Any]]:
    found = said.get(field)
    if not isinstance(found, list) or len(cast("list[Any]", found)) > MAX_PARTS:
        raise _refusal(f"metadata.{field}", f"is no list of at most {MAX_PARTS} parts")
    parts = cast("list[Any]", found)
    if any(not isinstance(part, list) or len(cast("list[Any]", part)) != width for part in parts):
        raise _refusal(f"metadata.{field}", f"has a part that is no list of {width}")
    return parts


def _name(said: Mapping[str, Any]) -> str | None:
    """Name of the producer, for people; optional, so that a strange one refuses nothing."""
    name = said.get("name")
    return name if _is_text(name, longest=MAX_NAME) else None


def _is_number(value: object, *, lowest: int, highest: int) -> bool:
    # In Python true is a number; in JSON it is none.
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _is_text(value: object, *, longest: int = MAX_TEXT) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest


def _refusal(field: str, problem: str) -> Unstorable:
    return Unstorable(RejectReason.INVALID_REPORT, field, problem, _REMEDY)
