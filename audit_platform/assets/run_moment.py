"""The moment that a run takes for now: the clock, or what its config says.

Here: config and its reading. Not here: what is due then (`retention/`).
Guarantee: a moment without an offset is refused; nothing but a run's own config changes its clock.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from audit_platform.errors import InvalidQuery


class MomentConfig(dg.Config):
    """The moment of a run."""

    now: str = Field(
        default="",
        description="Moment that decides what is due, ISO 8601 with offset; empty: now. For tests.",
    )


def moment_of(config: MomentConfig) -> datetime:
    """Read the moment of a run; without one, the clock.

    Raises:
        InvalidQuery: It is no ISO 8601 moment with an offset.
    """
    if not config.now:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(config.now)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidQuery(
            f"now {config.now[:40]!a} is no moment: write it like 2026-12-01T02:00:00+00:00"
        )
    return moment


def clock_of(config: MomentConfig) -> Callable[[], datetime]:
    """Make the clock of a run that lasts: the given moment, standing still, or the real one.

    Raises:
        InvalidQuery: As `moment_of`.
    """
    if not config.now:
        return lambda: datetime.now(UTC)
    moment = moment_of(config)
    return lambda: moment
