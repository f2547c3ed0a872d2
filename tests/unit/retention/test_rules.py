"""Rules: which one applies, what is hot, when archived events may go."""

from datetime import UTC, datetime, timedelta

import pytest

from audit_platform.retention.rule_changes import is_shorter
from audit_platform.retention.rules import PRESETS, Preset, RetentionRule, RuleBook, check_rule
from audit_platform.retention.span import Span

END = datetime(2026, 1, 1, tzinfo=UTC)


def book(preset: Preset = Preset.DEFAULT, **stored: RetentionRule) -> RuleBook:
    """Rules by `tenant__class`; `all` is every tenant."""
    keys = {name: name.split("__") for name in stored}
    rules = {
        (keys[name][0].replace("all", "*"), keys[name][1]): rule for name, rule in stored.items()
    }
    return RuleBook(preset=preset, hot=Span(days=30), stored=rules)


def keep(text: str, hot: str | None = None) -> RetentionRule:
    return RetentionRule(keep=Span.parse(text), hot=None if hot is None else Span.parse(hot))


@pytest.mark.parametrize(
    ("preset", "hot_until", "expires_at"),
    [
        (Preset.DEFAULT, "2026-01-31", "2027-01-01"),
        (Preset.PCI, "2026-04-01", "2027-01-01"),
        (Preset.HIPAA, "2026-01-31", "2032-01-01"),
        (Preset.SHORT, "2026-01-08", "2026-01-08"),
    ],
)
def test_presets_have_the_figures_of_their_sources(
    preset: Preset, hot_until: str, expires_at: str
) -> None:
    rules = book(preset)

    assert rules.hot_until(END) == datetime.fromisoformat(hot_until).replace(tzinfo=UTC)
    found = rules.expires_at(END, tenant_id=None, retention_class="standard")
    assert found == datetime.fromisoformat(expires_at).replace(tzinfo=UTC)


def test_a_class_without_a_rule_is_kept_for_ever() -> None:
    assert book().expires_at(END, tenant_id="acme", retention_class="finance") is None
    assert book(all__finance=keep("1000y")).expires_at(
        datetime(9999, 1, 1, tzinfo=UTC), tenant_id=None, retention_class="finance"
    ) is None  # fmt: skip


def test_a_class_named_like_a_preset_follows_it() -> None:
    assert book().rule_of(None, "pci") == PRESETS[Preset.PCI]
    assert book(all__pci=keep("9y")).rule_of(None, "pci") == keep("9y")


def test_the_own_rule_of_a_tenant_wins_over_that_of_all() -> None:
    rules = book(all__standard=keep("2y"), acme__standard=keep("9y"))

    assert rules.rule_of("acme", "standard") == keep("9y")
    assert rules.rule_of("globex", "standard") == keep("2y")
    assert rules.rule_of(None, "standard") == keep("2y"), "a shared file"


def test_a_partition_is_hot_as_long_as_any_rule_asks_for() -> None:
    rules = book(all__pci=keep("12mo", "3mo"), acme__standard=keep("2y", "10d"))

    assert rules.hot_until(END) == datetime(2026, 4, 1, tzinfo=UTC)
    assert rules.is_hot(END, datetime(2026, 3, 31, tzinfo=UTC))
    assert not rules.is_hot(END, datetime(2026, 4, 1, tzinfo=UTC))
    assert rules.hot_for == timedelta(days=93), "never shorter than by the calendar"


def test_a_stored_rule_of_all_replaces_the_hot_time_of_the_preset() -> None:
    assert book(Preset.PCI, all__standard=keep("2y", "10d")).hot_for == timedelta(days=10)
    assert book(Preset.PCI, all__standard=keep("2y")).hot_for == timedelta(days=30)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, keep("9y"), True),
        (keep("9y"), None, False),
        (None, None, False),
        (keep("365d"), keep("12mo"), False),
        (keep("12mo"), keep("11mo"), True),
        (keep("12mo", "3mo"), keep("12mo", "1mo"), False),
    ],
)
def test_shorter_is_what_ends_sooner(
    before: RetentionRule | None, after: RetentionRule | None, expected: bool
) -> None:
    assert is_shorter(before, after, now=END) is expected


@pytest.mark.parametrize(
    ("tenant", "name", "rule"),
    [
        ("", "pci", keep("1y")),
        ("a\nb", "pci", keep("1y")),
        ("acme", "PCI", keep("1y")),
        ("acme", "pci", keep("30d", "2mo")),
    ],
)
def test_a_rule_that_cannot_be_is_refused_in_words(
    tenant: str, name: str, rule: RetentionRule
) -> None:
    with pytest.raises(ValueError, match=r"tenant:|retention class|hot time"):
        check_rule(tenant_id=tenant, retention_class=name, rule=rule, now=END)
