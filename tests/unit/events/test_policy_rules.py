"""Rules of policies: the first match wins, samples are honest, our own events are kept."""

import random

import pytest

from audit_platform.events.policy import Durability
from audit_platform.events.policy_rules import (
    KEPT_AS_IT_IS,
    InvalidRule,
    Omission,
    PolicyRule,
    PolicyRules,
    share_of,
)

SEED = 20_261_122


def _draw() -> float:
    raise AssertionError("nothing is drawn here")


def test_the_first_rule_that_matches_wins() -> None:
    rules = PolicyRules(
        [
            PolicyRule(source="web", action="user.*", severity=1),
            PolicyRule(action="user.suspend", severity=2),
            PolicyRule(source="web", severity=3),
        ]
    )

    found = [
        rules.find(source, action)
        for source, action in [
            ("web", "user.suspend"),
            ("api", "user.suspend"),
            ("web", "page.view"),
            ("api", "page.view"),
        ]
    ]

    assert [rule and rule.severity for rule in found] == [1, 2, 3, None]
    assert rules.winner("api", "user.suspend") == 2


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("user.*", "user.suspend", "User.suspend"),
        ("user.?", "user.a", "user.ab"),
        ("*.[ab]", "x.a", "x.c"),
        ("user", "user", "user.x"),
        ("*", "line\nbreak", ""),
    ],
)
def test_patterns_match_as_in_a_shell(pattern: str, matching: str, other: str) -> None:
    rules = PolicyRules([PolicyRule(action=pattern)])

    assert rules.winner("web", matching) == 1
    assert pattern == "*" or rules.winner("web", other) is None


def test_a_rule_that_samples_keeps_about_its_share_and_says_so() -> None:
    rule = PolicyRule(sample_rate=0.1)
    draw = random.Random(SEED).random

    decisions = [rule.decide(None, draw) for _ in range(10_000)]

    kept = [one for one in decisions if one.omission is None]
    assert 850 < len(kept) < 1_150
    assert {one.sampled_rate for one in kept} == {10.0}
    assert {one.omission for one in decisions} == {None, Omission.SAMPLED}


def test_events_of_one_correlation_id_share_their_fate() -> None:
    rule = PolicyRule(sample_rate=0.5)

    fates = {
        number: {rule.decide(f"order-{number}", _draw).omission for _ in range(3)}
        for number in range(2_000)
    }

    assert all(len(fate) == 1 for fate in fates.values())
    assert 900 < sum(None in fate for fate in fates.values()) < 1_100


def test_a_lower_rate_keeps_a_part_of_what_a_higher_one_keeps() -> None:
    rare, frequent = PolicyRule(sample_rate=0.05), PolicyRule(sample_rate=0.5)
    ids = [f"order-{number}" for number in range(2_000)]

    kept_rarely = {one for one in ids if rare.decide(one, _draw).omission is None}
    kept_often = {one for one in ids if frequent.decide(one, _draw).omission is None}

    assert kept_rarely < kept_often


def test_the_place_of_a_correlation_id_never_changes() -> None:
    """Services in other processes and versions decide alike, or an operation is logged in part."""
    assert share_of("order-1042") == pytest.approx(0.0720612669, abs=1e-9)
    assert 0 <= share_of("\ud800") < 1


def test_a_correlation_id_that_no_event_can_have_is_not_remembered() -> None:
    share_of.cache_clear()

    PolicyRule(sample_rate=0.5).decide("x" * 101, lambda: 0.0)

    assert share_of.cache_info().currsize == 0


def test_dropping_needs_no_draw() -> None:
    decision = PolicyRule(drop=True).decide("order-1", _draw)

    assert decision.omission is Omission.DROPPED


def test_our_own_events_follow_no_rule() -> None:
    rules = PolicyRules([PolicyRule(drop=True)])

    assert rules.find("audit", "audit.producer.loss") is None
    assert rules.find("audit", "user.suspend") is not None
    assert rules.find("web", "audit.producer.loss") is not None


@pytest.mark.parametrize("action", ["", "x" * 101, "a\0b", "\ud800"])
def test_names_that_no_event_can_have_follow_no_rule(action: str) -> None:
    assert PolicyRules([PolicyRule(drop=True)]).find("web", action) is None


def test_endless_new_names_do_not_fill_the_memory() -> None:
    rules = PolicyRules([PolicyRule(action="user.*")])

    for number in range(5_000):
        rules.find("web", f"user.{number}")

    assert len(rules._known) <= 1_024


def test_a_rule_without_effect_keeps_the_event_as_it_is() -> None:
    assert PolicyRule().always == KEPT_AS_IT_IS


def test_a_shadowed_rule_is_found() -> None:
    rules = PolicyRules(
        [
            PolicyRule(source="web", action="a.b"),
            PolicyRule(source="web"),
            PolicyRule(source="web", action="a.*"),
            PolicyRule(action="a.*"),
        ]
    )

    assert list(rules.shadowed()) == [(3, 2)]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"sample_rate": 0}, "sample_rate"),
        ({"sample_rate": 1.5}, "sample_rate"),
        ({"sample_rate": float("nan")}, "sample_rate"),
        ({"severity": 6}, "severity"),
        ({"severity": -1}, "severity"),
        ({"retention_class": "Year 7"}, "retention_class"),
        ({"source": ""}, "source"),
        ({"action": "x" * 101}, "action"),
        ({"action": "a\nb"}, "action"),
        ({"redact": ("tenant_id",)}, "redact"),
        ({"drop": True, "severity": 0}, "drop"),
        ({"drop": True, "sample_rate": 0.5}, "drop"),
        ({"drop": True, "redact": ("iban",)}, "drop"),
        ({"drop": True, "durability": Durability.DURABLE}, "drop"),
    ],
)
def test_a_rule_that_cannot_be_followed_names_its_field(
    fields: dict[str, object], name: str
) -> None:
    with pytest.raises(InvalidRule) as caught:
        PolicyRule(**fields)  # pyright: ignore[reportArgumentType]

    assert caught.value.field == name
    assert caught.value.remedy
