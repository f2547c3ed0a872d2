"""A program that stores batches of present events as fast as it can, as one drain run would.

Each batch is one consumer transaction with its ledger; its time is what a producer's events wait.
"""

import time
from typing import Any, Final

from audit_platform.errors import AuditPlatformError
from tests.factories import event
from tests.integration.events.store import frame_of, open_writer
from tests.integration.retention.companion import options, report, say_ready

BATCH: Final = 200


def main() -> None:
    """Store until the test asks for the report."""
    given, end = options()
    writer = open_writer(given["url"], shard=given["shard"])
    writer.save(frame_of([event()]))
    waits: list[tuple[float, float]] = []
    failures: list[str] = []
    stored = other = 0
    say_ready()
    while not end.is_set():
        frame = frame_of(_events())
        began, began_at = time.monotonic(), time.time()
        try:
            counts = writer.save(frame)
        except AuditPlatformError as exc:
            failures.append(f"{type(exc).__name__}: {exc.message}")
            continue
        finally:
            waits.append((began_at, time.monotonic() - began))
        stored += counts.n_new
        other += counts.n_late + counts.n_bad + counts.n_dup
    report({"waits": waits, "failures": failures, "stored": stored, "other": other})


def _events() -> list[dict[str, Any]]:
    return [event(entity_id=str(number)) for number in range(BATCH)]


if __name__ == "__main__":
    main()
