"""The demo's older programs: they write to the queue without the SDK.

Here: a legacy application that puts one event per entry in its own spelling, late and broken
ones among them; a forwarder that puts batches; both send some bytes twice, as programs do that
missed a reply. Not here: how records are spelt (`traffic_records.py`) or broken
(`traffic_faults.py`).
Guarantee: bytes are fixed before their first send, and repeated unchanged until Redis took them.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from audit_platform.errors import QueueFull, QueueUnavailable
from audit_platform.events.stream import Appender, BatchEntry
from audit_platform.local.traffic.catalogue import draw_request
from audit_platform.local.traffic.faults import FAULTS, event_key
from audit_platform.local.traffic.history import History, Taken
from audit_platform.local.traffic.process import Queue, Signals
from audit_platform.local.traffic.records import (
    Record,
    records_of,
    to_columns,
    to_json,
    to_legacy,
    without_id,
)

_SHARD: Final = 0
_LATE_BY: Final = timedelta(days=45)
_RESEND_PCT: Final = 4
_RETRY_S: Final = 0.5
_BATCH: Final = 200
_RESENT_BATCHES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyPlan:
    """How many events of each kind; `since` to `until` is the told time of the good ones."""

    single_count: int
    batched_count: int
    late_count: int
    bad_count_per_kind: int
    since: datetime
    until: datetime

    @property
    def event_count(self) -> int:
        """Events accepted in the end, each counted once."""
        bad_count = self.bad_count_per_kind * len(FAULTS)
        return self.single_count + self.batched_count + self.late_count + bad_count


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sending:
    """One send: its bytes, and what the history shall say."""

    raw: bytes
    key: str
    taken: Taken
    kind: str = ""


class LegacySender:
    """Sends with patience and writes the history."""

    def __init__(self, appender: Appender, history: History, signals: Signals) -> None:
        """Take the edges."""
        self._appender = appender
        self._history = history
        self._signals = signals

    def send_single(self, sending: _Sending) -> None:
        """Put one event as an entry of its own."""
        self._until_taken(lambda: self._appender.append_event(_SHARD, sending.raw))
        self._note(sending)

    def send_batch(self, sendings: Sequence[_Sending]) -> None:
        """Put up to 1,000 events as one entry without stamps."""
        entry = BatchEntry(
            shard=_SHARD,
            ndjson=b"\n".join(sending.raw for sending in sendings),
            count=len(sendings),
            received_ms=int(datetime.now(UTC).timestamp() * 1000),
        )
        self._until_taken(lambda: self._appender.append_batch(entry))
        for sending in sendings:
            self._note(sending)

    def _until_taken(self, send: Callable[[], object]) -> None:
        while True:
            try:
                send()
            except (QueueUnavailable, QueueFull):
                # The entry may be in the stream; the same bytes again do no harm.
                self._signals.wait(_RETRY_S)
            else:
                return

    def _note(self, sending: _Sending) -> None:
        self._history.note(sending.taken, sending.key, sending.kind)
        if sending.taken is not Taken.RESENT:
            self._signals.advance(1)


def run_legacy(
    *, queue: Queue, history_dir: Path, plan: LegacyPlan, seed: int, signals: Signals
) -> None:
    """Send everything of a plan, mixed, some of it twice."""
    rng = random.Random(seed)  # noqa: S311 - repeatable content, no secret
    singles = [*_good(plan, rng), *_late(plan, rng), *_bad(plan, rng, datetime.now(UTC))]
    rng.shuffle(singles)
    with (
        Appender(queue.redis_url, key_prefix=queue.key_prefix) as appender,
        History(history_dir, "crm-classic") as history,
    ):
        sender = LegacySender(appender, history, signals)
        for sending in _some_twice(singles, rng):
            sender.send_single(sending)
        for batch in _batches(plan, rng):
            sender.send_batch(batch)


def _good(plan: LegacyPlan, rng: random.Random) -> Iterator[_Sending]:
    for number, record in enumerate(_records(plan, rng, plan.single_count)):
        # Every second one knows no UUIDs and sends the number of its own table.
        sent = without_id(record, f"AL-{number:07d}") if number % 2 else record
        yield _Sending(raw=to_json(to_legacy(sent)), key=sent.id, taken=Taken.GOOD)


def _late(plan: LegacyPlan, rng: random.Random) -> Iterator[_Sending]:
    for _ in range(plan.late_count):
        record = _one_record(rng, plan.since - _LATE_BY)
        yield _Sending(raw=to_json(to_legacy(record)), key=record.id, taken=Taken.LATE)


def _bad(plan: LegacyPlan, rng: random.Random, now: datetime) -> Iterator[_Sending]:
    for kind, fault in FAULTS.items():
        for _ in range(plan.bad_count_per_kind):
            raw = fault.spoil(_one_record(rng, now))
            yield _Sending(raw=raw, key=event_key(raw), taken=Taken.BAD, kind=kind)


def _batches(plan: LegacyPlan, rng: random.Random) -> Iterator[tuple[_Sending, ...]]:
    sendings = [
        _Sending(raw=to_json(to_columns(record)), key=record.id, taken=Taken.GOOD)
        for record in _records(plan, rng, plan.batched_count)
    ]
    for number, start in enumerate(range(0, len(sendings), _BATCH)):
        batch = tuple(sendings[start : start + _BATCH])
        yield batch
        if number % _RESENT_BATCHES == 0:
            yield tuple(_resent(sending) for sending in batch)


def _some_twice(sendings: Iterable[_Sending], rng: random.Random) -> Iterator[_Sending]:
    """Repeat a few, at once or a while later, when they are stored already."""
    waiting: list[_Sending] = []
    for sending in sendings:
        yield sending
        if rng.randrange(100) < _RESEND_PCT:
            waiting.append(_resent(sending))
        if waiting and rng.randrange(100) < _RESEND_PCT:
            yield waiting.pop(0)
    yield from waiting


def _resent(sending: _Sending) -> _Sending:
    return _Sending(raw=sending.raw, key=sending.key, taken=Taken.RESENT)


def _records(plan: LegacyPlan, rng: random.Random, count: int) -> Iterator[Record]:
    span_s = (plan.until - plan.since).total_seconds()
    made = 0
    while made < count:
        start = plan.since + timedelta(seconds=rng.uniform(0, span_s))
        for record in records_of(rng, draw_request(rng), start):
            if made < count:
                made += 1
                yield record


def _one_record(rng: random.Random, moment: datetime) -> Record:
    return next(records_of(rng, draw_request(rng), moment))
