"""What a client reports about itself: counts that add up, and the state of its circuit."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from audit_platform.events.policy import Durability
from audit_platform.events.policy_rules import Omission


class DropReason(StrEnum):
    """Why an accepted event was given up."""

    BUFFER_FULL = "buffer_full"
    """It came when the buffer was full."""
    SHED = "shed"
    """It was `best_effort` and made room for a `standard` event."""
    INVALID = "invalid"
    """Its arguments turned out to be wrong after `log()` had returned; also in `rejected`."""
    SPOOL = "spool"
    """The disk took a `durable` event not; the call raised `AuditUnavailable`."""
    CLOSED = "closed"
    """It came after `close()`."""
    CLOSE_TIMEOUT = "close_timeout"
    """`close()` ran out of time; the event may have reached Redis."""


class BreakerState(StrEnum):
    """State of the circuit between the sender and Redis."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


Drops = Mapping[DropReason, Mapping[Durability, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStats:
    """Counts since the client was made, or since the fork in a forked child.

    `accepted` equals `sent` + all of `dropped` + `buffered` + `spooled` in every value.
    """

    accepted: int
    """Events taken; each has a number unless it came after `close()`, so that the numbers missing
    in the log are the drops."""
    sent: int
    """Events that Redis confirmed."""
    buffered: int
    """Events waiting or on their way."""
    buffered_bytes: int
    spooled: int
    """Events that wait on disk for Redis."""
    spool_bytes: int
    """Size of the spool, with what is kept for repairs."""
    inherited: int
    """Events of earlier processes that wait on disk for Redis."""
    unconfirmed: int
    """Entries that Redis had and the database does not account for yet."""
    resent: int
    """Entries sent again because nobody confirmed them in time."""
    not_logged: Mapping[Omission, int]
    """Calls that the policies left out before they counted as accepted."""
    dropped: Drops
    """Accepted events given up, by reason and durability class; zero counts are left out."""
    rejected: Mapping[str, int]
    """Calls with a bad argument, by the field at fault; `event`: too large."""
    retries: int
    """Attempts to send that failed and were repeated with the same bytes."""
    breaker: BreakerState
    level: int
    """Overload level that the platform published, 0 to 3."""
    last_error: str | None
    """Last error of the sender or of the disk; None after a success."""

    @property
    def dropped_total(self) -> int:
        """Accepted events given up, for whatever reason."""
        return sum(count for by_class in self.dropped.values() for count in by_class.values())

    @property
    def rejected_total(self) -> int:
        """Calls with a bad argument."""
        return sum(self.rejected.values())
