"""Policies per source and action: which rule applies, and what it means for an event (pure).

Here: patterns, the first rule that matches, the decision for one call. Not here: the file they
come from (`client/policies.py`), what is left out of an event (`privacy/redact_fields.py`).
Guarantee: an event without a matching rule is kept as it is; so are the platform's own events
(source `audit`, action `audit.…`), since they are the account of all others.

Sampling: of calls without correlation id each is decided by itself, by a number the caller draws.
Calls with one share their fate, by a hash of the id alone: a business operation is in the log as a
whole or not at all, over all processes and services that log under this id, and what a rule of 1 %
keeps is also kept by one of 10 %. A kept event carries `sampled_rate` = 1 / rate: it stands for so
many, and roll-ups weight by it.

Source: events design, section 3; delivery design, section 12.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import translate
from functools import lru_cache
from typing import Final

from audit_platform.errors import InvalidEvent
from audit_platform.events.event import SEVERITY_RANGE, TEXT_LIMITS, check_text
from audit_platform.events.policy import Durability
from audit_platform.privacy.redact_fields import FieldRedaction, parse_fields

ANYTHING: Final = "*"
OWN_SOURCE: Final = "audit"
OWN_ACTIONS: Final = "audit."
# What `real` tells apart from 1/rate, and more than anybody samples.
SMALLEST_SAMPLE_RATE: Final = 1e-6
_MAX_CACHED: Final = 1_024
_RETENTION_CLASS: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_HASH_RANGE: Final = 1 << 64


class Omission(StrEnum):
    """Why a call gave no event."""

    SAMPLED = "sampled"
    """It was not among those a sample keeps."""
    DROPPED = "dropped"
    """Its rule drops all of its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a policy means for one call; the same objects are handed out again and again."""

    omission: Omission | None = None
    """None: it becomes an event."""
    durability: Durability | None = None
    """For a call that names none."""
    severity: int | None = None
    """For a call that names none."""
    sampled_rate: float = 1.0
    redaction: FieldRedaction | None = None


KEPT_AS_IT_IS: Final = Decision()
_DROPPED: Final = Decision(omission=Omission.DROPPED)
_SAMPLED_OUT: Final = Decision(omission=Omission.SAMPLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """One rule of a policies file.

    `retention_class` has no column: the class of a partition's rows is decided when it is sealed,
    from the rules as they are then. It is checked and kept here for that.
    """

    source: str = ANYTHING
    action: str = ANYTHING
    durability: Durability | None = None
    sample_rate: float = 1.0
    retention_class: str | None = None
    severity: int | None = None
    redact: tuple[str, ...] = ()
    drop: bool = False
    always: Decision | None = field(init=False)
    """The decision, where it is the same for each call."""
    _kept: Decision = field(init=False)

    def __post_init__(self) -> None:
        """Refuse what no event could follow, and make the two possible decisions once.

        Raises:
            InvalidRule: Names the field, the problem and the remedy.
        """
        problem = next(_problems(self), None)
        if problem is not None:
            raise problem
        try:
            redaction = parse_fields(self.redact) if self.redact else None
        except ValueError as exc:
            raise InvalidRule("redact", str(exc), "name a key, a column or a path") from None
        kept = Decision(
            durability=self.durability,
            severity=self.severity,
            sampled_rate=1 / self.sample_rate,
            redaction=redaction,
        )
        always = _DROPPED if self.drop else kept if self.sample_rate >= 1 else None
        object.__setattr__(self, "always", always)
        object.__setattr__(self, "_kept", kept)

    def decide(self, correlation_id: str | None, draw: Callable[[], float]) -> Decision:
        """Decide one call.

        Args:
            correlation_id: Of the call, in the form in which it is stored.
            draw: Gives a number from 0 up to 1, for a call without one.
        """
        if self.always is not None:
            return self.always
        # A longer one is refused later; it must not fill the memory of `share_of`.
        if correlation_id and len(correlation_id) <= TEXT_LIMITS["correlation_id"]:
            number = share_of(correlation_id)
        else:
            number = draw()
        return self._kept if number < self.sample_rate else _SAMPLED_OUT


class InvalidRule(Exception):
    """A rule that cannot be followed; the reader of the file adds its number and place."""

    def __init__(self, field_name: str, problem: str, remedy: str) -> None:
        """Name the field, what was found and what to write instead."""
        self.field, self.problem, self.remedy = field_name, problem, remedy
        super().__init__(f"{field_name}: {problem}; {remedy}")


class PolicyRules:
    """Rules in the order of their file; the first that matches wins. Safe to share."""

    def __init__(self, rules: Sequence[PolicyRule]) -> None:
        """Take the rules."""
        self.rules = tuple(rules)
        self._matchers = tuple((_matcher(rule.source), _matcher(rule.action)) for rule in rules)
        self._known: dict[tuple[str, str], PolicyRule | None] = {}

    def find(self, source: str, action: str) -> PolicyRule | None:
        """The rule for a source and an action; None keeps the event as it is.

        Names that no event can have follow no rule: they are refused, not left out and counted.
        """
        key = (source, action)
        try:
            return self._known[key]
        except KeyError:
            pass
        if not _can_be_stored("source", source) or not _can_be_stored("action", action):
            return None
        number = self.winner(source, action)
        found = None if number is None else self.rules[number - 1]
        # Names are few; where they are not, all make room in one sweep.
        if len(self._known) >= _MAX_CACHED:
            self._known.clear()
        self._known[key] = found
        return found

    def winner(self, source: str, action: str) -> int | None:
        """Number of the rule that wins, from 1."""
        if source == OWN_SOURCE and action.startswith(OWN_ACTIONS):
            return None
        for number, (is_source, is_action) in enumerate(self._matchers, 1):
            if is_source(source) and is_action(action):
                return number
        return None

    def shadowed(self) -> Iterator[tuple[int, int]]:
        """Rules that never apply, each with an earlier one that takes all of its events."""
        for later, rule in enumerate(self.rules):
            for earlier, other in enumerate(self.rules[:later]):
                if _covers(other.source, rule.source) and _covers(other.action, rule.action):
                    yield later + 1, earlier + 1
                    break


# The events of one operation come close together; a repeat costs 0.1 us instead of 1.5 us.
@lru_cache(maxsize=4_096)
def share_of(correlation_id: str) -> float:
    """Place of a correlation id between 0 and 1, the same on every machine and in every version."""
    digest = hashlib.blake2b(correlation_id.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") / _HASH_RANGE


def _can_be_stored(name: str, value: str) -> bool:
    try:
        check_text(name, value, TEXT_LIMITS[name])
    except InvalidEvent:
        return False
    return bool(value)


def _matcher(pattern: str) -> Callable[[str], object]:
    return re.compile(translate(pattern)).match


def _covers(pattern: str, other: str) -> bool:
    return pattern in (ANYTHING, other)


def _problems(rule: PolicyRule) -> Iterator[InvalidRule]:
    for name, pattern in (("source", rule.source), ("action", rule.action)):
        longest = TEXT_LIMITS[name]
        if not pattern or len(pattern) > longest or not pattern.isprintable():
            yield InvalidRule(
                name, "is empty, too long or not printable", f"write 1 to {longest} characters"
            )
    if not SMALLEST_SAMPLE_RATE <= rule.sample_rate <= 1:
        yield InvalidRule(
            "sample_rate",
            f"is {rule.sample_rate!r}",
            f"write the part that is kept, from {SMALLEST_SAMPLE_RATE:g} to 1; to keep none: "
            "drop: true",
        )
    if rule.severity is not None and rule.severity not in SEVERITY_RANGE:
        yield InvalidRule("severity", f"is {rule.severity!r}", "write 0 (debug) to 5 (critical)")
    if rule.retention_class is not None and not _RETENTION_CLASS.fullmatch(rule.retention_class):
        yield InvalidRule(
            "retention_class",
            f"is {rule.retention_class[:40]!a}",
            "write up to 32 lower-case letters, digits, - and _, a letter first",
        )
    shapes = (rule.durability, rule.severity, rule.retention_class, rule.redact or None)
    if rule.drop and (rule.sample_rate != 1 or any(value is not None for value in shapes)):
        yield InvalidRule(
            "drop",
            "stands beside fields for events that are kept",
            "write source, action and drop alone",
        )
