"""A redrive that cannot be done as asked does nothing, and says why."""

import json

import pytest

from audit_platform.errors import InvalidMapping, InvalidQuery, LockNotAvailable
from tests.factories import event, wire
from tests.integration.dead_letters.command import acts, deadletter, done, states
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.integration


def _dead(shard: Shard, line: bytes) -> None:
    shard.add_event(line)
    shard.drain()


def test_letters_of_another_key_stay_open(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    _dead(shard, wire(event(severity=9)))
    monkeypatch.setenv("AUDIT_DEAD_LETTER_KEY", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=")

    result = deadletter("redrive", "--all", "--set", "severity=1")

    assert result.exit_code == 1
    assert "0 sent, 0 still bad, 1 unreadable" in result.stdout
    assert states(shard) == [("invalid_value", None, False)]


def test_a_producer_s_report_counts_with_its_stamp_only(shard: Shard) -> None:
    """Sent again it would come without one, and speak for a producer that did not send it."""
    said = {"producer_id": 5, "epoch": 6, "reason": "shed", "ranges": [[1, 2]]}
    _dead(shard, wire(event(source="audit", action="audit.producer.loss", metadata=said)))

    result = deadletter("redrive", "--all")

    assert result.exit_code == 1
    assert "counts with its stamp only" in result.stderr
    assert states(shard) == [("invalid_report", None, False)]


def test_two_acts_at_a_time_are_refused(shard: Shard) -> None:
    _dead(shard, wire(event(severity=9)))
    shard.sql.execute(
        b"select pg_advisory_lock(hashtextextended('audit-platform dead letters', 0))"
    )

    result = deadletter("redrive", "--all", "--set", "severity=1")

    assert isinstance(result.exception, LockNotAvailable)
    assert states(shard) == [("invalid_value", None, False)]


def test_without_redis_nothing_is_marked(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    _dead(shard, wire(event(severity=9)))
    monkeypatch.setenv("AUDIT_REDIS_URL", "redis://127.0.0.1:1/0")

    result = deadletter("redrive", "--all", "--set", "severity=1")

    assert result.exit_code == 1
    assert states(shard) == [("invalid_value", None, False)]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (1, "--all"),
        (1, "--reason", "invalid_json"),
        (1, "--since", "2h"),
        ("--all", "--again"),
        ("--reason", "no such reason"),
        (0,),
        ("--all", "--set", "severity"),
        ("--all", "--set", "a[0]=1"),
        ("--all", "--since", "yesterday"),
    ],
)
def test_wrong_use_is_named(arguments: tuple[str | int, ...]) -> None:
    result = deadletter("redrive", *arguments)

    assert isinstance(result.exception, InvalidQuery)
    assert result.exception.exit_code == 2


def test_an_unknown_mapping_is_named() -> None:
    assert isinstance(
        deadletter("redrive", "--all", "--mapping", "nothing").exception, InvalidMapping
    )


def test_secrets_of_a_repair_do_not_reach_the_log(shard: Shard) -> None:
    _dead(shard, wire(event(severity=9)))

    done("redrive", "--all", "--set", "severity=1", "--set", "metadata.note=hidden-7")
    shard.drain()

    assert "hidden-7" not in json.dumps([metadata for _, _, metadata in acts(shard)])
