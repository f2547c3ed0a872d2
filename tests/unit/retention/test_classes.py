"""Classes: which pattern wins, and which classes a change of one touches."""

import pytest

from audit_platform.retention.classes import ClassPattern, RetentionClasses, check_class


def pattern(source: str, action: str, name: str) -> ClassPattern:
    return ClassPattern(source=source, action=action, retention_class=name)


CLASSES = RetentionClasses(
    patterns=(
        pattern("*", "payment.*", "pci"),
        pattern("*", "payment.card.*", "cards"),
        pattern("*", "payment.card.read", "short"),
        pattern("billing", "*", "finance"),
        pattern("billing", "payment.card.read", "reads"),
    ),
    own_rules=frozenset({("acme", "pci")}),
)


@pytest.mark.parametrize(
    ("source", "action", "expected"),
    [
        ("web", "page.view", "standard"),
        ("web", "payment.refund", "pci"),
        ("web", "payment", "standard"),
        ("web", "payment.card.add", "cards"),
        ("web", "payment.card.read", "short"),
        ("billing", "payment.refund", "finance"),
        ("billing", "payment.card.read", "reads"),
    ],
)
def test_the_most_exact_pattern_wins(source: str, action: str, expected: str) -> None:
    assert CLASSES.class_of(source, action) == expected
    assert CLASSES.class_of(source, action) == expected, "also when it is remembered"


def test_only_pairs_that_are_not_standard_are_decided() -> None:
    pairs = [("web", "page.view"), ("web", "payment.x")]

    assert CLASSES.decided(pairs) == {("web", "payment.x"): "pci"}


def test_tenants_with_a_rule_of_their_own_get_files_of_their_own() -> None:
    assert CLASSES.file_tenant("acme", "pci") == "acme"
    assert CLASSES.file_tenant("acme", "standard") is None
    assert CLASSES.file_tenant("globex", "pci") is None


@pytest.mark.parametrize(
    ("source", "action", "expected"),
    [
        ("*", "payment.card.*", {"pci"}),
        ("*", "page.*", {"standard"}),
        ("billing", "payment.refund", {"pci", "finance"}),
        ("*", "payment.card.read", {"cards", "pci"}),
        ("*", "*", {"standard"}),
    ],
)
def test_a_pattern_takes_events_from_the_classes_beneath(
    source: str, action: str, expected: set[str]
) -> None:
    found = CLASSES.classes_beneath(source, action)

    assert expected <= found, "rather too many than too few"
    assert CLASSES.own_class("*", "payment.*") == "pci"
    assert CLASSES.own_class("*", "page.*") is None


@pytest.mark.parametrize(
    ("source", "action", "name"),
    [
        ("web*", "x", "pci"),
        ("", "x", "pci"),
        ("web", "", "pci"),
        ("web", "a*b", "pci"),
        ("web", "a\nb", "pci"),
        ("w" * 65, "x", "pci"),
        ("web", "x" * 101, "pci"),
        ("web", "x", "Year 7"),
        ("web", "x", "a.b"),
        ("web", "x", "c" * 32),
    ],
)
def test_a_pattern_that_nothing_can_follow_is_refused(source: str, action: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"source:|action:|retention class"):
        pattern(source, action, name)


def test_the_longest_action_may_be_followed_by_a_star() -> None:
    assert pattern("web", "x" * 100 + "*", "pci").matches("web", "x" * 100)
    check_class("a23456789_123456789_123456789_1")
