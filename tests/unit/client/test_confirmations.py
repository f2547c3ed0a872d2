"""The level that a producer obeys is the platform's, and ends when nobody confirms it."""

import json
from collections.abc import Callable, Sequence
from typing import cast

from audit_platform.client.confirmations import Confirmations
from audit_platform.client.coverage import FRESH_S
from audit_platform.client.custody import Custody
from audit_platform.client.overload_rules import REFUSED_LEVEL
from audit_platform.events.stream import Appender


class Shard:
    """What Redis would answer about one shard."""

    def __init__(self) -> None:
        self.level, self.at_ms = 0, 0

    def read_watermarks(self, shard: int, fields: Sequence[str]) -> list[bytes | None]:
        assert shard == 0
        self.at_ms += 1
        status = {"level": self.level, "lag_s": 0.0, "at_ms": self.at_ms}
        return [json.dumps(status).encode(), *[None] * (len(fields) - 1)]


def ask(made: Confirmations, shard: Shard, *, now_s: float = 0.0) -> None:
    custody = Custody(producer_id=1, epoch=2, shards=1, spool=None)
    made.ask(cast("Appender", shard), [custody], now_s=now_s)


def make(clock: Callable[[], float] = lambda: 0.0) -> Confirmations:
    return Confirmations(usual_shard=0, clock=clock)


def test_the_published_level_is_in_force() -> None:
    made, shard = make(), Shard()
    shard.level = 2

    ask(made, shard)

    assert made.level == 2


def test_a_level_that_nobody_confirms_ends_by_itself() -> None:
    """Otherwise a producer that holds its events, and cannot ask, would hold them for ever."""
    now = [100.0]
    made, shard = make(lambda: now[0]), Shard()
    shard.level = 3
    ask(made, shard, now_s=now[0])
    assert made.level == 3

    now[0] += FRESH_S + 1

    assert made.level == 0


def test_a_refusal_is_the_highest_level_until_the_drain_says_otherwise() -> None:
    made, shard = make(), Shard()
    ask(made, shard)

    made.note_refusal(now_s=0.0)
    assert made.level == REFUSED_LEVEL

    ask(made, shard)
    assert made.level == 0
