"""Changes of rules and classes: which of them keep events for a shorter time.

Here: the comparison of before and after. Not here: storing a change (`retention/rules.py`,
`retention/classes.py`), the second person whom a shorter time needs (`approval.py`).
Guarantee: what is not certainly as long counts as shorter. Exceptions: before the first partition
was sealed everything is free, and so is a class that no pattern names and no sealed event has:
there is nothing that could be deleted sooner.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.retention.classes import STANDARD, RetentionClasses
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.rules import ALL_TENANTS, RetentionRule, RuleBook


def is_rule_shorter(
    conn: Connection,
    book: RuleBook,
    classes: RetentionClasses,
    *,
    tenant_id: str,
    retention_class: str,
    rule: RetentionRule | None,
    now: datetime,
) -> bool:
    """Whether a rule would keep events for a shorter time.

    Args:
        conn: As `audit_maint` or the owner.
        book: The rules as they are.
        classes: The patterns as they are.
        tenant_id: `*` for all without a rule of their own.
        retention_class: Whose rule changes.
        rule: The new one; None removes what is stored.
        now: Aware; months have no length without a date.
    """
    asked = None if tenant_id == ALL_TENANTS else tenant_id
    before = book.rule_of(asked, retention_class)
    after = _changed(book, (tenant_id, retention_class), rule).rule_of(asked, retention_class)
    named = {STANDARD, *(pattern.retention_class for pattern in classes.patterns)}
    return is_shorter(before, after, now=now) and _may_have_events(conn, {retention_class}, named)


def is_class_shorter(
    conn: Connection,
    book: RuleBook,
    classes: RetentionClasses,
    *,
    source: str,
    action: str,
    retention_class: str | None,
    now: datetime,
) -> bool:
    """Whether a pattern would give events a class that is kept for a shorter time.

    It acts on days sealed from now on; every tenant with rules of its own is looked at, too.

    Args:
        conn: As `audit_maint` or the owner.
        book: The rules as they are.
        classes: The patterns as they are.
        source: Of the pattern.
        action: Of the pattern.
        retention_class: The new one; None removes the pattern.
        now: Aware.
    """
    beneath = classes.classes_beneath(source, action)
    own = classes.own_class(source, action)
    before = beneath if own is None else {own}
    after = beneath if retention_class is None else {retention_class}
    tenants = [None, *{tenant for tenant, _ in book.stored if tenant != ALL_TENANTS}]
    shorter = any(
        is_shorter(book.rule_of(tenant, one), book.rule_of(tenant, other), now=now)
        for tenant in tenants
        for one in before
        for other in after
    )
    # `beneath` too: a class that was given a moment ago hides what its events had until then.
    return shorter and _may_have_events(conn, {*before, *beneath}, {STANDARD})


def is_shorter(before: RetentionRule | None, after: RetentionRule | None, *, now: datetime) -> bool:
    """Whether one rule keeps for a shorter time than another; None keeps for ever."""
    if after is None:
        return False
    return before is None or after.keep.after(now) < before.keep.after(now)


def _changed(book: RuleBook, key: tuple[str, str], rule: RetentionRule | None) -> RuleBook:
    stored: dict[tuple[str, str], RetentionRule] = {**book.stored}
    stored.pop(key, None)
    if rule is not None:
        stored[key] = rule
    return replace(book, stored=MappingProxyType(stored))


def _may_have_events(conn: Connection, classes: Collection[str], named: Collection[str]) -> bool:
    """Whether any of the classes has sealed events, or may get some from what is open now."""
    with as_owner(conn):
        row = conn.execute(
            load_queries("rules")["find_sealed_classes"], {"classes": list(classes)}
        ).fetchone()
    is_any, sealed = row or (False, [])
    return is_any and any(one in sealed or one in named for one in classes)
