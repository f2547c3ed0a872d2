"""How long events are kept: in PostgreSQL, and in all.

Here: presets, the rules of `audit.retention_rule`, which one applies, and the moments that follow.
Not here: which class an event has (`retention/classes.py`), holds that override every rule
(`retention/holds.py`), deleting what has expired (`retention/expire.py`).
Guarantee: a class for which nobody made a rule is kept for ever.

Which rule applies to a tenant and a class, the first of: the tenant's own; the one of all tenants
(`*`); the preset of the class's name (`pci`, `hipaa`, `short`); for `standard` the platform's
preset. All times count from the end of the partition.

A partition is hot as a whole: as long as the longest of the rules asks for. So the shortest real
retention is that hot time and the grace before a table is dropped, whatever a rule says.

Source of the figures: features, section 5, and the storage issue: pci 3 months hot and 12 in all,
hipaa 6 years, short 7 days.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.errors import InvalidSetting
from audit_platform.events.event import TEXT_LIMITS
from audit_platform.retention.classes import STANDARD, check_class
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.span import NEVER, Span

ALL_TENANTS: Final = "*"
_LONGEST_MONTH_DAYS: Final = 31


class Preset(StrEnum):
    """Named figures."""

    DEFAULT = "default"
    PCI = "pci"
    HIPAA = "hipaa"
    SHORT = "short"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """How long the events of one tenant and class are kept.

    Attributes:
        keep: In all, from the end of the partition.
        hot: At least so long in PostgreSQL, part of `keep`; None: the platform's setting.
    """

    keep: Span
    hot: Span | None = None


PRESETS: Final[Mapping[Preset, RetentionRule]] = MappingProxyType(
    {
        Preset.DEFAULT: RetentionRule(keep=Span(months=12)),
        Preset.PCI: RetentionRule(keep=Span(months=12), hot=Span(months=3)),
        Preset.HIPAA: RetentionRule(keep=Span(months=72)),
        Preset.SHORT: RetentionRule(keep=Span(days=7), hot=Span(days=7)),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleBook:
    """All rules at one moment.

    Attributes:
        preset: The platform's, for `standard` events without a stored rule.
        hot: The platform's hot time, where a rule names none.
        stored: Rules of `audit.retention_rule` by (tenant, class).
    """

    preset: Preset
    hot: Span
    stored: Mapping[tuple[str, str], RetentionRule]

    def rule_of(self, tenant_id: str | None, retention_class: str) -> RetentionRule | None:
        """The rule for a tenant and a class; None keeps for ever.

        Args:
            tenant_id: None for a file that tenants share.
            retention_class: Of the events.
        """
        if tenant_id is not None and (tenant_id, retention_class) in self.stored:
            return self.stored[tenant_id, retention_class]
        return self._shared_rule(retention_class)

    def expires_at(
        self, hi: datetime, *, tenant_id: str | None, retention_class: str
    ) -> datetime | None:
        """When the archived events of a partition that ends at `hi` may go; None: never."""
        rule = self.rule_of(tenant_id, retention_class)
        expires = NEVER if rule is None else rule.keep.after(hi)
        return None if expires == NEVER else expires

    def hot_until(self, hi: datetime) -> datetime:
        """Until when a partition that ends at `hi` stays in PostgreSQL."""
        return max(span.after(hi) for span in self._hot_spans())

    def is_hot(self, hi: datetime, now: datetime) -> bool:
        """Whether a partition that ends at `hi` still belongs into PostgreSQL."""
        return now < self.hot_until(hi)

    @property
    def hot_for(self) -> timedelta:
        """The hot time as one length for all partitions; a month counts 31 days."""
        return timedelta(
            days=max(s.months * _LONGEST_MONTH_DAYS + s.days for s in self._hot_spans())
        )

    def _shared_rule(self, retention_class: str) -> RetentionRule | None:
        stored = self.stored.get((ALL_TENANTS, retention_class))
        if stored is not None:
            return stored
        if retention_class in frozenset(Preset):
            return PRESETS[Preset(retention_class)]
        return PRESETS[self.preset] if retention_class == STANDARD else None

    def _hot_spans(self) -> list[Span]:
        rules = [*self.stored.values()]
        if (ALL_TENANTS, STANDARD) not in self.stored:
            rules.append(PRESETS[self.preset])
        return [rule.hot or self.hot for rule in rules]


def check_rule(*, tenant_id: str, retention_class: str, rule: RetentionRule, now: datetime) -> None:
    """Refuse a rule that the table would refuse, in words.

    Args:
        tenant_id: `*` for all without a rule of their own.
        retention_class: Any name that a class can have.
        rule: To be stored.
        now: Aware; months have no length without a date.

    Raises:
        ValueError: Names the part and the remedy.
    """
    longest = TEXT_LIMITS["tenant_id"]
    if not 1 <= len(tenant_id) <= longest or not tenant_id.isprintable():
        raise ValueError(f"tenant: write 1 to {longest} printable characters, or * for all")
    check_class(retention_class)
    if rule.hot is not None and rule.hot.after(now) > rule.keep.after(now):
        raise ValueError(
            f"hot time {rule.hot} is longer than the whole of {rule.keep}; it is a part of it"
        )


def read_rules(conn: Connection, *, preset: Preset | str, hot_days: int) -> RuleBook:
    """Read the stored rules.

    Args:
        conn: As `audit_maint` or the owner.
        preset: The setting AUDIT_RETENTION_PRESET.
        hot_days: The setting AUDIT_HOT_DAYS.

    Raises:
        InvalidSetting: There is no such preset.
    """
    if preset not in frozenset(Preset):
        raise InvalidSetting(
            f"AUDIT_RETENTION_PRESET is {preset!r}: use one of {', '.join(Preset)}",
            field="retention_preset",
        )
    with as_owner(conn):
        rows = conn.execute(load_queries("rules")["list_retention_rules"]).fetchall()
    return RuleBook(
        preset=Preset(preset),
        hot=Span(days=hot_days),
        stored=MappingProxyType({(row[0], row[1]): _rule(*row[2:]) for row in rows}),
    )


def set_rule(
    conn: Connection, *, tenant_id: str, retention_class: str, rule: RetentionRule
) -> None:
    """Store a rule; one for the same tenant and class is replaced. `check_rule` comes before.

    A rule of a tenant's own applies to files of its own, so to days exported afterwards.
    """
    hot = rule.hot
    values: dict[str, Any] = {
        "tenant_id": tenant_id,
        "retention_class": retention_class,
        "keep_months": rule.keep.months,
        "keep_days": rule.keep.days,
        "hot_months": None if hot is None else hot.months,
        "hot_days": None if hot is None else hot.days,
    }
    with as_owner(conn):
        conn.execute(load_queries("rules")["set_retention_rule"], values)


def unset_rule(conn: Connection, *, tenant_id: str, retention_class: str) -> bool:
    """Remove a rule; False if there is none."""
    with as_owner(conn):
        removed = conn.execute(
            load_queries("rules")["unset_retention_rule"],
            {"tenant_id": tenant_id, "retention_class": retention_class},
        )
    return removed.rowcount == 1


def _rule(
    keep_months: int, keep_days: int, hot_months: int | None, hot_days: int | None
) -> RetentionRule:
    has_hot = hot_months is not None and hot_days is not None
    return RetentionRule(
        keep=Span(months=keep_months, days=keep_days),
        hot=Span(months=hot_months or 0, days=hot_days or 0) if has_hot else None,
    )
