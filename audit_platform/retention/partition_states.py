"""State machine of a partition's life: which step is due (pure).

Here: states, steps, and the one table that says which step leads on from which state. Not here:
the guarded statements that record a step (`retention/partition_table.py`), what a step does
(`retention/seal.py` and its neighbours), and what forbids it in the world: holds, old
transactions, a missing file.
Guarantee: a partition is never asked for a step before its time, and a step that was interrupted
is due again at once.

    state           due when                          step     leads to
    open            seal_after since its end          SEAL     sealed, then its root
    sealed          no root yet                       SEAL     a killed seal goes on
    sealed          no cold indexes yet               INDEX
    sealed          at once                           EXPORT   exported
    exported        at once                           VERIFY   verified
    verified        hot_for since its end, or since   DETACH   detach_started, detached
                    it was attached again
    detach_started  at once: readers left already     DETACH   detached
    detached        grace since the detach            DROP     dropped
    dropped         never                             –

Source: storage design, section 2.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

MIN_GRACE: Final = timedelta(days=7)
"""The table refuses a drop sooner after the detach."""


class State(StrEnum):
    """Where a partition stands, as `audit.partition.state` spells it."""

    OPEN = "open"
    SEALED = "sealed"
    EXPORTED = "exported"
    VERIFIED = "verified"
    DETACH_STARTED = "detach_started"
    DETACHED = "detached"
    DROPPED = "dropped"


class Step(StrEnum):
    """What is done to a partition, in this order."""

    SEAL = "seal"
    INDEX = "index"
    EXPORT = "export"
    VERIFY = "verify"
    DETACH = "detach"
    DROP = "drop"


HOT_STATES: Final = frozenset({State.OPEN, State.SEALED, State.EXPORTED, State.VERIFIED})
"""Readers find the rows in PostgreSQL; in any other state, in the archive."""


_FOLLOWING: Final = {
    State.OPEN: Step.SEAL,
    State.EXPORTED: Step.VERIFY,
    State.VERIFIED: Step.DETACH,
    State.DETACH_STARTED: Step.DETACH,
    State.DETACHED: Step.DROP,
    State.DROPPED: None,
}
"""All but `sealed`, where three steps follow one another without a state of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleRules:
    """How long a partition stays in each part of its life.

    Attributes:
        seal_after: From the end of its range to the seal; late producers write until then.
        hot_for: From the end of its range to the detach.
        grace: From the detach to the drop.
    """

    seal_after: timedelta
    hot_for: timedelta
    grace: timedelta

    def __post_init__(self) -> None:
        """Refuse rules that would seal the present or drop without grace.

        Raises:
            ValueError: A time is too short; names which.
        """
        if self.seal_after <= timedelta():
            raise ValueError("seal_after must be longer than nothing: its range has hardly ended")
        if self.hot_for < timedelta():
            raise ValueError("hot_for must not be negative")
        if self.grace < MIN_GRACE:
            raise ValueError(f"grace must be {MIN_GRACE.days} days or more; the table refuses less")


class PartitionFacts(Protocol):
    """What a decision needs to know of a partition."""

    @property
    def state(self) -> State:
        """Where it stands."""
        ...

    @property
    def hi(self) -> datetime:
        """End of its range, exclusive."""
        ...

    @property
    def root(self) -> bytes | None:
        """Merkle root; None until the seal is complete."""
        ...

    @property
    def indexed_at(self) -> datetime | None:
        """When the cold indexes were there."""
        ...

    @property
    def detached_at(self) -> datetime | None:
        """When reads moved to the archive."""
        ...

    @property
    def stepped_at(self) -> datetime | None:
        """When its last step was recorded; None before the first."""
        ...

    @property
    def returned_at(self) -> datetime | None:
        """When it was attached again after a detach; None if it was not."""
        ...


def next_step(row: PartitionFacts, rules: LifecycleRules, now: datetime) -> Step | None:
    """Say which step is due.

    Args:
        row: As read from `audit.partition`.
        rules: Of the platform; a rule of a tenant only makes a step later, never sooner.
        now: Aware.

    Returns:
        The step, or None if nothing is due now: `due_at` says when.

    Raises:
        ValueError: `now` is naive.
    """
    if now.tzinfo is None:
        raise ValueError("a moment without time zone decides nothing; pass an aware datetime")
    at = due_at(row, rules)
    return following_step(row) if at is not None and at <= now else None


def following_step(row: PartitionFacts) -> Step | None:
    """Say which step comes next, whenever that is; None after the last."""
    if row.state is not State.SEALED:
        return _FOLLOWING[row.state]
    if row.root is None:
        return Step.SEAL
    return Step.INDEX if row.indexed_at is None else Step.EXPORT


def due_at(row: PartitionFacts, rules: LifecycleRules) -> datetime | None:
    """Say from when on the following step is due; None after the last.

    A step without a waiting time is due since the end of the range, but never before the step
    before it was recorded: while a clock is set back nothing goes on, since a detach recorded in
    the past would use up the grace period before it began.
    """
    match row.state:
        case State.OPEN:
            at = row.hi + rules.seal_after
        case State.VERIFIED:
            # Whoever brought an old day back wants to read it: it is hot again for as long as a
            # new one, not until the next night.
            at = max(row.hi, row.returned_at or row.hi) + rules.hot_for
        case State.DETACHED:
            # The table demands `detached_at` of this state; without it, never rather than now.
            if row.detached_at is None:
                return None
            at = row.detached_at + rules.grace
        case State.DROPPED:
            return None
        case _:
            at = row.hi
    return at if row.stepped_at is None else max(at, row.stepped_at)
