"""The demo's applications: they log through the SDK, as README's first lines show.

Here: a web shop that lives through its told day in fast motion, and one that goes on in real
time. Not here: what people do in it (`traffic_catalogue.py`), the day's shape
(`traffic_schedule.py`), the process (`traffic_process.py`).
Guarantee: the history holds the id of every event that the client has taken; an application
whose client dropped one says so and fails.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import monotonic
from typing import Final, Self

from audit_platform.client import AuditClient
from audit_platform.errors import AuditPlatformError
from audit_platform.events.event import timestamp_us
from audit_platform.events.identity import TAIL_BITS, mint
from audit_platform.local.traffic.catalogue import Request, Step, draw_attack, draw_request
from audit_platform.local.traffic.history import History, Taken
from audit_platform.local.traffic.process import Queue, Signals
from audit_platform.local.traffic.schedule import SLOT, Slot, plan_slots
from audit_platform.settings import load_client_settings

# Half of the SDK's buffer: an application that must not lose slows down before events are shed.
_MOST_BUFFERED: Final = 5_000
_BREATH_S: Final = 0.01
_ATTACK_SHARE: Final = 0.3
_LIVE_EVENTS_PER_S: Final = 2.0


class Application:
    """One web application with its audit client and its history."""

    def __init__(self, name: str, queue: Queue, history_dir: Path, rng: Random) -> None:
        """Make the client as an application would, from settings."""
        self._rng = rng
        self._client = AuditClient(
            load_client_settings(
                redis_url=queue.redis_url,
                key_prefix=queue.key_prefix,
                shards=queue.shards,
                producer_name=name,
                app="shop",
                app_version="4.1.0",
                environment="demo",
            )
        )
        self._history = History(history_dir, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.close()
        self._history.close()

    def serve(self, request: Request, start: datetime, *, at_most: int) -> int:
        """Handle one request: log its steps inside one context; returns how many.

        Args:
            request: Who does what.
            start: Time of its first step.
            at_most: Steps beyond it are left out.
        """
        steps = request.steps[:at_most]
        with self._client.context(
            tenant_id=request.tenant_id,
            source=request.source,
            actor_type=request.actor_type,
            user_id=request.user_id,
            user_label=request.user_label,
            correlation_id=request.correlation_id,
            ip=request.ip,
            user_agent=request.user_agent,
            session_id=request.session_id,
        ):
            for step in steps:
                self._log(step, start + timedelta(microseconds=step.offset_us))
        return len(steps)

    def _log(self, step: Step, moment: datetime) -> None:
        # The client would mint the id itself; the history has to know it.
        event_id = mint(timestamp_us(moment), self._rng.getrandbits(TAIL_BITS))
        self._client.log(
            step.action,
            id=event_id,
            timestamp=moment,
            entity=step.entity,
            entity_label=step.entity_label,
            status=step.status,
            severity=step.severity,
            description=step.description,
            changes=step.changes,
            metadata=step.metadata,
        )
        self._history.note(Taken.GOOD, event_id)

    def close(self) -> None:
        """Send the rest and see that nothing was given up.

        Raises:
            AuditPlatformError: The client dropped or refused events.
        """
        self._client.close()
        stats = self._client.stats()
        if stats.dropped_total or stats.rejected_total:
            raise AuditPlatformError(
                f"{stats.dropped_total} events dropped, {stats.rejected_total} rejected: "
                f"{dict(stats.dropped)} {dict(stats.rejected)}. See the queue and its errors."
            )

    def breathe(self, signals: Signals) -> bool:
        """Wait while the buffer is half full; True when the application shall end."""
        while self._client.stats().buffered > _MOST_BUFFERED:
            if signals.wait(_BREATH_S):
                return True
        return False


def run_application(
    *,
    name: str,
    queue: Queue,
    history_dir: Path,
    event_count: int,
    since: datetime,
    until: datetime,
    pace_s: float,
    seed: int,
    signals: Signals,
) -> None:
    """Live through the told day: as many events as asked, in about `pace_s` real seconds."""
    rng = Random(seed)  # noqa: S311 - repeatable content, no secret
    slots = plan_slots(rng, event_count=event_count, since=since, until=until)
    began_s = monotonic()
    with Application(name, queue, history_dir, rng) as application:
        for number, slot in enumerate(slots):
            due_s = began_s + pace_s * number / len(slots)
            if signals.wait(due_s - monotonic()) or application.breathe(signals):
                return
            for request, start, at_most in _requests(slot, rng, until):
                signals.advance(application.serve(request, start, at_most=at_most))
        application.close()


def run_live(*, queue: Queue, history_dir: Path, seed: int, signals: Signals) -> None:
    """Go on in real time, a few events a second, until asked to end."""
    rng = Random(seed)  # noqa: S311 - repeatable content, no secret
    with Application("shop-live", queue, history_dir, rng) as application:
        while not signals.wait(rng.expovariate(_LIVE_EVENTS_PER_S)):
            request = draw_request(rng)
            signals.advance(
                application.serve(request, datetime.now(UTC), at_most=len(request.steps))
            )


def _requests(slot: Slot, rng: Random, until: datetime) -> Iterator[tuple[Request, datetime, int]]:
    """Draw the requests of one slot, with their start and the steps that still fit its count."""
    left = slot.event_count
    length_s = min(SLOT, until - slot.start).total_seconds()
    while left:
        is_attack = slot.is_burst and rng.random() < _ATTACK_SHARE
        request = draw_attack(rng) if is_attack else draw_request(rng)
        start = slot.start + timedelta(seconds=rng.uniform(0, length_s))
        yield request, start, left
        left -= min(left, len(request.steps))
