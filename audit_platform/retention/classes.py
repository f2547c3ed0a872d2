"""Retention class of an event: what kind of record it is, by source and action.

Here: the patterns of `audit.retention_class`, which one wins, and which tenants get files of
their own. Not here: how long a class is kept (`retention/rules.py`), freezing the decision when a
partition is sealed (`retention/seal.py`).
Guarantee: every event has exactly one class; without a pattern it is `standard`.

An event has no column for its class: the patterns as they are at the seal decide, so a change
applies to days sealed afterwards. Of several patterns that match, an exact source wins over `*`,
then the longest action, an exact one before a beginning of the same length.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.events.event import TEXT_LIMITS
from audit_platform.retention.lifecycle import as_owner

STANDARD: Final = "standard"
ANYTHING: Final = "*"
CLASS_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")
"""As the table demands: it is part of a file name."""
_MAX_CACHED: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPattern:
    """One row of `audit.retention_class`."""

    source: str
    """Exact, or `*`."""
    action: str
    """Exact, or a beginning followed by `*`."""
    retention_class: str

    def __post_init__(self) -> None:
        """Refuse what no event could match and what the table would refuse.

        Raises:
            ValueError: Names the part and the remedy.
        """
        for name, value in (("source", self.source), ("action", self.action)):
            longest = TEXT_LIMITS[name]
            if not value or len(value.removesuffix(ANYTHING)) > longest or not value.isprintable():
                raise ValueError(f"{name}: write 1 to {longest} printable characters")
        if ANYTHING in self.source and self.source != ANYTHING:
            raise ValueError("source: write one source, or * alone for all of them")
        if ANYTHING in self.action[:-1]:
            raise ValueError("action: * stands at the end only, as in user.*")
        check_class(self.retention_class)

    def matches(self, source: str, action: str) -> bool:
        """Whether an event follows it."""
        if self.source not in (ANYTHING, source):
            return False
        if self.action.endswith(ANYTHING):
            return action.startswith(self.action[:-1])
        return action == self.action

    def overlaps(self, other: "ClassPattern") -> bool:
        """Whether an event can follow both."""
        if ANYTHING not in (self.source, other.source) and self.source != other.source:
            return False
        ours, theirs = self.action.removesuffix(ANYTHING), other.action.removesuffix(ANYTHING)
        if self.action.endswith(ANYTHING) and theirs.startswith(ours):
            return True
        if other.action.endswith(ANYTHING) and ours.startswith(theirs):
            return True
        return self.action == other.action

    @property
    def exactness(self) -> tuple[bool, int, bool]:
        """Sorts patterns: of those that match, the largest wins."""
        is_prefix = self.action.endswith(ANYTHING)
        return self.source != ANYTHING, len(self.action) - is_prefix, not is_prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionClasses:
    """Which class an event has, and whose files are kept apart, at one moment.

    Attributes:
        patterns: In any order.
        own_rules: (tenant, class) of each rule of a tenant's own.
    """

    patterns: tuple[ClassPattern, ...] = ()
    own_rules: frozenset[tuple[str, str]] = frozenset()
    _ordered: tuple[ClassPattern, ...] = field(init=False, repr=False, compare=False)
    _known: dict[tuple[str, str], str] = field(
        init=False, repr=False, compare=False, default_factory=dict[tuple[str, str], str]
    )

    def __post_init__(self) -> None:
        """Put the most exact pattern first."""
        ordered = sorted(self.patterns, key=lambda pattern: pattern.exactness, reverse=True)
        object.__setattr__(self, "_ordered", tuple(ordered))

    def class_of(self, source: str, action: str) -> str:
        """The class of an event; pairs repeat, so a decision is remembered."""
        key = (source, action)
        known = self._known.get(key)
        if known is not None:
            return known
        found = next((p.retention_class for p in self._ordered if p.matches(*key)), STANDARD)
        if len(self._known) >= _MAX_CACHED:
            self._known.clear()
        self._known[key] = found
        return found

    def decided(self, pairs: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """Decide pairs of source and action at once; only those that are not `standard`."""
        found = {pair: self.class_of(*pair) for pair in pairs}
        return {pair: name for pair, name in found.items() if name != STANDARD}

    def file_tenant(self, tenant_id: str, retention_class: str) -> str | None:
        """Whose file takes an event: the tenant's own, or None for the one that tenants share."""
        return tenant_id if (tenant_id, retention_class) in self.own_rules else None

    def own_class(self, source: str, action: str) -> str | None:
        """Class of exactly this pattern; None if there is none."""
        return next(
            (p.retention_class for p in self.patterns if (p.source, p.action) == (source, action)),
            None,
        )

    def classes_beneath(self, source: str, action: str) -> frozenset[str]:
        """Classes that events of a pattern may have where neither it nor a more exact one decides.

        Rather too many than too few: of patterns that overlap in part, all are named.
        """
        asked = ClassPattern(source=source, action=action, retention_class=STANDARD)
        wider = [p for p in self._ordered if p.exactness < asked.exactness and p.overlaps(asked)]
        # Any event of the pattern that nothing narrower names; of `*`, any source stands for all.
        outside = "" if source == ANYTHING else source
        stem = action.removesuffix(ANYTHING)
        rest = next((p.retention_class for p in wider if p.matches(outside, stem)), STANDARD)
        return frozenset({rest, *(p.retention_class for p in wider)})


def check_class(name: str) -> None:
    """Refuse a name that no class can have.

    Raises:
        ValueError: Says the form.
    """
    if not CLASS_NAME.fullmatch(name):
        raise ValueError(
            f"retention class {name[:40]!a}: write up to 31 lower-case letters, digits and _, "
            "a letter first"
        )


def read_classes(conn: Connection) -> RetentionClasses:
    """Read the patterns and the tenants with rules of their own, in one snapshot."""
    queries = load_queries("rules")
    with as_owner(conn):
        rows = conn.execute(queries["list_classes_and_own_rules"]).fetchall()
    return RetentionClasses(
        patterns=tuple(
            ClassPattern(source=source, action=action, retention_class=name)
            for source, action, name, tenant_id in rows
            if tenant_id is None
        ),
        own_rules=frozenset((tenant_id, name) for _, _, name, tenant_id in rows if tenant_id),
    )


def set_class(conn: Connection, pattern: ClassPattern) -> None:
    """Store a pattern; the class of an equal one is replaced."""
    with as_owner(conn):
        conn.execute(
            load_queries("rules")["set_retention_class"],
            {
                "source": pattern.source,
                "action": pattern.action,
                "retention_class": pattern.retention_class,
            },
        )


def unset_class(conn: Connection, *, source: str, action: str) -> bool:
    """Remove a pattern; False if there is none."""
    with as_owner(conn):
        removed = conn.execute(
            load_queries("rules")["unset_retention_class"], {"source": source, "action": action}
        )
    return removed.rowcount == 1
