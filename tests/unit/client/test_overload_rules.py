"""What a producer does at each overload level."""

import pytest

from audit_platform.client.overload_rules import RULES, rule_at
from audit_platform.events.overload import MAX_LEVEL

PRESET_S = 0.02


def test_every_level_of_the_drain_has_a_rule() -> None:
    assert len(RULES) == MAX_LEVEL + 1


@pytest.mark.parametrize(
    ("level", "linger_s", "sheds", "spools"),
    [
        (0, 0.02, False, False),
        (1, 0.05, False, False),
        (2, 0.05, True, False),
        (3, 0.05, True, True),
    ],
)
def test_rules_are_those_of_the_design(
    level: int, linger_s: float, sheds: bool, spools: bool
) -> None:
    rule = rule_at(level)

    assert rule.linger_s(PRESET_S) == linger_s
    assert (rule.sheds_best_effort, rule.spools_standard) == (sheds, spools)


def test_preset_that_waits_longer_keeps_its_linger() -> None:
    assert rule_at(3).linger_s(30.0) == 30.0


@pytest.mark.parametrize(("level", "nearest"), [(-1, 0), (9, 3)])
def test_unknown_level_gets_the_nearest_rule(level: int, nearest: int) -> None:
    assert rule_at(level) is RULES[nearest]
