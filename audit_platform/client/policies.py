"""Policies of a client: follows their file, decides calls, counts what is not logged.

Here: reading the file again when it changes, the decision for a call, the counts. Not here: the
form of the file (`client/policy_file.py`), which rule applies and how sampling chooses
(`events/policy_rules.py`), what a decision changes in an event (`client/snapshot.py`), the control
events made from the counts.
Guarantee: a call that gives no event because of a policy is counted exactly once. A file that turns
out broken, or goes away, while the process runs is logged once, and the rules before it stay; only
`PolicyBook.load` refuses. Safe to share between threads.
"""

import logging
import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple, TypeAlias

from audit_platform.client.fields import id_text
from audit_platform.client.policy_file import read_policies
from audit_platform.errors import InvalidPolicy
from audit_platform.events.policy_rules import KEPT_AS_IT_IS, Decision, Omission, PolicyRules

logger = logging.getLogger(__name__)

MAX_COUNTED_PAIRS: Final = 100
OTHERS: Final = "*"
"""Source and action under which everything beyond `MAX_COUNTED_PAIRS` is counted."""
_CHECK_INTERVAL_S: Final = 1.0

_Signature: TypeAlias = tuple[int, int, int]
_Count: TypeAlias = tuple[str, str, Omission]


class NotLogged(NamedTuple):
    """How many calls of one kind a policy left out since the process started."""

    source: str
    action: str
    omission: Omission
    calls: int


class PolicyCounts:
    """Counts of calls that a policy left out, by source, action and why; they only grow.

    At most 100 pairs of source and action are told apart; all further ones are counted together as
    `*`, `*`, so that hostile or generated names cannot fill the memory.
    """

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = Lock()
        self._counts: dict[_Count, int] = {}
        self._reported: dict[_Count, int] = {}
        self._pairs: set[tuple[str, str]] = set()
        self.has_news = False
        """Whether `take_news` would give something."""
        self.on_news: Callable[[], None] | None = None
        """Called when there is something again; once until it is taken."""

    def add(self, source: str, action: str, omission: Omission) -> None:
        """Count one call."""
        key = (source, action, omission)
        with self._lock:
            known = self._counts.get(key)
            if known is None:
                key = self._take_place(key)
                known = self._counts.get(key, 0)
            self._counts[key] = known + 1
            is_first, self.has_news = not self.has_news, True
        if is_first and self.on_news is not None:
            self.on_news()

    def _take_place(self, key: _Count) -> _Count:
        source, action, omission = key
        if (source, action) not in self._pairs:
            if len(self._pairs) >= MAX_COUNTED_PAIRS:
                return OTHERS, OTHERS, omission
            self._pairs.add((source, action))
        return key

    def snapshot(self) -> list[NotLogged]:
        """Look at all counts, in the order in which each first occurred."""
        with self._lock:
            return [NotLogged(*key, calls) for key, calls in self._counts.items()]

    def take_news(self) -> list[NotLogged]:
        """Give the counts that changed since the last call, each as its present total.

        Whoever takes them keeps the greatest per kind, so that a report that is lost or comes
        twice does no harm once the next one is there.
        """
        with self._lock:
            news = [
                NotLogged(*key, calls)
                for key, calls in self._counts.items()
                if self._reported.get(key) != calls
            ]
            self._reported.update(self._counts)
            self.has_news = False
            return news

    def totals(self) -> dict[Omission, int]:
        """Add up by why; zero counts are left out."""
        totals: dict[Omission, int] = {}
        for one in self.snapshot():
            totals[one.omission] = totals.get(one.omission, 0) + one.calls
        return totals


class PolicyBook:
    """The policies of one client: decides calls, follows its file, counts."""

    def __init__(
        self,
        path: Path,
        rules: PolicyRules,
        signature: _Signature | None,
        *,
        draw: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take rules that were read; `load` reads them.

        Args:
            path: The file.
            rules: As read from it.
            signature: Of the file when it was read.
            draw: Gives numbers from 0 up to 1. From a generator of its own: an application that
                seeds the global one must not choose what is kept.
            clock: Seconds that only grow.
        """
        self.path = path
        self.counts = PolicyCounts()
        self._rules, self._signature = rules, signature
        self._draw, self._clock = draw, clock
        self._next_check_s = clock() + _CHECK_INTERVAL_S
        self._lock = Lock()

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        draw: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> "PolicyBook":
        """Read the file for the first time.

        Args:
            path: The file.
            draw: As for the book itself; None makes a generator.
            clock: Seconds that only grow.

        Raises:
            InvalidPolicy: It is missing or wrong; names rule, field and remedy.
        """
        signature = _signature_of(path)
        return cls(path, read_policies(path), signature, draw=draw or _new_draw(), clock=clock)

    def for_child(self) -> "PolicyBook":
        """Make the book of a forked child: same rules, own counts, locks and generator."""
        return PolicyBook(
            self.path, self._rules, self._signature, draw=_new_draw(), clock=self._clock
        )

    def decide(self, source: object, action: object, correlation_id: object = None) -> Decision:
        """Decide one call, before its event gets a number.

        Nothing is checked yet at this point: what no event could have as its name is kept here,
        so that the check of the arguments refuses it by field.

        Args:
            source: Of the call, its scope or the client.
            action: First argument of `log()`.
            correlation_id: Of the call or its scope.
        """
        if self._clock() >= self._next_check_s:
            self.refresh()
        if not isinstance(source, str) or not isinstance(action, str):
            return KEPT_AS_IT_IS
        rule = self._rules.find(source, action)
        if rule is None:
            return KEPT_AS_IT_IS
        decision = rule.always
        if decision is None:
            known = id_text(correlation_id)
            decision = rule.decide(known if isinstance(known, str) else None, self._draw)
        if decision.omission is not None:
            self.counts.add(source, action, decision.omission)
        return decision

    def refresh(self) -> None:
        """Look whether the file changed, and read it again if so; one thread does, others go on.

        `decide` calls it once a second. A thread that has time may call it as often, which keeps
        the look (about 2 us) and the reading (about 1 ms for 10 rules) out of the calls.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._next_check_s = self._clock() + _CHECK_INTERVAL_S
            self._follow()
        finally:
            self._lock.release()

    def _follow(self) -> None:
        signature = _signature_of(self.path)
        if signature == self._signature:
            return
        # Kept even when the file is broken, so that one broken version is reported once.
        self._signature = signature
        try:
            self._rules = read_policies(self.path)
        except InvalidPolicy as exc:
            logger.warning("audit policies stay as they were: %s", exc.message)
        else:
            logger.info("audit policies read again from %s", self.path)


def open_book(path: Path | None) -> PolicyBook | None:
    """Read the policies of a client; None where no file is set: its calls then pay nothing.

    Raises:
        InvalidPolicy: The file is missing or wrong; names rule, field and remedy.
    """
    return None if path is None else PolicyBook.load(path)


def _new_draw() -> Callable[[], float]:
    return random.Random(secrets.randbits(256)).random  # noqa: S311 - unique, not secret


def _signature_of(path: Path) -> _Signature | None:
    """Tell one version of a file from the next; None when it cannot be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
