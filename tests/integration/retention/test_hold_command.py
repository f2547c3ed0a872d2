"""`audit-platform hold`: placed at once, released by two, each act in the log."""

import json
from typing import Any

import pytest

from audit_platform.db.pool import Connection
from audit_platform.errors import ApprovalRefused, InvalidQuery, QueueUnavailable
from audit_platform.retention.holds import END, list_holds
from audit_platform.settings import Settings
from tests.integration.events.shard import Shard
from tests.integration.retention.commands import acts, asked, done, run

pytestmark = pytest.mark.integration

PLACE = ("hold", "place", "case-1", "--tenant", "acme", "--reason", "a court asks", "--user", "ada")


def listed(settings: Settings, *arguments: str) -> list[dict[str, Any]]:
    lines = done(settings, "hold", "list", "-o", "json", *arguments).splitlines()
    return [json.loads(line) for line in lines]


def test_a_placed_hold_acts_and_is_in_the_log(
    settings: Settings, shard: Shard, maint: Connection
) -> None:
    printed = done(
        settings, *PLACE, "--entity", "order:10:42", "--of-user", "7", "--keep-hot",
        "--since", "2020-01-01", "--until", "2030-01-01T12:00:00Z",
    )  # fmt: skip

    (made,) = list_holds(maint)
    assert str(made.hold_id) in printed
    assert "covers 10 partitions" in printed
    assert (made.case_id, made.scope.entity_type, made.scope.entity_id) == (
        "case-1", "order", "10:42",
    )  # fmt: skip
    assert made.scope.keep_hot
    ((action, user, metadata),) = acts(shard)
    assert (action, user) == ("audit.hold.place", "ada")
    assert (metadata["case"], metadata["reason"]) == ("case-1", "a court asks")


def test_a_hold_without_a_period_covers_all_time(settings: Settings, maint: Connection) -> None:
    done(settings, *PLACE)

    (made,) = list_holds(maint)
    assert made.scope.hi == END
    assert "all time" in done(settings, "hold", "list")


def test_releasing_a_case_takes_two_persons(
    settings: Settings, shard: Shard, maint: Connection
) -> None:
    done(settings, *PLACE)
    done(settings, *PLACE)
    release = ("hold", "release", "case-1")

    request = asked(settings, *release, "--reason", "the case is closed", "--user", "ada")
    alone = run(settings, *release, "--approve", request, "--user", "Ada")
    assert isinstance(alone.exception, ApprovalRefused)
    assert len(listed(settings)) == 2
    printed = done(settings, *release, "--approve", request, "--user", "bob")

    assert "2 holds released" in printed
    assert listed(settings) == []
    assert [one["released_by"] for one in listed(settings, "--all")] == ["bob", "bob"]
    found = acts(shard)
    assert [(action, user) for action, user, _ in found[2:]] == [
        ("audit.approval.request", "ada"),
        ("audit.approval.approve", "bob"),
        ("audit.hold.release", "bob"),
    ]
    assert found[-1][2]["request"] == request
    assert len(list_holds(maint, with_released=True)) == 2


def test_a_hold_placed_after_the_asking_is_not_released_with_it(settings: Settings) -> None:
    done(settings, *PLACE)
    request = asked(settings, "hold", "release", "case-1", "--reason", "closed", "--user", "ada")
    done(settings, *PLACE)

    result = run(settings, "hold", "release", "case-1", "--approve", request, "--user", "bob")

    assert isinstance(result.exception, ApprovalRefused)
    assert len(listed(settings)) == 2


def test_one_hold_of_a_case_is_released_by_its_id(settings: Settings) -> None:
    done(settings, *PLACE)
    done(settings, *PLACE)
    first, second = (one["hold_id"] for one in listed(settings))

    request = asked(settings, "hold", "release", first, "--reason", "too wide", "--user", "ada")
    done(settings, "hold", "release", first, "--approve", request, "--user", "bob")

    assert [one["hold_id"] for one in listed(settings)] == [second]


def test_a_release_that_waits_is_shown(settings: Settings) -> None:
    done(settings, *PLACE)
    request = asked(settings, "hold", "release", "case-1", "--reason", "closed", "--user", "ada")

    shown = run(settings, "hold", "list", "case-1")

    assert "a court asks" in shown.stdout
    assert f"--approve {request}" in shown.stderr
    assert "asked for by ada" in shown.stderr
    assert "no holds" in run(settings, "hold", "list", "case-2").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("hold", "release", "case-1", "--reason", "closed"),
        ("hold", "place", "", "--tenant", "acme", "--reason", "r"),
        ("hold", "place", "c", "--tenant", "acme", "--reason", " "),
        ("hold", "place", "c", "--tenant", "", "--reason", "r"),
        ("hold", "place", "c", "--tenant", "a", "--reason", "r", "--entity", ":x"),
        ("hold", "place", "c", "--tenant", "a", "--reason", "r", "--since", "soon"),
        ("hold", "place", "c", "--tenant", "a", "--reason", "r", "--since", "1h", "--until", "2h"),
        ("hold", "place", "c", "--tenant", "a", "--reason", "r", "--user", "\x1b[31m"),
    ],
)
def test_wrong_use_is_named_and_does_nothing(
    settings: Settings, maint: Connection, arguments: tuple[str, ...]
) -> None:
    result = run(settings, *arguments)

    assert isinstance(result.exception, InvalidQuery), result.output
    assert list_holds(maint, with_released=True) == []


def test_releasing_without_reason_or_request_is_wrong_use(settings: Settings) -> None:
    done(settings, *PLACE)

    assert isinstance(run(settings, "hold", "release", "case-1").exception, InvalidQuery)
    bad = run(settings, "hold", "release", "case-1", "--approve", "7")
    assert isinstance(bad.exception, InvalidQuery)


def test_without_the_log_nothing_is_placed(settings: Settings, maint: Connection) -> None:
    result = run(settings, *PLACE, AUDIT_REDIS_URL="redis://127.0.0.1:1/0")

    assert isinstance(result.exception, QueueUnavailable)
    assert list_holds(maint) == []


def test_a_hostile_reason_does_not_steer_the_terminal(
    settings: Settings, admin: Connection
) -> None:
    done(settings, *PLACE)
    admin.execute("update audit.legal_hold set reason = E'\\x1b[2J\\x07'")

    for output in ("table", "json"):
        shown = done(settings, "hold", "list", "-o", output)
        assert not set(shown) & {"\x1b", "\x07"}
