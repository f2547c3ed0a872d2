"""`audit-platform retention`: longer at once, shorter by two persons, each act in the log."""

import json
from datetime import timedelta
from typing import Any

import pytest

from audit_platform.db.pool import Connection
from audit_platform.errors import ApprovalRefused, InvalidQuery
from audit_platform.retention.classes import read_classes
from audit_platform.retention.rules import RetentionRule, RuleBook, read_rules
from audit_platform.retention.span import Span
from audit_platform.settings import Settings
from tests.integration.events.shard import Shard
from tests.integration.retention.commands import acts, asked, done, run

pytestmark = pytest.mark.integration

STANDARD = ("*", "standard")


@pytest.fixture
def sealed(admin: Connection) -> None:
    """Something was sealed: from now on a shorter time could delete it sooner."""
    admin.execute(
        "insert into audit.partition_group values"
        " ('event_20250601', 1, 'acme', 'standard', 1, sha256('')),"
        " ('event_20250601', 1, 'acme', 'pci', 1, sha256(''))"
    )


def book(conn: Connection) -> RuleBook:
    return read_rules(conn, preset="default", hot_days=30)


def listed(settings: Settings) -> list[dict[str, Any]]:
    lines = done(settings, "retention", "list", "-o", "json").splitlines()
    return [json.loads(line) for line in lines]


def later(admin: Connection, delay: timedelta) -> None:
    """Let time pass for the requests that wait."""
    admin.execute(
        "update audit.approval set requested_at = requested_at - %(d)s,"
        " not_before = not_before - %(d)s, approved_at = approved_at - %(d)s",
        {"d": delay},
    )


def test_the_platforms_preset_is_shown_before_any_rule(settings: Settings) -> None:
    assert listed(settings) == [
        {
            "tenant": "*",
            "class": "standard",
            "hot": "30 days",
            "keep": "1 year",
            "deleted after": "1 year",
            "from": "preset default",
        }
    ]


@pytest.mark.usefixtures("sealed")
def test_a_longer_time_is_set_at_once(settings: Settings, shard: Shard, maint: Connection) -> None:
    done(settings, "retention", "set", "standard", "--keep", "7y", "--hot", "90d", "--user", "ada")

    rule = RetentionRule(keep=Span(months=84), hot=Span(days=90))
    assert book(maint).stored == {STANDARD: rule}
    ((action, user, metadata),) = acts(shard)
    assert (action, user) == ("audit.retention.set", "ada")
    assert (metadata["class"], metadata["keep"], metadata["hot"]) == (
        "standard", "7 years", "90 days",
    )  # fmt: skip


@pytest.mark.usefixtures("sealed")
def test_a_shorter_time_takes_two_persons_and_two_days(
    settings: Settings, shard: Shard, maint: Connection, admin: Connection
) -> None:
    shorter = ("retention", "set", "standard", "--keep", "60d")

    request = asked(settings, *shorter, "--reason", "privacy", "--user", "ada")
    early = run(settings, *shorter, "--approve", request, "--user", "bob")
    assert (early.exit_code, dict(book(maint).stored)) == (3, {})
    later(admin, timedelta(hours=49))
    done(settings, *shorter, "--approve", request, "--user", "ada")

    assert book(maint).stored == {STANDARD: RetentionRule(keep=Span(days=60))}
    assert [(action, user) for action, user, _ in acts(shard)] == [
        ("audit.approval.request", "ada"),
        ("audit.approval.approve", "bob"),
        ("audit.retention.set", "ada"),
    ]


@pytest.mark.usefixtures("sealed")
def test_other_figures_than_those_approved_are_refused(
    settings: Settings, maint: Connection
) -> None:
    shorter = ("retention", "set", "standard", "--reason", "privacy", "--user", "ada", "--keep")
    request = asked(settings, *shorter, "60d")

    other = run(
        settings, "retention", "set", "standard", "--keep", "10d", "--approve", request,
        "--user", "bob",
    )  # fmt: skip

    assert isinstance(other.exception, ApprovalRefused)
    assert dict(book(maint).stored) == {}


def test_before_anything_was_sealed_one_person_is_enough(
    settings: Settings, maint: Connection
) -> None:
    done(settings, "retention", "preset", "short")

    assert book(maint).stored[STANDARD] == RetentionRule(keep=Span(days=7), hot=Span(days=7))
    assert listed(settings)[0]["deleted after"] == "14 days", "hot time and grace"


@pytest.mark.usefixtures("sealed")
def test_a_new_class_is_given_any_time_by_one(settings: Settings, maint: Connection) -> None:
    done(settings, "retention", "set", "finance", "--keep", "10d")

    assert ("*", "finance") in book(maint).stored


@pytest.mark.usefixtures("sealed")
def test_presets_are_rules_of_a_class_and_a_tenant(settings: Settings, maint: Connection) -> None:
    done(settings, "retention", "preset", "hipaa", "--tenant", "acme")

    stored = book(maint).stored
    assert stored == {("acme", "standard"): RetentionRule(keep=Span(months=72))}
    assert read_classes(maint).file_tenant("acme", "standard") == "acme"


@pytest.mark.usefixtures("sealed")
def test_removing_a_rule_may_be_shorter_too(settings: Settings, maint: Connection) -> None:
    done(settings, "retention", "set", "standard", "--keep", "7y")

    asked(settings, "retention", "unset", "standard", "--reason", "no more", "--user", "ada")
    done(settings, "retention", "set", "finance", "--keep", "7y")
    done(settings, "retention", "unset", "finance")

    assert set(book(maint).stored) == {STANDARD}


@pytest.mark.usefixtures("sealed")
def test_a_class_is_set_by_source_and_action(
    settings: Settings, shard: Shard, maint: Connection
) -> None:
    done(settings, "retention", "class", "set", "*", "payment.*", "hipaa", "--user", "ada")

    assert read_classes(maint).class_of("web", "payment.refund") == "hipaa"
    ((action, user, metadata),) = acts(shard)
    assert (action, user) == ("audit.retention.class_set", "ada")
    assert metadata == {"source": "*", "action": "payment.*", "class": "hipaa"}
    shown = listed(settings)
    assert {"source": "*", "action": "payment.*", "class": "hipaa"} in shown
    assert "payment.*" in done(settings, "retention", "list")


@pytest.mark.usefixtures("sealed")
def test_a_class_that_is_kept_shorter_takes_two_persons(
    settings: Settings, maint: Connection
) -> None:
    change = ("retention", "class", "set", "web", "page.*", "short")

    request = asked(settings, *change, "--reason", "nobody reads them", "--user", "ada")
    assert read_classes(maint).class_of("web", "page.view") == "standard"
    done(settings, *change, "--approve", request, "--user", "bob")

    assert read_classes(maint).class_of("web", "page.view") == "short"


@pytest.mark.usefixtures("sealed")
def test_two_steps_are_no_way_around_the_second_person(
    settings: Settings, maint: Connection
) -> None:
    """Standard to hipaa is longer; nothing is sealed as hipaa yet, but the events are the same."""
    done(settings, "retention", "class", "set", "web", "page.*", "hipaa")

    asked(settings, "retention", "class", "set", "web", "page.*", "short", "--reason", "r")
    asked(settings, "retention", "set", "hipaa", "--keep", "7d", "--reason", "r")
    assert read_classes(maint).class_of("web", "page.view") == "hipaa"


@pytest.mark.usefixtures("sealed")
def test_changes_that_wait_are_shown(settings: Settings) -> None:
    request = asked(
        settings, "retention", "set", "standard", "--keep", "9d", "--reason", "why", "--user", "ada"
    )

    shown = run(settings, "retention", "list")

    assert f"--approve {request}" in shown.stderr
    assert "keep class standard of all tenants for 9 days" in shown.stderr


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "standard", "--keep", "soon"),
        ("set", "standard", "--keep", "30d", "--hot", "31d"),
        ("set", "Standard", "--keep", "9y"),
        ("set", "standard", "--keep", "9y", "--tenant", ""),
        ("set", "standard", "--keep", "9d"),
        ("set", "standard", "--keep", "9y", "--approve", "01a2060b-e57b-7f04-b373-b65cda9a7698"),
        ("preset", "weekly"),
        ("unset", "finance"),
        ("class", "set", "web*", "x", "pci"),
        ("class", "set", "web", "x*y", "pci"),
        ("class", "set", "web", "x", "PCI"),
        ("class", "unset", "web", "x"),
    ],
)
def test_wrong_use_is_named_and_does_nothing(
    settings: Settings, maint: Connection, arguments: tuple[str, ...]
) -> None:
    result = run(settings, "retention", *arguments)

    assert isinstance(result.exception, InvalidQuery), result.output
    assert dict(book(maint).stored) == {}
    assert read_classes(maint).patterns == ()
