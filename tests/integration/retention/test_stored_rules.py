"""Rules and classes in the table: what is read is what was stored, and what PostgreSQL means."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from audit_platform.db.pool import Connection
from audit_platform.errors import InvalidSetting
from audit_platform.retention.classes import ClassPattern, read_classes, set_class, unset_class
from audit_platform.retention.rules import RetentionRule, read_rules, set_rule, unset_rule
from audit_platform.retention.span import Span

pytestmark = pytest.mark.integration

MOMENTS = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
SPANS = st.tuples(st.integers(0, 600), st.integers(0, 4_000)).filter(any)


def test_stored_rules_are_read_back_exactly(maint: Connection) -> None:
    rules = {
        ("*", "standard"): RetentionRule(keep=Span(months=14, days=3), hot=Span(days=45)),
        ("acme", "pci"): RetentionRule(keep=Span(months=84)),
    }
    for (tenant, name), rule in rules.items():
        set_rule(maint, tenant_id=tenant, retention_class=name, rule=rule)

    found = read_rules(maint, preset="default", hot_days=30)

    assert dict(found.stored) == rules


def test_a_rule_is_replaced_and_removed(maint: Connection) -> None:
    key = {"tenant_id": "*", "retention_class": "pci"}
    set_rule(maint, **key, rule=RetentionRule(keep=Span(days=10), hot=Span(days=2)))
    set_rule(maint, **key, rule=RetentionRule(keep=Span(days=20)))

    assert read_rules(maint, preset="default", hot_days=30).stored == {
        ("*", "pci"): RetentionRule(keep=Span(days=20))
    }
    assert unset_rule(maint, **key)
    assert not unset_rule(maint, **key)


def test_a_part_of_a_day_that_somebody_stored_counts_as_a_day(
    admin: Connection, maint: Connection
) -> None:
    admin.execute(
        "insert into audit.retention_rule values ('*', 'odd', '1 month 36 hours 1 second')"
    )

    found = read_rules(maint, preset="default", hot_days=30)

    assert found.stored["*", "odd"].keep == Span(months=1, days=2)


def test_an_unknown_preset_is_named(maint: Connection) -> None:
    with pytest.raises(InvalidSetting, match="AUDIT_RETENTION_PRESET"):
        read_rules(maint, preset="weekly", hot_days=30)


def test_a_span_ends_when_postgresql_says(maint: Connection) -> None:
    """Both sides decide when a file goes; they must agree to the microsecond."""

    @examples(max_examples=200, database=None)
    @given(moment=MOMENTS, span=SPANS)
    def agrees(moment: datetime, span: tuple[int, int]) -> None:
        months, days = span
        row = maint.execute(
            "select %s::timestamptz + make_interval(months => %s, days => %s)",
            [moment, months, days],
        ).fetchone()
        assert row == (Span(months=months, days=days).after(moment),)

    agrees()


def test_patterns_and_own_rules_are_read_in_one_snapshot(maint: Connection) -> None:
    pattern = ClassPattern(source="*", action="payment.*", retention_class="cards")
    set_class(maint, pattern)
    set_class(maint, ClassPattern(source="*", action="payment.*", retention_class="pci"))
    rule = RetentionRule(keep=Span(days=10))
    set_rule(maint, tenant_id="acme", retention_class="pci", rule=rule)
    set_rule(maint, tenant_id="*", retention_class="pci", rule=rule)

    found = read_classes(maint)

    assert found.class_of("web", "payment.refund") == "pci"
    assert found.own_rules == {("acme", "pci")}
    assert unset_class(maint, source="*", action="payment.*")
    assert not unset_class(maint, source="*", action="payment.*")
    assert read_classes(maint).class_of("web", "payment.refund") == "standard"


def test_the_table_refuses_what_the_check_refuses(maint: Connection) -> None:
    from audit_platform.errors import RowRefused

    too_hot = RetentionRule(keep=Span(days=10), hot=Span(days=11))
    with pytest.raises(RowRefused):
        set_rule(maint, tenant_id="*", retention_class="pci", rule=too_hot)
    with pytest.raises(RowRefused):
        set_rule(maint, tenant_id="*", retention_class="PCI", rule=RetentionRule(keep=Span(days=1)))


def test_the_hot_time_of_a_reader_is_that_of_the_rules(maint: Connection) -> None:
    found = read_rules(maint, preset="short", hot_days=30)

    assert found.hot_for == timedelta(days=7)
