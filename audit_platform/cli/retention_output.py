"""Rules and classes of retention as lists.

Here: what stands in which column. Not here: printing (`cli/listing.py`), the commands
(`cli/retention.py`).
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from audit_platform.retention.classes import STANDARD, ClassPattern, RetentionClasses
from audit_platform.retention.rules import ALL_TENANTS, Preset, RuleBook

RULE_COLUMNS: Final = ("tenant", "class", "hot", "keep", "deleted after", "from")
CLASS_COLUMNS: Final = ("source", "action", "class")


def rule_rows(
    book: RuleBook, classes: RetentionClasses, *, grace: timedelta, now: datetime
) -> Iterator[tuple[str, ...]]:
    """List what applies, by tenant and class: stored rules, and classes without one.

    Args:
        book: The rules.
        classes: The patterns; each class that they name is listed.
        grace: Between detaching and dropping a table: archive files outlive it.
        now: Aware; months have no length without a date.
    """
    named = {STANDARD, *(pattern.retention_class for pattern in classes.patterns)}
    keys = {(ALL_TENANTS, name) for name in named} | set(book.stored)
    shortest = book.hot_for + grace
    for tenant, name in sorted(keys):
        rule = book.rule_of(None if tenant == ALL_TENANTS else tenant, name)
        origin = _origin(book, tenant, name)
        if rule is None:
            yield tenant, name, str(book.hot), "for ever", "never", origin
            continue
        is_longer = rule.keep.after(now) >= now + shortest
        after = str(rule.keep) if is_longer else f"{shortest.days} days"
        yield tenant, name, str(rule.hot or book.hot), str(rule.keep), after, origin


def class_fields(pattern: ClassPattern) -> dict[str, str]:
    """A pattern by the titles of `CLASS_COLUMNS`."""
    return {
        "source": pattern.source,
        "action": pattern.action,
        "class": pattern.retention_class,
    }


def _origin(book: RuleBook, tenant: str, retention_class: str) -> str:
    if (tenant, retention_class) in book.stored:
        return "rule"
    if retention_class in frozenset(Preset):
        return f"preset {retention_class}"
    return f"preset {book.preset}" if retention_class == STANDARD else "no rule"
