"""Asks the platform what it has stored and how its shards are.

Here: reading the hashes of the shards, and handing each epoch its coverage. Not here: the form of
the values (`client/coverage.py`), what follows from them (`client/custody.py`,
`client/custodian.py`).
Guarantee: an epoch that a living drain run no longer knows counts as forgotten by the database; one
that nobody speaks of stays as it is.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from audit_platform.client.coverage import (
    FRESH_S,
    NOTHING_CONFIRMED,
    SHARD_FIELD,
    Coverage,
    Freshness,
    ShardStatus,
    coverage_field,
    parse_coverage,
    parse_status,
)
from audit_platform.client.custody import Custody
from audit_platform.client.overload_rules import REFUSED_LEVEL
from audit_platform.crash_points import crash
from audit_platform.events.stream import Appender


class Confirmations:
    """What the shards said last."""

    def __init__(self, *, usual_shard: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with shards of which nothing is known.

        Args:
            usual_shard: Asked about epochs of which no stream had an event yet.
            clock: Seconds that only grow.
        """
        self._clock = clock
        self._usual_shard = usual_shard
        self._status = defaultdict[int, Freshness](Freshness)
        self._before_refusal: dict[int, int | None] = {}
        self._is_refused, self._refused_until_s = False, float("-inf")
        self._level, self._level_s = 0, float("-inf")

    @property
    def level(self) -> int:
        """Overload level in force; one that nobody confirms any more ends by itself."""
        return self._level if self._clock() - self._level_s <= FRESH_S else 0

    def note_refusal(self, *, now_s: float) -> None:
        """Redis is full: the highest level, until the drain could say how the shard is.

        A drain cannot write its status into a full Redis either. Sending on at once would fill
        every place that it frees, and no producer would ever learn of the overload.
        """
        self._before_refusal = {
            shard: one.status.at_ms if one.status else None for shard, one in self._status.items()
        }
        self._is_refused, self._refused_until_s = True, now_s + FRESH_S
        self._level, self._level_s = REFUSED_LEVEL, now_s

    def _note_news(self, shard: int, found: ShardStatus | None) -> None:
        if found is not None and found.at_ms != self._before_refusal.get(shard):
            self._is_refused = False

    def ask(self, appender: Appender, custodies: Sequence[Custody], *, now_s: float) -> None:
        """Ask each shard once; the highest of their overload levels is in force then.

        Raises:
            QueueError: Redis does not answer, or refuses.
        """
        by_shard = defaultdict[int, list[Custody]](list)
        for custody in custodies:
            by_shard[self._shard_of(custody)].append(custody)
        level = 0
        for shard, asked in by_shard.items():
            fields = [coverage_field(one.producer_id, one.epoch) for one in asked]
            answers = appender.read_watermarks(shard, [SHARD_FIELD, *fields])
            status = self._status[shard]
            found = parse_status(answers[0])
            self._note_news(shard, found)
            status.note(found, now_s=now_s)
            is_fresh = status.is_fresh(now_s)
            if is_fresh and status.status is not None:
                level = max(level, status.status.level)
            for custody, answer in zip(asked, answers[1:], strict=True):
                _apply(custody, parse_coverage(answer), is_fresh=is_fresh)
        is_refused = self._is_refused and now_s < self._refused_until_s
        self._level, self._level_s = (REFUSED_LEVEL if is_refused else level), now_s

    def state_of(self, custody: Custody, now_s: float) -> tuple[bool, float]:
        """Tell whether a drain run lives in the shard of an epoch, and how many seconds it lags."""
        status = self._status[self._shard_of(custody)]
        if status.status is None or not status.is_fresh(now_s):
            return False, 0.0
        return True, status.status.lag_s

    def _shard_of(self, custody: Custody) -> int:
        return self._usual_shard if custody.shard is None else custody.shard


def _apply(custody: Custody, coverage: Coverage | None, *, is_fresh: bool) -> None:
    if coverage is None:
        if not (custody.has_coverage and is_fresh):
            return
        coverage = NOTHING_CONFIRMED
    if custody.apply(coverage):
        crash("P_CONFIRMED")
