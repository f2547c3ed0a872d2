"""A producer in this process, numbered events, and drains beside it until all is confirmed.

Here: for tests of one fault with a living producer. Not here: producers that are killed
(`producer_process.py`).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from audit_platform.client import AuditClient, Durability
from audit_platform.db.pool import connected
from audit_platform.errors import AuditPlatformError
from audit_platform.events.completeness import read_completeness
from audit_platform.events.drain import run_drain
from tests.chaos.harness.extent import amount
from tests.chaos.harness.traffic import seconds_until
from tests.integration.events.shard import Shard

BOTH_CLASSES = pytest.mark.parametrize(
    "durability", [Durability.STANDARD, Durability.DURABLE], ids=lambda one: one.value
)
"""The classes that lose nothing while the producer lives."""

CLASSES = pytest.mark.parametrize(
    "durability",
    amount([Durability.DURABLE], [Durability.STANDARD, Durability.DURABLE]),
    ids=lambda one: one.value,
)
"""The same in `make chaos`; `durable` alone within `make test`."""

_NUMBERS = "select entity_id from audit.event where entity_type = 'number'"


class Producer:
    """One client; every event carries its number as `entity_id`."""

    def __init__(self, client: AuditClient, durability: Durability) -> None:
        """Take a client over."""
        self.client, self._durability = client, durability
        self.accepted: set[str] = set()

    def log(self, count: int) -> None:
        """Log so many events; each that `log()` took is accepted."""
        for _ in range(count):
            number = str(len(self.accepted))
            self.client.log("user.suspend", entity=("number", number), durability=self._durability)
            self.accepted.add(number)

    def log_until(self, stop: threading.Event, *, pause_s: float = 0.005) -> None:
        """Log until told to stop; for a thread of its own."""
        while not stop.wait(pause_s):
            self.log(1)

    def check(
        self, shard: Shard, *, within_s: float = 60, missing: tuple[tuple[int, int], ...] = ()
    ) -> float:
        """Wait until everything accepted is stored; then lost 0, unexpected 0, duplicated 0.

        Args:
            shard: Where to look.
            within_s: Longest wait.
            missing: The gaps that the completeness report has to name, and no others.

        Returns:
            Seconds that it took.
        """
        seconds = seconds_until(
            lambda: self.accepted <= set(numbers(shard)),
            deadline_s=within_s,
            otherwise=lambda: (
                f"{len(self.accepted)} accepted, {len(numbers(shard))} stored, "
                f"stream {shard.redis.xlen(shard.key)}, {self.client.stats()}"
            ),
        )
        stored = numbers(shard)
        assert set(stored) == self.accepted
        assert len(stored) == len(self.accepted)
        # Ends and reports of the producer itself follow its events.
        seconds_until(
            lambda: gaps(shard) == missing,
            deadline_s=within_s,
            otherwise=lambda: f"gaps {gaps(shard)} instead of {missing}",
        )
        return seconds


def gaps(shard: Shard) -> tuple[tuple[int, int], ...]:
    """Missing numbers as the completeness report names them, over all producers."""
    url = shard.settings.database_url_of("maint")
    with connected(url, application="tests", role="audit_owner") as connection:
        report = read_completeness(connection, is_verified=True)
    assert not any(one.check and one.check.without_row for one in report.accounts)
    return tuple(range_ for account in report.accounts for range_ in account.missing)


def numbers(shard: Shard) -> list[str]:
    """Numbers of the stored events, with repeats if there were any."""
    return [row[0] for row in shard.rows(_NUMBERS)]


@contextmanager
def producing(
    url: str, shard: Shard, directory: Path, durability: Durability, **overrides: Any
) -> Iterator[Producer]:
    """A client with its spool in a directory of its own; closed without waiting at the end."""
    client = AuditClient.from_env(
        handle_sigterm=False,
        **{
            "redis_url": url,
            "key_prefix": shard.settings.key_prefix,
            "data_dir": directory,
            "producer_name": f"faults-{directory.name}",
            "redis_timeout_ms": 500,
            "resend_after_s": 1.0,
            **overrides,
        },
    )
    try:
        yield Producer(client, durability)
    finally:
        client.close(1)


@contextmanager
def draining(shard: Shard, **overrides: Any) -> Iterator[list[str]]:
    """Drain again and again beside the test, as the sensor would; yields errors of runs."""
    stop, errors = threading.Event(), list[str]()
    changes = {"drain_idle_s": 0.3, "drain_lifetime_s": 20, "postgres_answer_s": 2.0, **overrides}
    settings = shard.settings.model_copy(update=changes)

    def run() -> None:
        number = 0
        while not stop.is_set():
            dead, number = f"run-{number}", number + 1
            try:
                run_drain(
                    settings,
                    shard=0,
                    run_id=f"run-{number}",
                    dead_run_id=dead,
                    report=lambda _: None,
                )
            except AuditPlatformError as exc:
                # Such a run is a failed run in Dagster; the sensor starts the next one.
                errors.append(repr(exc))
                stop.wait(0.1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield errors
    finally:
        stop.set()
        thread.join(timeout=60)
        assert not thread.is_alive(), "a drain did not end"
