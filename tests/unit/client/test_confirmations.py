"""The level that a producer obeys is the platform's, and ends when nobody confirms it."""

import json
import time
from collections.abc import Sequence
from typing import cast

import pytest

from audit_platform.client import confirmations
from audit_platform.client.confirmations import Confirmations
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


def ask(made: Confirmations, shard: Shard) -> None:
    custody = Custody(producer_id=1, epoch=2, shards=1, spool=None)
    made.ask(cast("Appender", shard), [custody], now_s=time.monotonic())


def test_the_published_level_is_in_force() -> None:
    made, shard = Confirmations(usual_shard=0), Shard()
    shard.level = 2

    ask(made, shard)

    assert made.level == 2


def test_a_level_that_nobody_confirms_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a producer that holds its events, and cannot ask, would hold them for ever."""
    made, shard = Confirmations(usual_shard=0), Shard()
    shard.level = 3
    ask(made, shard)
    assert made.level == 3

    monkeypatch.setattr(confirmations, "FRESH_S", -1.0)

    assert made.level == 0


def test_a_refusal_is_the_highest_level_until_the_drain_says_otherwise() -> None:
    made, shard = Confirmations(usual_shard=0), Shard()
    ask(made, shard)

    made.note_refusal(now_s=time.monotonic())
    assert made.level == REFUSED_LEVEL

    ask(made, shard)
    assert made.level == 0
