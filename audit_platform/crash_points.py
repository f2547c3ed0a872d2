"""Named points where a test may kill the process; inert unless one is armed.

Here: the names and the trigger. The setting `AUDIT_CRASH` arms one point; `arm()` is called by
process entry points that received settings, never at import.
Guarantee: with nothing armed, `crash()` costs one comparison.

`P_`: the producer; `C_`, `M_`, `L_`: the consumer, its merge, its ledger; `S_`: storage, the steps
of a partition's life, each right after what it names; `R_`: restores, likewise.
Source of the names: docs/decisions, the delivery design, section "Crash points", and the storage
design, section 2.
"""

import os
import signal
from typing import Final

CRASH_POINTS: Final = frozenset(
    {
        "P_BUFFERED",
        "P_SPOOLED",
        "P_ADDED",
        "P_CONFIRMED",
        "C_READ",
        "C_DECODED",
        "C_MIDCOPY",
        "C_BEFORE_COMMIT",
        "C_COMMITTED",
        "C_DONE",
        "M_STAGED",
        "M_MERGED",
        "L_FOLD",
        "S_TRIGGERS",
        "S_DIGEST",
        "S_INDEXED",
        "S_TMP_WRITTEN",
        "S_RENAMED",
        "S_SECOND_COPY",
        "S_EXPORTED",
        "S_VERIFIED",
        "S_DETACH_MARKED",
        "S_DETACH_PENDING",
        "S_DETACHED",
        "S_DROP_UPDATED",
        "R_TABLE_MADE",
        "R_COPIED",
        "R_PROVED",
        "R_FILLED",
        "R_INDEXED",
        "R_ATTACHED",
        "R_COMMITTED",
        "R_REMOVED",
    }
)

_armed: str | None = None


def arm(name: str | None) -> None:
    """Choose the point at which this process kills itself; None disarms.

    Args:
        name: One of `CRASH_POINTS`, or None.

    Raises:
        ValueError: `name` is not a known point; a test would otherwise pass for the wrong reason.
    """
    global _armed  # noqa: PLW0603 - one process, one armed point; a parameter would run through every layer
    if name is not None and name not in CRASH_POINTS:
        message = f"unknown crash point {name!r}; known: {', '.join(sorted(CRASH_POINTS))}"
        raise ValueError(message)
    _armed = name


def crash(name: str) -> None:
    """Send SIGKILL to this process if `name` is armed; otherwise do nothing."""
    if _armed == name:
        os.kill(os.getpid(), signal.SIGKILL)
